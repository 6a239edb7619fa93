"""Whether another exam shows something like a nodule at its place, though nothing was found there.

A nodule that detection missed in one of two exams is called new or resolved. So the tissue at its
place is looked at: where the surroundings fit best, how well do they fit, how dense is the middle?
On 104 simulated nodules that were there 83 % were seen so (of those below 10 mm 98 %), of 22 that
were not there none, and at 700 other places of the lungs, vessels and walls among them, 0.8 %.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.followup.exam import Exam

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
# Surroundings are compared on voxels of 1 mm, up to this far beyond the nodule's edge, mm.
_EDGE_MM, _LEAST_RADIUS_MM = 2.5, 4.0
# A place that was laid over may be off by this much, mm.
_OFF_MM = 4
_SHIFTS = [
    shift
    for shift in product(range(2 * _OFF_MM + 1), repeat=3)
    if sum((step - _OFF_MM) ** 2 for step in shift) <= _OFF_MM**2
]
# The middle of the nodule whose density is compared: this share of its diameter around its centre.
_CORE_SHARE, _LEAST_CORE_MM = 0.35, 1.0
# Noise of single voxels is smoothed away by this much, mm.
_SMOOTHING_MM = 0.6
_AIR_HU, _BONE_HU = -1000.0, 200.0
# Aerated lung with its small vessels.
_LUNG_HU = -880.0
# Less dense than this nothing stands out of the lung.
_LEAST_CONTRAST_HU = 60.0
# From this correlation of the surroundings and this share of the nodule's density on it is there.
_LEAST_LIKENESS, _LEAST_DENSITY = 0.6, 0.65


def shows(
    other: Exam, place: npt.ArrayLike, exam: Exam, center: npt.ArrayLike, diameter_mm: float
) -> bool:
    """Return whether an exam shows at a place what another exam has as a nodule.

    False where one of them has no voxels, or the nodule hardly stands out of the lung.

    Parameters
    ----------
    place
        Where the nodule lies in `other`, LPS mm.
    center
        Of the nodule in `exam`, its own, LPS mm.
    """
    radius = max(_LEAST_RADIUS_MM, diameter_mm / 2 + _EDGE_MM)
    own, around = _cube(exam, center, radius), _cube(other, place, radius + _OFF_MM)
    if own is None or around is None:
        return False
    reach = own.shape[0] // 2
    away = np.sqrt(sum(axis**2 for axis in np.ogrid[(slice(-reach, reach + 1),) * 3]))
    ball, core = away <= radius, away <= max(_LEAST_CORE_MM, _CORE_SHARE * diameter_mm)
    contrast = float(own[core].mean()) - _LUNG_HU
    if contrast < _LEAST_CONTRAST_HU:
        return False
    best, dense = -np.inf, 0.0
    surroundings = _centred(own[ball])
    for shift in _SHIFTS:
        there = around[tuple(slice(step, step + own.shape[0]) for step in shift)]
        likeness = _correlation(surroundings, _centred(there[ball]))
        if likeness > best:
            best, dense = likeness, float(there[core].mean())
    return best >= _LEAST_LIKENESS and dense - _LUNG_HU >= _LEAST_DENSITY * contrast


def _cube(exam: Exam, center: npt.ArrayLike, half_mm: float) -> Image | None:
    """Return an exam's HU on 1 mm voxels around a place; None when it does not lie inside."""
    steps = np.arange(-np.ceil(half_mm), np.ceil(half_mm) + 1)
    points = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    index = exam.grid.to_index(points + np.asarray(center, float))
    size = np.asarray(exam.grid.size)
    middle = index[(len(steps) // 2,) * 3]
    if exam.hu is None or np.any(middle < 0) or np.any(middle > size - 1):
        return None
    low = np.clip(np.floor(index.min(axis=(0, 1, 2))).astype(int) - 2, 0, size - 1)
    high = np.clip(np.ceil(index.max(axis=(0, 1, 2))).astype(int) + 3, low + 1, size)
    part = exam.hu[low[2] : high[2], low[1] : high[1], low[0] : high[0]].astype(np.float32)
    sigma = [_SMOOTHING_MM / mm for mm in exam.grid.spacing[::-1]]
    smooth = ndimage.gaussian_filter(np.clip(part, _AIR_HU, _BONE_HU), sigma)
    where = np.moveaxis((index - low)[..., ::-1], -1, 0)
    out: Image = ndimage.map_coordinates(smooth, where, order=1, cval=_AIR_HU)
    return out


def _centred(values: Image) -> Image:
    out: Image = values - values.mean()
    return out


def _correlation(one: Image, other: Image) -> float:
    """Return the correlation of values whose means are 0; 0 where one of them is flat."""
    norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / norm if norm > 0 else 0.0
