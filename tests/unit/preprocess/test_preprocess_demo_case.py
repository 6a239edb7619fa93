"""Lungs and lobes of a real CT beside its organ map (TotalSegmentator's output, not a reader's)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from lungmesh.demo.case import organ_map, write_case
from lungmesh.mesh import Context
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.stage import run_stage
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stage import PreprocessStage
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.volume_pb2 import VolumeReady
from tests.support.mesh import require_embedded_wheels
from tests.support.preprocess import receive

# Label of the organ map, and what the README states less 0.01.
LOBES = {
    nodule_pb2.LOBE_RIGHT_UPPER: (12, 0.879),
    nodule_pb2.LOBE_RIGHT_MIDDLE: (13, 0.611),
    nodule_pb2.LOBE_RIGHT_LOWER: (14, 0.844),
    nodule_pb2.LOBE_LEFT_UPPER: (10, 0.921),
    nodule_pb2.LOBE_LEFT_LOWER: (11, 0.892),
}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.fixture(scope="module")
def lobes(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What preprocess makes of LIDC-IDRI-0001."""
    require_embedded_wheels()
    folder: Path = tmp_path_factory.mktemp("demo")
    write_case(folder / "dicom")
    blobs = BlobStore(f"file://{folder}/blobs")
    event = receive(blobs, sorted((folder / "dicom").iterdir()))
    stage = PreprocessStage(PreprocessSettings())
    (ready,) = asyncio.run(run_stage(stage, event, Context("event", blobs)))
    assert isinstance(ready, VolumeReady)
    return read_array(blobs, ready.volume.lobes)


def test_the_lungs_are_those_of_the_organ_map(lobes: np.ndarray) -> None:
    organs, _ = organ_map()
    assert dice(lobes > 0, (organs >= 10) & (organs <= 14)) > 0.97


@pytest.mark.parametrize("lobe", LOBES)
def test_each_lobe_overlaps_the_organ_maps_as_the_readme_states(
    lobes: np.ndarray, lobe: int
) -> None:
    organs, _ = organ_map()
    label, least = LOBES[lobe]  # type: ignore[index]
    assert dice(lobes == lobe, organs == label) > least
