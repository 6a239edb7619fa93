"""A finding as the proto's Nodule: measured, placed in the patient and in a lobe."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection import kind
from lungmesh.detection.detect import Finding
from lungmesh.detection.measure import (
    Axes,
    Border,
    mass_mg,
    measure_axes,
    measure_density,
    measure_volume,
    sphericity,
)
from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import nodule_pb2

Labels = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]
# The HU around a solid part: ground glass.
_GROUND_GLASS_HU = -600.0
_WHOLLY_SOLID = (
    nodule_pb2.NODULE_TYPE_SOLID,
    nodule_pb2.NODULE_TYPE_CALCIFIED,
    nodule_pb2.NODULE_TYPE_FAT_CONTAINING,
)


def nodule_message(
    finding: Finding, grid: Grid, lobes: Labels, solid_above_hu: float
) -> tuple[nodule_pb2.Nodule, Labels]:
    """Return the nodule without id, number, slice UID and mask reference, and its mask voxels.

    The mask is uint8 [z, y, x]: 0 outside, 1 nodule, 2 solid part of a subsolid nodule; its place
    in the volume is in the message.

    Parameters
    ----------
    lobes
        uint8 [z, y, x] on the full grid.
    """
    region = finding.region
    spacing = (grid.spacing[2], grid.spacing[1], grid.spacing[0])
    start = tuple(side.start for side in region.box)
    axes = measure_axes(region.mask, region.border, spacing)
    inner = ndimage.find_objects(region.mask.view(np.uint8))[0]
    voxels = region.mask[inner].astype(np.uint8)
    voxels[finding.solid[inner]] = 2
    first = [a + side.start for a, side in zip(start, inner, strict=True)]
    centre = np.argwhere(region.mask).mean(axis=0) + start
    corners = [
        [at - 0.5 + edge * size for at, size, edge in zip(first, voxels.shape, edges, strict=True)]
        for edges in product((0, 1), repeat=3)
    ]
    box = grid.to_lps(np.array(corners)[:, ::-1])
    nodule = nodule_pb2.Nodule(
        center_lps_mm=_rounded(grid.to_lps(centre[::-1])),
        bbox_lps_mm=_rounded([*box.min(axis=0), *box.max(axis=0)]),
        slice_index=int(axes.z + start[0]),
        mask=nodule_pb2.MaskRef(offset=first[::-1], size=voxels.shape[::-1]),
        measurement=_measurement(finding, grid, axes, spacing, start, solid_above_hu),
        type=finding.type,
        lobe=lobe_of(lobes, region.mask, region.box),
        detection_score=finding.score,
    )
    return nodule, voxels


def lobe_of(
    lobes: Labels, mask: npt.NDArray[np.bool_], box: tuple[slice, slice, slice]
) -> nodule_pb2.Lobe.ValueType:
    """Return the lobe that holds most of a mask, or the nearest one when none holds any.

    Raises ValueError when there is no lobe at all.
    """
    counts = np.bincount(lobes[box][mask], minlength=6)
    counts[0] = 0
    if counts.any():
        return nodule_pb2.Lobe.ValueType(int(counts.argmax()))
    places = np.argwhere(lobes)
    if not len(places):
        raise ValueError("a volume without lobes has no nodules")
    centre = np.argwhere(mask).mean(axis=0) + [side.start for side in box]
    nearest = places[int(((places - centre) ** 2).sum(axis=1).argmin())]
    return nodule_pb2.Lobe.ValueType(int(lobes[tuple(nearest)]))


def _measurement(
    finding: Finding,
    grid: Grid,
    axes: Axes,
    spacing: Triple,
    start: tuple[int, ...],
    solid_above_hu: float,
) -> nodule_pb2.Measurement:
    region = finding.region
    volume = measure_volume(region.mask, region.border, spacing)
    density = measure_density(region.mask, region.hu)

    def ends(points: tuple[Triple, Triple]) -> list[float]:
        return _rounded(grid.to_lps((np.array(points) + start)[:, ::-1]).ravel())

    out = nodule_pb2.Measurement(
        long_axis_mm=round(axes.long_mm, 3),
        short_axis_mm=round(axes.short_mm, 3),
        mean_diameter_mm=round(axes.mean_mm, 3),
        volume_mm3=round(volume, 2),
        mean_hu=round(density.mean, 2),
        hu_percentiles=_rounded(density.percentiles),
        mass_mg=round(mass_mg(volume, density.mean), 2),
        long_axis_lps_mm=ends(axes.long_ends),
        short_axis_lps_mm=ends(axes.short_ends),
        sphericity=round(sphericity(region.mask, region.border, spacing), 4),
    )
    if finding.type in _WHOLLY_SOLID:
        out.solid_mean_diameter_mm = out.mean_diameter_mm
        out.solid_long_axis_mm = out.long_axis_mm
        out.solid_volume_mm3 = out.volume_mm3
        out.consolidation_to_tumour_ratio = 1.0
    elif finding.solid.any():
        border = Border(kind.smoothed(region.hu, spacing), solid_above_hu, _GROUND_GLASS_HU)
        part = measure_axes(finding.solid, border, spacing)
        out.solid_mean_diameter_mm = round(part.mean_mm, 3)
        out.solid_long_axis_mm = round(part.long_mm, 3)
        out.solid_volume_mm3 = round(measure_volume(finding.solid, border, spacing), 2)
        out.consolidation_to_tumour_ratio = round(min(1.0, part.long_mm / axes.long_mm), 4)
    return out


def _rounded(values: npt.ArrayLike) -> list[float]:
    return [round(float(value), 3) for value in np.asarray(values, float)]
