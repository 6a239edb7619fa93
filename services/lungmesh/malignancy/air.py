"""Air inside a nodule: the vacuole sign and the air bronchogram, from HU and mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lungmesh.malignancy.patch import STEP_MM, Finding, Mask, Patch, closed, found

# A segmentation may leave the air out: gaps up to twice this wide are looked at as well.
_GAP_MM = 3.0
# Air is looked for this far inside: nearer to the surface blurred border reads like it.
_DEPTH_MM = 2.0
_AIR_HU = -950.0
# Ground glass is uneven by itself: air lies this many standard deviations below its HU.
_NOISE = 3.0
# Voxels around the air that must be nodule again; else it is a notch or a gap to the lung.
_ENCLOSED = 0.75
# A ball of 2 mm counts; what is larger than a ball of 10 mm is a cavity.
_LEAST_MM3, _CAVITY_MM3 = 4.0, 523.6
# A bronchus is this long, and this many times as long as wide.
_TUBE_MM, _TUBE_RATIO = 5.0, 2.5


@dataclass(frozen=True)
class _Pocket:
    volume_mm3: float
    length_mm: float
    # Towards the lung, as a cleft is; a bronchus may be.
    open: bool

    @property
    def tube(self) -> bool:
        width = 2 * np.sqrt(self.volume_mm3 / (np.pi * self.length_mm))
        return self.length_mm >= _TUBE_MM and self.length_mm >= _TUBE_RATIO * width


def air_signs(patch: Patch) -> list[Finding]:
    """Return vacuole and air_bronchogram.

    A vacuole is a pocket of air of 2 to 10 mm within the nodule, a bronchogram a long one. The
    scores are half the sign's least size against what was found, at most 1.

    Parameters
    ----------
    patch
        On cubic voxels of 1 mm (`patch.cubic`): lumens narrower than about 2 mm are lost on it.
    """
    pockets = _pockets(patch)
    round_ones = [
        pocket.volume_mm3
        for pocket in pockets
        if not (pocket.tube or pocket.open) and pocket.volume_mm3 <= _CAVITY_MM3
    ]
    long_ones = [pocket.length_mm for pocket in pockets if pocket.tube]
    return [
        found("vacuole", max(round_ones, default=0.0) / (2 * _LEAST_MM3)),
        found("air_bronchogram", max(long_ones, default=0.0) / (2 * _TUBE_MM)),
    ]


def _pockets(patch: Patch) -> list[_Pocket]:
    whole = ndimage.binary_fill_holes(closed(patch.nodule, _GAP_MM))
    inner: Mask = ndimage.distance_transform_edt(np.pad(whole, 1))[1:-1, 1:-1, 1:-1] > _DEPTH_MM
    if not inner.any():
        return []
    tissue = patch.hu[inner & patch.nodule]
    if not tissue.size:
        return []
    middle = float(np.median(tissue))
    # The brighter half: the air itself makes the darker one wider.
    spread = float(np.percentile(tissue, 84.13)) - middle
    level = min((middle + _AIR_HU) / 2, middle - _NOISE * spread)
    dark = patch.hu < level
    connected, _ = ndimage.label(dark)
    outer = np.unique(connected[dark & ~whole])
    labels, _ = ndimage.label(dark & inner, ndimage.generate_binary_structure(3, 3))
    pockets = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        grown = tuple(
            slice(max(0, part.start - 1), min(extent, part.stop + 1))
            for part, extent in zip(box, labels.shape, strict=True)
        )
        pocket = labels[grown] == index
        volume = float(pocket.sum()) * STEP_MM**3
        around = ndimage.binary_dilation(pocket) & ~pocket
        enclosed = np.mean((whole & (patch.hu >= level))[grown][around])
        if volume >= _LEAST_MM3 / 2 and enclosed >= _ENCLOSED:
            is_open = bool(np.isin(connected[grown][pocket], outer).any())
            pockets.append(_Pocket(volume, _length(pocket), is_open))
    return pockets


def _length(pocket: Mask) -> float:
    """Return the extent along the longest axis, mm."""
    points = np.argwhere(pocket) * STEP_MM
    centred = points - points.mean(axis=0)
    along = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]
    return float(np.ptp(along)) + STEP_MM
