"""How many simulated nodules of each size and type are found, and how they are measured.

Simulated: blurred balls at random places, some at a time, in the real lungs of LIDC-IDRI-0001. Real
nodules are no balls and often touch vessels, so this is an upper bound. Real stages, real Triton.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.demo.case import write_case
from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.stage import DetectionStage
from lungmesh.mesh import Context
from lungmesh.mesh.arrays import read_array, write_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.stage import run_stage
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stage import PreprocessStage
from lungmesh.v1.nodule_pb2 import (
    NODULE_TYPE_NON_SOLID,
    NODULE_TYPE_SOLID,
    NodulesDetected,
    NoduleType,
)
from lungmesh.v1.volume_pb2 import VolumeReady
from tests.support.preprocess import receive
from tests.support.triton import running_triton

KINDS = {
    "solid": (20, NODULE_TYPE_SOLID, (4, 5, 6, 8, 10, 15, 20)),
    "non-solid": (-620, NODULE_TYPE_NON_SOLID, (6, 8, 10, 15, 20)),
}
ROUNDS = 6
# Free lung between two of them, mm.
APART_MM = 25.0
# Sigma of a chest CT's blur, mm.
BLUR_MM = 0.6
Voxels = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]


def put_balls(
    image: Voxels,
    lungs: npt.NDArray[np.bool_],
    grid: Grid,
    diameters: Sequence[float],
    hu: float,
    seed: int,
) -> tuple[Voxels, list[Floats]]:
    """Return the image with the balls, and their centres, LPS mm."""
    random = np.random.default_rng(seed)
    spacing = np.array(grid.spacing[::-1])
    depth = ndimage.distance_transform_edt(lungs, sampling=spacing)
    out = image.astype(np.float32)
    places: list[Floats] = []
    for diameter in diameters:
        free = np.argwhere(depth > diameter / 2 + 1)
        while True:
            place = free[random.integers(len(free))] + random.uniform(-0.5, 0.5, 3)
            far = [
                np.linalg.norm((place - other) * spacing) > diameter + APART_MM for other in places
            ]
            if all(far):
                break
        places.append(place)
        low = np.floor(place - diameter / spacing).astype(int)
        high = np.ceil(place + diameter / spacing).astype(int) + 1
        box = tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))
        share = _share(out[box].shape, box, place, diameter, spacing)
        # What is brighter than the ball, such as a vessel in ground glass, stays.
        out[box] += share * np.maximum(hu - out[box], 0)
    centers = [grid.to_lps(place[::-1]) for place in places]
    return np.rint(out).astype(np.int16), centers


def _share(
    shape: tuple[int, ...], box: tuple[slice, ...], place: Floats, diameter: float, spacing: Floats
) -> npt.NDArray[np.float32]:
    fine = 3
    steps = [
        ((np.arange(n * fine) + 0.5) / fine - 0.5 + side.start - at) * mm
        for n, side, at, mm in zip(shape, box, place, spacing, strict=True)
    ]
    z, y, x = np.meshgrid(*steps, indexing="ij", sparse=True)
    inside = z**2 + y**2 + x**2 <= (diameter / 2) ** 2
    blocks = [part for n in shape for part in (n, fine)]
    share = inside.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    blurred: npt.NDArray[np.float32] = ndimage.gaussian_filter(share, BLUR_MM / spacing)
    return blurred


def measured(
    event: NodulesDetected, center: Floats, diameter: float, expected: NoduleType.ValueType
) -> tuple[float, float, float] | None:
    """Return type right (1) or wrong (0), error of the diameter in mm and of the volume as a share.

    None when no nodule has its centre inside the ball.
    """
    for nodule in event.nodules:
        if np.linalg.norm(np.subtract(nodule.center_lps_mm, center)) < diameter / 2:
            size = nodule.measurement
            return (
                float(nodule.type == expected),
                size.mean_diameter_mm - diameter,
                size.volume_mm3 / (np.pi / 6 * diameter**3) - 1,
            )
    return None


def prepare(root: Path, blobs: BlobStore) -> VolumeReady:
    """Have the real preprocess stage read LIDC-IDRI-0001."""
    write_case(root / "dicom")
    received = receive(blobs, sorted((root / "dicom").iterdir()))
    (ready,) = asyncio.run(
        run_stage(PreprocessStage(PreprocessSettings()), received, Context("event", blobs))
    )
    assert isinstance(ready, VolumeReady)
    return ready


def main() -> None:
    """Print a row a type and size."""
    with tempfile.TemporaryDirectory() as folder, running_triton(Path(folder) / "triton") as triton:
        blobs = BlobStore(f"file://{folder}/blobs")
        ready = prepare(Path(folder), blobs)
        grid = Grid.from_proto(ready.volume.geometry)
        image = read_array(blobs, ready.volume.hu)
        lungs = read_array(blobs, ready.volume.lobes) > 0
        stage = DetectionStage(DetectionSettings(triton=triton, most_nodules=100))
        print(
            f"simulated balls in LIDC-IDRI-0001, {ROUNDS} of each; errors: medians of those found"
        )
        print("type       mm   found   right type   diameter error   volume error")
        for kind, (hu, expected, diameters) in KINDS.items():
            rows: dict[float, list[tuple[float, float, float]]] = defaultdict(list)
            for seed in range(ROUNDS):
                changed, centers = put_balls(image, lungs, grid, diameters, hu, seed)
                ready.volume.hu.CopyFrom(write_array(blobs, ready.volume.hu.key, changed))
                (event,) = asyncio.run(run_stage(stage, ready, Context("event", blobs)))
                assert isinstance(event, NodulesDetected)
                for diameter, center in zip(diameters, centers, strict=True):
                    row = measured(event, center, diameter, expected)
                    if row is not None:
                        rows[diameter].append(row)
            for diameter in diameters:
                found = rows[diameter]
                print(f"{kind:<9} {diameter:>3}   {len(found):>2}/{ROUNDS}  ", end="")
                if found:
                    typed, wide, large = np.array(found).T
                    print(f"{typed.sum():>11.0f} {np.median(wide):>+13.1f} mm ", end="")
                    print(f"{np.median(large):>+13.0%}", end="")
                print(flush=True)


if __name__ == "__main__":
    main()
