"""From a candidate's region to a measured finding on the CT's own grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection import kind
from lungmesh.detection.family import Hu, Triple
from lungmesh.detection.finding import Finding, Size
from lungmesh.detection.measure import Border, measure_axes, measure_density, sphericity
from lungmesh.detection.reducer import Judged
from lungmesh.detection.region import LEVEL, Region, on_grid
from lungmesh.v1 import nodule_pb2

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

# A ball of 2 mm, mm³: a smaller solid part in ground glass cannot be told from a vessel.
_LEAST_SOLID_MM3 = 4.2
_WHOLLY_SOLID = (
    nodule_pb2.NODULE_TYPE_SOLID,
    nodule_pb2.NODULE_TYPE_CALCIFIED,
    nodule_pb2.NODULE_TYPE_FAT_CONTAINING,
)


def describe(judged: Judged, region: Region, hu: Hu, spacing: Triple) -> Finding:
    """Type and measure a region.

    Sizes are taken on the region's own voxels, whose axial planes are parallel to the CT's and lie
    closer, so that thick slices do not hide the widest one; ends are drawn on the nearest slice.

    Parameters
    ----------
    hu
        int16 [z, y, x], the CT.
    spacing
        mm along [z, y, x] of the CT.
    """
    cubic = (region.mm, region.mm, region.mm)
    border = Border(region.share, region.level)
    core = solid_core(region)
    solid_mm3 = region.solid_volume_mm3
    type_ = kind.classify(
        judged.kinds,
        solid_mm3 / region.volume_mm3,
        bool(core.any()),
        region.hu.astype(np.float32),
        region.mask,
        cubic,
    )
    whole = _size(region, region.mask, border, region.volume_mm3, hu.shape, spacing)
    solid = whole if type_ in _WHOLLY_SOLID else None
    if type_ == nodule_pb2.NODULE_TYPE_PART_SOLID:
        solid = _size(region, core, Border(region.solid, LEVEL), solid_mm3, hu.shape, spacing)
    else:
        core = np.zeros_like(core)
    labels, start = _labels(region, core, hu.shape, spacing)
    part = hu[tuple(slice(at, at + size) for at, size in zip(start, labels.shape, strict=True))]
    return Finding(
        score=judged.candidate.score,
        type=type_,
        centre=region.centre(spacing),
        slice_index=int(whole.long_ends[0][0]),
        labels=labels,
        start=start,
        whole=whole,
        solid=solid,
        density=measure_density(labels > 0, part.astype(np.float32)),
        sphericity=sphericity(region.mask, border, cubic),
    )


def solid_core(region: Region) -> Mask:
    """Return the largest piece of the region that is solid; nothing where it is too small."""
    labels, count = ndimage.label(region.mask & (region.solid >= LEVEL))
    if not count or region.solid_volume_mm3 < _LEAST_SOLID_MM3:
        return np.zeros_like(region.mask)
    largest: Mask = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return largest


def _size(
    region: Region,
    mask: Mask,
    border: Border,
    volume_mm3: float,
    shape: tuple[int, ...],
    spacing: Triple,
) -> Size:
    axes = measure_axes(mask, border, (region.mm, region.mm, region.mm))

    def ends(points: tuple[Triple, Triple]) -> tuple[Triple, Triple]:
        (one, other) = (region.to_full(point, spacing) for point in points)
        z = float(np.clip(np.rint(one[0]), 0, shape[0] - 1))
        return (z, float(one[1]), float(one[2])), (z, float(other[1]), float(other[2]))

    return Size(
        long_mm=axes.long_mm,
        short_mm=axes.short_mm,
        long_ends=ends(axes.long_ends),
        short_ends=ends(axes.short_ends),
        volume_mm3=volume_mm3,
    )


def _labels(
    region: Region, core: Mask, shape: tuple[int, ...], spacing: Triple
) -> tuple[Labels, tuple[int, int, int]]:
    """Return the tight label box on the CT's grid, and its first voxel's index."""
    share, start = on_grid(region, region.share, shape, spacing)
    # A nodule smaller than a voxel still has one.
    mask = share >= min(region.level, float(share.max()))
    labels = mask.astype(np.uint8)
    if core.any():
        solid, _ = on_grid(region, np.where(core, region.solid, 0), shape, spacing)
        labels[mask & (solid >= LEVEL)] = 2
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    z, y, x = (at + side.start for at, side in zip(start, box, strict=True))
    return labels[box], (z, y, x)
