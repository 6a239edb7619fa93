"""The shipped networks on a real Triton: the embedded server and a real CT."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import ndimage

from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.stage import DetectionStage
from lungmesh.mesh import Context
from lungmesh.mesh.arrays import read_array, write_array
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.stage import run_stage
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import NodulesDetected
from tests.support.mesh import require_embedded_wheels
from tests.support.report import Case, read_case
from tests.support.triton import running_triton

READERS_CENTER = (56.2, 86.2, -115.9)
READERS_DIAMETER_MM = 29.6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require_embedded_wheels()
    with running_triton(tmp_path_factory.mktemp("triton")) as address:
        yield address


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """LIDC-IDRI-0001, 2 x 2 pixels averaged, read by the real preprocess stage."""
    require_embedded_wheels()
    return read_case(tmp_path_factory.mktemp("case"), "detection", keep_every=1)


def detect(case: Case, address: str) -> NodulesDetected:
    stage = DetectionStage(DetectionSettings(triton=address))
    (event,) = asyncio.run(run_stage(stage, case.ready, Context("event", case.blobs)))
    assert isinstance(event, NodulesDetected)
    return event


def nearest(event: NodulesDetected, center: tuple[float, float, float]) -> nodule_pb2.Nodule:
    return min(
        event.nodules,
        key=lambda n: float(np.linalg.norm(np.subtract(n.center_lps_mm, center))),
    )


@pytest.fixture(scope="module")
def found(case: Case, server: str) -> NodulesDetected:
    return detect(case, server)


def test_the_readers_nodule_is_found_where_and_as_large_as_they_say(
    found: NodulesDetected,
) -> None:
    nodule = nearest(found, READERS_CENTER)
    assert np.linalg.norm(np.subtract(nodule.center_lps_mm, READERS_CENTER)) < 5
    assert nodule.measurement.mean_diameter_mm == pytest.approx(READERS_DIAMETER_MM, rel=0.25)
    assert nodule.lobe == nodule_pb2.LOBE_LEFT_LOWER
    assert nodule.type == nodule_pb2.NODULE_TYPE_SOLID
    assert nodule.detector.name == "nodule_detector"


def test_the_same_volume_gives_the_same_bytes(
    found: NodulesDetected, case: Case, server: str
) -> None:
    assert detect(case, server).SerializeToString(deterministic=True) == found.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize(("diameter", "hu"), [(8.0, 40), (14.0, 40), (20.0, -600)])
def test_a_simulated_ball_in_the_real_lung_is_found_and_measured(
    case: Case, server: str, diameter: float, hu: int
) -> None:
    """Simulated: a blurred ball put into the right lung of LIDC-IDRI-0001."""
    volume = case.ready.volume
    grid = Grid.from_proto(volume.geometry)
    lobes = read_array(case.blobs, volume.lobes)
    image = read_array(case.blobs, volume.hu)
    center = _free_place(image, lobes, grid)
    axes = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    away = np.linalg.norm(grid.to_lps(np.stack(axes[::-1], axis=-1)) - center, axis=-1)
    # About as sharp as the scanner's kernel.
    share = 1 / (1 + np.exp(np.minimum((away - diameter / 2) / 0.35, 50)))
    changed = np.rint(image + (hu - image) * share).astype(np.int16)
    simulated = Case(case.blobs, type(case.ready).FromString(case.ready.SerializeToString()))
    key = f"{volume.hu.key}-{diameter:g}-{hu}"
    simulated.ready.volume.hu.CopyFrom(write_array(case.blobs, key, changed))
    nodule = nearest(detect(simulated, server), center)
    assert np.linalg.norm(np.subtract(nodule.center_lps_mm, center)) < 3
    assert nodule.measurement.mean_diameter_mm == pytest.approx(diameter, abs=2.0)
    expected = nodule_pb2.NODULE_TYPE_NON_SOLID if hu < -300 else nodule_pb2.NODULE_TYPE_SOLID
    assert nodule.type == expected


def _free_place(image: np.ndarray, lobes: np.ndarray, grid: Grid) -> tuple[float, float, float]:
    """Return the place in the right lung that is farthest from vessels and walls, LPS mm."""
    z, y, x = np.nonzero(np.isin(lobes, (1, 2, 3)))
    box = tuple(slice(part.min(), part.max() + 1) for part in (z, y, x))
    free = np.isin(lobes[box], (1, 2, 3)) & (image[box] < -650)
    depth = ndimage.distance_transform_edt(free, sampling=grid.spacing[::-1])
    best = np.unravel_index(int(depth.argmax()), depth.shape)
    index = [at + part.start for at, part in zip(best, box, strict=True)]
    lps = grid.to_lps(index[::-1])
    return float(lps[0]), float(lps[1]), float(lps[2])
