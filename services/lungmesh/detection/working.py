"""Working grids: the lungs on cubic voxels of several sizes, cut into tiles for the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

Hu = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
# Aerated lung, where a scan shows none.
_LUNG_HU = -860.0


@dataclass(frozen=True)
class WorkingGrid:
    """The lungs on cubic voxels; what is outside them reads as aerated lung.

    Attributes
    ----------
    hu
        int16 [z, y, x].
    lungs
        Where the lungs reach, bool [z, y, x].
    voxel_mm
        Edge of a voxel.
    step
        Voxels of the full grid in one voxel of this grid, along [z, y, x].
    start
        Index on the full grid, [z, y, x], of the corner (not the centre) of voxel (0, 0, 0).
    """

    hu: Hu
    lungs: Mask
    voxel_mm: float
    step: tuple[float, float, float]
    start: tuple[float, float, float]

    def to_full(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map index coordinates (…, 3) [z, y, x] of this grid to the full grid."""
        corner = np.asarray(index, float) + 0.5
        full: npt.NDArray[np.float64] = (
            corner * np.asarray(self.step) + np.asarray(self.start) - 0.5
        )
        return full


@dataclass(frozen=True)
class Tile:
    """A cube of a working grid with a halo around its core.

    Attributes
    ----------
    hu
        int16 [tile, tile, tile].
    core
        Index [z, y, x] of the core's first voxel on the working grid.
    """

    hu: Hu
    core: tuple[int, int, int]


def working_grids(
    hu: Hu, lungs: Mask, spacing: tuple[float, float, float], voxel_mm: list[float]
) -> list[WorkingGrid]:
    """Return one working grid a voxel size.

    Parameters
    ----------
    hu, lungs
        int16 and bool [z, y, x] on the full grid.
    spacing
        mm along [z, y, x] of the full grid.
    voxel_mm
        Edges of the wanted voxels, each twice the one before.

    Empty when there is no lung.
    """
    boxes = ndimage.find_objects(lungs.view(np.uint8))
    if not boxes:
        return []
    box = boxes[0]
    inside = lungs[box]
    background = np.float32(lung_background(hu[box], inside))
    filled = np.where(inside, hu[box], background).astype(np.float32)
    share = inside.astype(np.float32)
    first = voxel_mm[0]
    step = (first / spacing[0], first / spacing[1], first / spacing[2])
    for axis in range(3):
        weights = _averaging(filled.shape[axis], step[axis])
        filled = _along(weights, filled, axis)
        share = _along(weights, share, axis)
    start = (float(box[0].start), float(box[1].start), float(box[2].start))
    grids = []
    for level, size in enumerate(voxel_mm):
        if level:
            if abs(size - 2 * voxel_mm[level - 1]) > 1e-6:
                raise ValueError("each working grid must be twice as coarse as the one before")
            filled = _halved(filled, background)
            share = _halved(share, np.float32(0))
        grids.append(
            WorkingGrid(
                hu=np.rint(filled).astype(np.int16),
                lungs=share > 0,
                voxel_mm=size,
                step=(step[0] * 2**level, step[1] * 2**level, step[2] * 2**level),
                start=start,
            )
        )
    return grids


def lung_background(hu: Hu, lungs: Mask) -> float:
    """Return the HU of the aerated lung: the median of lung voxels below -600."""
    aerated = hu[lungs & (hu < -600)]
    return float(np.median(aerated)) if aerated.size else _LUNG_HU


def tiles(grid: WorkingGrid, tile: int, halo: int) -> Iterator[Tile]:
    """Cut a working grid into tiles whose cores cover every lung voxel, in order.

    What a tile shows beyond the grid reads as the grid's own edge: aerated lung.
    """
    core = tile - 2 * halo
    for z in range(0, grid.hu.shape[0], core):
        for y in range(0, grid.hu.shape[1], core):
            for x in range(0, grid.hu.shape[2], core):
                if grid.lungs[z : z + core, y : y + core, x : x + core].any():
                    yield Tile(_cut(grid.hu, (z - halo, y - halo, x - halo), tile), (z, y, x))


def _cut(hu: Hu, start: tuple[int, int, int], size: int) -> Hu:
    low = [max(0, at) for at in start]
    high = [min(n, at + size) for n, at in zip(hu.shape, start, strict=True)]
    inside = hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    pad = [(first - at, at + size - last) for at, first, last in zip(start, low, high, strict=True)]
    return np.ascontiguousarray(np.pad(inside, pad, mode="edge"))


def _averaging(size: int, step: float) -> sparse.csr_array:
    """Return the matrix that resamples an axis: linear, or a triangle that averages when coarser.

    The last output voxel may reach beyond the axis, so that nothing is lost.
    """
    count = max(1, int(np.ceil(size / step)))
    reach = max(1.0, step)
    rows, columns, values = [], [], []
    for row in range(count):
        centre = (row + 0.5) * step - 0.5
        places = np.arange(int(np.floor(centre - reach)), int(np.ceil(centre + reach)) + 1)
        weights = np.maximum(0.0, 1.0 - np.abs(places - centre) / reach)
        rows.append(np.full(places.size, row))
        columns.append(np.clip(places, 0, size - 1))
        values.append(weights / weights.sum())
    return sparse.csr_array(
        (
            np.concatenate(values).astype(np.float32),
            (np.concatenate(rows), np.concatenate(columns)),
        ),
        shape=(count, size),
    )


def _along(weights: sparse.csr_array, array: Floats, axis: int) -> Floats:
    moved = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    out: Any = weights @ flat
    return np.moveaxis(out.reshape(-1, *moved.shape[1:]), 0, axis)


def _halved(array: Floats, outside: np.float32) -> Floats:
    """Average 2 x 2 x 2 voxels into one, with a value beyond the last voxel of an odd axis."""
    padded = np.pad(array, [(0, n % 2) for n in array.shape], constant_values=outside)
    z, y, x = (n // 2 for n in padded.shape)
    out: Floats = padded.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    return out
