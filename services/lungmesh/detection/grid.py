"""The working grid of a detector: the lungs and what is around them, and its tiles."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from lungmesh.detection.family import Family, Hu, Shape, Tile, Triple

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

AIR_HU = -1000
# Lobe labels of each lung, as the proto numbers them.
_SIDES = ((1, 3), (4, 5))
# The grid reaches this far beyond the lungs, mm: context for what touches the pleura.
_MARGIN_MM = 24.0


@dataclass(frozen=True)
class WorkingGrid:
    """The CT around the lungs on another spacing; the HU are real everywhere.

    Attributes
    ----------
    hu
        int16 [z, y, x].
    sides
        uint8 [z, y, x]: 1 right lung, 2 left lung, 0 outside.
    mm
        Voxel edges, mm along [z, y, x].
    step
        Voxels of the CT in one voxel of this grid, along [z, y, x].
    start
        Index on the CT, [z, y, x], of the corner (not the centre) of voxel (0, 0, 0).
    """

    hu: Hu
    sides: Labels
    mm: Triple
    step: Triple
    start: Triple

    @property
    def shape(self) -> Shape:
        """Voxels along [z, y, x]."""
        z, y, x = self.hu.shape
        return z, y, x

    def to_full(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map index coordinates (…, 3) [z, y, x] of this grid to the CT's."""
        corner = np.asarray(index, float) + 0.5
        full: npt.NDArray[np.float64] = (
            corner * np.asarray(self.step) + np.asarray(self.start) - 0.5
        )
        return full


def working_grid(hu: Hu, lobes: Labels, spacing: Triple, mm: Triple) -> WorkingGrid | None:
    """Return the CT around the lungs on voxels of `mm`; None when there is no lung.

    Each axis is resampled linearly where the new voxels are smaller, and by a triangle as wide as
    two new voxels where they are larger, so that noise does not alias.

    Parameters
    ----------
    hu, lobes
        int16 and uint8 [z, y, x]: the CT, and the lobe's number in each voxel (0 outside).
    spacing
        mm along [z, y, x] of the CT.
    """
    boxes = ndimage.find_objects((lobes > 0).view(np.uint8))
    if not boxes:
        return None
    first, last = [], []
    for side, size, edge in zip(boxes[0], hu.shape, spacing, strict=True):
        margin = int(np.ceil(_MARGIN_MM / edge))
        first.append(max(0, side.start - margin))
        last.append(min(size, side.stop + margin))
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    step = (mm[0] / spacing[0], mm[1] / spacing[1], mm[2] / spacing[2])
    field: npt.NDArray[Any] = hu[box]
    # The axis that shrinks most goes first: the others then have less to do.
    for axis in sorted(range(3), key=lambda axis: -step[axis]):
        field = _along(_resampling(field.shape[axis], step[axis]), field, axis)
    nearest = [
        np.minimum(((np.arange(size) + 0.5) * by).astype(int), n - 1)
        for size, by, n in zip(field.shape, step, hu[box].shape, strict=True)
    ]
    labels = lobes[box][np.ix_(*nearest)]
    sides = np.zeros_like(labels)
    for number, (low, high) in enumerate(_SIDES, start=1):
        sides[(labels >= low) & (labels <= high)] = number
    return WorkingGrid(
        hu=np.rint(field).astype(np.int16),
        sides=sides,
        mm=mm,
        step=step,
        start=(float(first[0]), float(first[1]), float(first[2])),
    )


def tiles(grid: WorkingGrid, family: Family) -> list[Tile]:
    """Cut each lung into few large tiles; their cores hold every lung voxel and a margin.

    The margin is half of `family.multiple` voxels: a pleural nodule's centre may lie outside the
    mask. Cores begin at multiples of `family.multiple`. A lung's box is cut into equal pieces that
    fit a tile, and each piece is narrowed to what it holds of the lung.
    """
    multiple = family.multiple
    most = [(edge - 2 * family.halo) // multiple for edge in family.tile]
    found = []
    for number in range(1, len(_SIDES) + 1):
        near = _blocks(grid.sides == number, multiple)
        for piece in _pieces(near, most):
            inner = ndimage.find_objects(near[piece].view(np.uint8))
            if inner:
                found.append(_tile(grid, family, piece, inner[0]))
    return found


def _blocks(lung: Mask, edge: int) -> Mask:
    """Return which blocks of edge³ voxels hold lung or lie within half an edge of it."""
    half = edge // 2
    padded = np.pad(lung, [(0, -n % edge) for n in lung.shape])
    fine = _reduced(padded, half)
    return _reduced(ndimage.binary_dilation(fine, np.ones((3, 3, 3), bool)), edge // half)


def _reduced(mask: Mask, edge: int) -> Mask:
    z, y, x = (n // edge for n in mask.shape)
    out: Any = mask.reshape(z, edge, y, edge, x, edge).any(axis=(1, 3, 5))
    return np.asarray(out)


def _pieces(near: Mask, most: list[int]) -> list[tuple[slice, ...]]:
    """Cut the box of the marked blocks into equal pieces of at most `most` blocks."""
    boxes = ndimage.find_objects(near.view(np.uint8))
    if not boxes:
        return []
    cuts = []
    for side, limit in zip(boxes[0], most, strict=True):
        length = side.stop - side.start
        size = -(-length // -(-length // limit))
        cuts.append(
            [slice(at, min(at + size, side.stop)) for at in range(side.start, side.stop, size)]
        )
    return list(product(*cuts))


def _tile(
    grid: WorkingGrid, family: Family, piece: tuple[slice, ...], inner: tuple[slice, ...]
) -> Tile:
    start, size, core = [], [], []
    for outer, side, whole in zip(piece, inner, family.tile, strict=True):
        length = (side.stop - side.start) * family.multiple
        start.append((outer.start + side.start) * family.multiple - family.halo)
        size.append(whole if family.fixed else length + 2 * family.halo)
        core.append(slice(family.halo, family.halo + length))
    return Tile(
        hu=cut(grid.hu, start, size),
        start=(start[0], start[1], start[2]),
        core=(core[0], core[1], core[2]),
    )


def cut(hu: Hu, start: list[int], size: list[int]) -> Hu:
    """Return a block that begins at an index, air where it leaves the array."""
    low = [max(0, at) for at in start]
    high = [max(a, min(n, at + s)) for a, n, at, s in zip(low, hu.shape, start, size, strict=True)]
    out = np.full(size, AIR_HU, np.int16)
    inside = tuple(slice(a - at, b - at) for a, b, at in zip(low, high, start, strict=True))
    out[inside] = hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return out


def _resampling(size: int, step: float) -> sparse.csr_array:
    """Return the matrix that resamples an axis; its last voxel may reach beyond the axis."""
    count = max(1, int(np.ceil(size / step)))
    reach = max(1.0, step)
    centre = (np.arange(count) + 0.5) * step - 0.5
    width = int(np.ceil(reach)) + 1
    places = np.floor(centre)[:, None] + np.arange(-width, width + 1)
    weights = np.maximum(0.0, 1.0 - np.abs(places - centre[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    rows, taps = np.nonzero(weights)
    columns = np.clip(places[rows, taps], 0, size - 1).astype(int)
    return sparse.csr_array(
        (weights[rows, taps].astype(np.float32), (rows, columns)), shape=(count, size)
    )


def _along(weights: sparse.csr_array, array: npt.NDArray[Any], axis: int) -> Floats:
    moved = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(moved, np.float32).reshape(moved.shape[0], -1)
    out: Any = weights @ flat
    return np.moveaxis(out.reshape(-1, *moved.shape[1:]), 0, axis)
