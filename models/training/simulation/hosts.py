"""Lungs to put nodules into: two real ones, and lungs made by varying them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.training.simulation.degrade import measured_noise
from models.training.simulation.lidc import CACHE, RealScan, read_annotations, real_scans
from models.training.simulation.plant import Profile

Hu = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]
Triple = tuple[float, float, float]
# Around what readers marked: neither a hit nor a miss, and nothing is planted there.
_IGNORE_MM = 5.0
# Marks of less than 3 mm that LIDC's XML holds for the two scans: z in mm, row, column.
_SMALL_MARKS = {
    "LIDC-IDRI-0001": ((-150.0, 166, 188), (-175.0, 272, 403), (-175.0, 316, 392)),
    "LIDC-IDRI-0002": (
        (-100.75, 271, 103),
        (-55.75, 325, 197),
        (-69.5, 296, 132),
        (-70.5, 264, 142),
        (-80.75, 284, 124),
        (-87.0, 258, 113),
        (-87.0, 235, 125),
        (-89.5, 297, 412),
        (-89.0, 306, 118),
        (-188.25, 307, 101),
        (-194.0, 159, 100),
    ),
}
# Room around the lungs, mm.
_MARGIN_MM = 14.0
# Seeds of varied lungs: training, the detector's own validation, scans to choose thresholds on, and
# the referee's test scans.
TRAIN_SEEDS = range(0, 6)
VALIDATION_SEEDS = range(100, 101)
CHOICE_SEEDS = range(120, 130)
TEST_SEEDS = range(200, 260)
# What is kept of a varied host beside its numbers.
_ARRAYS = ("hu", "lungs", "ignore")


@dataclass(frozen=True)
class Host:
    """A CT to put nodules into.

    Attributes
    ----------
    hu, lungs, ignore
        int16, bool, bool [z, y, x]: the CT, its closed lungs, and what readers marked there.
    spacing
        mm along [z, y, x].
    slice_mm
        Thickness of the slices that it was made from.
    noise_hu
        Standard deviation of its noise in soft tissue.
    """

    name: str
    hu: Hu
    lungs: Mask
    ignore: Mask
    spacing: Triple
    slice_mm: float
    noise_hu: float

    def profile(self, sigma_mm: float = 0.6) -> Profile:
        """Return how a nodule is blurred in it; `sigma_mm` is the blur in the plane."""
        # A slice averages a box; what interpolation between slices adds is a triangle.
        averaged = self.slice_mm**2 / 12
        if self.spacing[0] < 0.8 * self.slice_mm:
            averaged += self.slice_mm**2 / 6
        else:
            averaged = 0.15**2
        return Profile((float(np.sqrt(averaged)), sigma_mm, sigma_mm), self.noise_hu)


@cache
def real_hosts() -> tuple[Host, ...]:
    """Return the real scans with their lungs, on their own grids; unpacked once a process."""
    hosts = []
    for scan in real_scans():
        path = CACHE / f"host-{scan.patient}.npz"
        if path.is_file():
            with np.load(path) as data:
                lungs, ignore = data["lungs"], data["ignore"]
        else:
            lungs, ignore = _lungs(scan), _marked(scan)
            CACHE.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, lungs=lungs, ignore=ignore)
        noise_hu = measured_noise(scan.hu, scan.spacing, lungs).tissue_hu
        hosts.append(
            Host(scan.patient, scan.hu, lungs, ignore, scan.spacing, scan.spacing[0], noise_hu)
        )
    return tuple(hosts)


def varied(host: Host, seed: int, spacing: Triple = (1.0, 1.0, 1.0)) -> Host:
    """Return the lungs of a host bent, stretched and perhaps mirrored, on a new grid.

    Parameters
    ----------
    spacing
        mm along [z, y, x] of the new grid, which holds the lungs and a margin.

    Vessels and airways are kept: one smooth map moves everything.
    """
    random = np.random.default_rng(seed)
    box = ndimage.find_objects(host.lungs.view(np.uint8))[0]
    old = np.array(host.spacing)
    low = np.array([s.start for s in box]) * old - _MARGIN_MM
    high = np.array([s.stop for s in box]) * old + _MARGIN_MM
    stretch = random.uniform(0.88, 1.14, 3)
    size = np.ceil((high - low) * stretch / spacing).astype(int)
    size += -size % 8
    middle = (low + high) / 2
    # Two scales of bending: the chest as a whole, and between neighbouring vessels.
    bends = [(45.0, random.uniform(2.0, 6.0)), (18.0, random.uniform(0.5, 2.0))]
    shifts = [
        sum(
            (_field(size, spacing, every, random) * amount for every, amount in bends),
            start=np.zeros(size, np.float32),
        )
        for _ in range(3)
    ]
    mirror = random.random() < 0.5
    places = np.empty((3, *size), np.float32)
    for axis in range(3):
        line = ((np.arange(size[axis]) + 0.5 - size[axis] / 2) * spacing[axis]) / stretch[axis]
        if axis == 2 and mirror:
            line = -line
        shape = [1, 1, 1]
        shape[axis] = size[axis]
        places[axis] = (line.reshape(shape) + shifts[axis] + middle[axis]) / old[axis]
    hu = np.empty(size, np.int16)
    lungs = np.empty(size, bool)
    ignore = np.empty(size, bool)
    source = host.hu.astype(np.float32)
    shade = random.normal(0, 12)
    for start in range(0, size[0], 32):
        part = slice(start, start + 32)
        at = places[:, part]
        values = ndimage.map_coordinates(source, at, order=1, mode="constant", cval=-1000)
        near = np.rint(at)
        lungs[part] = ndimage.map_coordinates(host.lungs, near, order=0, mode="constant", cval=0)
        ignore[part] = ndimage.map_coordinates(host.ignore, near, order=0, mode="constant", cval=0)
        # Air content differs between people and breaths.
        values += np.where(lungs[part] & (values < -500), shade, 0)
        hu[part] = np.clip(np.rint(values), -1024, 3071)
    return replace(
        host,
        name=f"{host.name}~{seed}",
        hu=hu,
        lungs=lungs,
        ignore=ignore,
        spacing=spacing,
        slice_mm=float(host.slice_mm * stretch[0]),
    )


def _field(
    size: npt.NDArray[np.int64], spacing: Triple, every_mm: float, random: np.random.Generator
) -> Image:
    count = np.maximum(4, np.ceil(size * np.array(spacing) / every_mm).astype(int) + 3)
    coarse = random.standard_normal(count).astype(np.float32)
    step = (count - 3) / size
    out: Image = ndimage.affine_transform(
        coarse, step, offset=1.0, output_shape=tuple(size), order=3, mode="nearest"
    )
    return out


def _lungs(scan: RealScan) -> Mask:
    from lungmesh.mesh.geometry import Grid
    from lungmesh.preprocess.coarse import coarsen
    from lungmesh.preprocess.lungs import find_lungs

    z, y, x = scan.hu.shape
    grid = Grid(
        size=(x, y, z),
        spacing=scan.spacing[::-1],
        origin=(0.0, 0.0, scan.origin_z),
        direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    coarse = coarsen(scan.hu, grid)
    return coarse.to_full(find_lungs(coarse)) > 0


def _marked(scan: RealScan) -> Mask:
    """Return what any reader marked, of any size, with a rim."""
    away = np.ones(scan.hu.shape, bool)
    for found in read_annotations(scan.patient):
        for one in found:
            away[one.box(scan.origin_z)] &= ~one.mask
    for z_mm, row, column in _SMALL_MARKS.get(scan.patient, ()):
        away[round((z_mm - scan.origin_z) / scan.spacing[0]), row, column] = False
    near: Mask = ndimage.distance_transform_edt(away, sampling=scan.spacing) <= _IGNORE_MM
    return near


def cached_lungs(seeds: range) -> list[Host]:
    """Return each real host varied by each seed on voxels of 1 mm; made once, read mapped."""
    cubic = (1.0, 1.0, 1.0)
    return [kept_variant(host, seed, cubic) for host in real_hosts() for seed in seeds]


def kept_variant(host: Host, seed: int, spacing: Triple) -> Host:
    """Return `varied`, from the cache where it was made before."""
    kind = "varied" if spacing == (1.0, 1.0, 1.0) else "native"
    folder = CACHE / f"{kind}-{host.name}-{seed}"
    if not (folder / "done").is_file():
        _keep(varied(host, seed, spacing), folder)
    slice_mm, noise_hu = np.loadtxt(folder / "done")
    hu, lungs, ignore = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    name = f"{host.name}~{seed}"
    return Host(name, hu, lungs, ignore, spacing, float(slice_mm), float(noise_hu))


def _keep(host: Host, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(host, name))
    np.savetxt(folder / "done", [host.slice_mm, host.noise_hu])
