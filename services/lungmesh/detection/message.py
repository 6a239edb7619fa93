"""A finding as the proto's Nodule: placed in the patient and in a lobe."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from lungmesh.detection.finding import Finding
from lungmesh.detection.measure import mass_mg
from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import nodule_pb2

Labels = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]


def nodule_message(finding: Finding, grid: Grid, lobes: Labels) -> nodule_pb2.Nodule:
    """Return the nodule without id, number, slice UID and mask reference.

    Parameters
    ----------
    lobes
        uint8 [z, y, x] on the full grid.
    """
    shape = finding.labels.shape
    corners = [
        [at - 0.5 + edge * size for at, size, edge in zip(finding.start, shape, edges, strict=True)]
        for edges in product((0, 1), repeat=3)
    ]
    box = grid.to_lps(np.array(corners)[:, ::-1])
    return nodule_pb2.Nodule(
        center_lps_mm=_rounded(grid.to_lps(finding.centre[::-1])),
        bbox_lps_mm=_rounded([*box.min(axis=0), *box.max(axis=0)]),
        slice_index=finding.slice_index,
        mask=nodule_pb2.MaskRef(offset=finding.start[::-1], size=shape[::-1]),
        measurement=_measurement(finding, grid),
        type=finding.type,
        lobe=lobe_of(lobes, finding.labels > 0, finding.start),
        detection_score=finding.score,
    )


def lobe_of(
    lobes: Labels, mask: npt.NDArray[np.bool_], start: tuple[int, int, int]
) -> nodule_pb2.Lobe.ValueType:
    """Return the lobe that holds most of a mask, or the nearest one when none holds any.

    Parameters
    ----------
    start
        Index [z, y, x] of the mask's first voxel.

    Raises ValueError when there is no lobe at all.
    """
    box = tuple(slice(at, at + size) for at, size in zip(start, mask.shape, strict=True))
    counts = np.bincount(lobes[box][mask], minlength=6)
    counts[0] = 0
    if counts.any():
        return nodule_pb2.Lobe.ValueType(int(counts.argmax()))
    places = np.argwhere(lobes)
    if not len(places):
        raise ValueError("a volume without lobes has no nodules")
    centre = np.argwhere(mask).mean(axis=0) + start
    nearest = places[int(((places - centre) ** 2).sum(axis=1).argmin())]
    return nodule_pb2.Lobe.ValueType(int(lobes[tuple(nearest)]))


def _measurement(finding: Finding, grid: Grid) -> nodule_pb2.Measurement:
    whole, solid, density = finding.whole, finding.solid, finding.density

    def ends(points: tuple[Triple, Triple]) -> list[float]:
        return _rounded(grid.to_lps(np.array(points)[:, ::-1]).ravel())

    out = nodule_pb2.Measurement(
        long_axis_mm=round(whole.long_mm, 3),
        short_axis_mm=round(whole.short_mm, 3),
        mean_diameter_mm=round(whole.mean_mm, 3),
        volume_mm3=round(whole.volume_mm3, 2),
        mean_hu=round(density.mean, 2),
        hu_percentiles=_rounded(density.percentiles),
        mass_mg=round(mass_mg(whole.volume_mm3, density.mean), 2),
        long_axis_lps_mm=ends(whole.long_ends),
        short_axis_lps_mm=ends(whole.short_ends),
        sphericity=round(finding.sphericity, 4),
    )
    if solid is not None:
        out.solid_mean_diameter_mm = round(solid.mean_mm, 3)
        out.solid_long_axis_mm = round(solid.long_mm, 3)
        out.solid_volume_mm3 = round(solid.volume_mm3, 2)
        out.consolidation_to_tumour_ratio = round(min(1.0, solid.long_mm / whole.long_mm), 4)
    return out


def _rounded(values: npt.ArrayLike) -> list[float]:
    return [round(float(value), 3) for value in np.asarray(values, float)]
