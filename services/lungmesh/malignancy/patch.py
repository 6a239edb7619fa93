"""The box around a nodule that signs are measured in, and the shape tools that they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

# All signs are judged on cubic voxels of this edge.
STEP_MM = 1.0
_HALF = 0.5
# A strand stands out of the lung's own noise by this many standard deviations: half the contrast
# of ground glass does not always.
_STRAND_NOISE = 3.0

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Patch:
    """A box around a nodule.

    Attributes
    ----------
    hu
        float32 [z, y, x].
    nodule, lung
        bool [z, y, x]; `lung` holds the nodule too where the lung mask was closed over it.
    spacing
        mm along [z, y, x].
    """

    hu: Field
    nodule: Mask
    lung: Mask
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Finding:
    """A sign: `score` 0 … 1, and whether it counts as present."""

    name: str
    score: float
    present: bool


def found(name: str, score: float, present: bool | None = None) -> Finding:
    """Return a finding; present from a score of one half on unless told."""
    score = round(float(np.clip(score, 0, 1)), 4)
    return Finding(name, score, score >= _HALF if present is None else present)


def cubic(patch: Patch) -> Patch:
    """Resample to cubic voxels of 1 mm, linearly."""
    factors = [mm / STEP_MM for mm in patch.spacing]

    def linear(array: npt.NDArray[np.generic]) -> Field:
        zoomed: Field = ndimage.zoom(
            array.astype(np.float32), factors, order=1, mode="nearest", grid_mode=True
        )
        return zoomed

    share = linear(patch.nodule)
    nodule = share >= _HALF
    if not nodule.any():
        # Smaller than a voxel of the new grid: its densest voxel stands for it.
        nodule = share == share.max()
    return Patch(linear(patch.hu), nodule, linear(patch.lung) >= _HALF, (STEP_MM, STEP_MM, STEP_MM))


def opened(mask: Mask, radius_mm: float) -> Mask:
    """Take away what a ball of this radius cannot fill, on voxels of 1 mm."""
    padded = np.pad(mask, 1)
    inner = ndimage.distance_transform_edt(padded) * STEP_MM > radius_mm
    if not inner.any():
        return mask
    opened: Mask = (ndimage.distance_transform_edt(~inner) * STEP_MM <= radius_mm)[1:-1, 1:-1, 1:-1]
    return opened & mask


def closed(mask: Mask, radius_mm: float) -> Mask:
    """Fill what a ball of this radius cannot enter, on voxels of 1 mm."""
    pad = int(np.ceil(radius_mm / STEP_MM)) + 1
    padded = np.pad(mask, pad)
    near = ndimage.distance_transform_edt(~padded) * STEP_MM <= radius_mm
    filled: Mask = ndimage.distance_transform_edt(near) * STEP_MM > radius_mm
    cut = slice(pad, -pad)
    return filled[cut, cut, cut] | mask


def strand_level(patch: Patch) -> float:
    """Return the HU from which a strand in the lung around the nodule is told from lung.

    Half-way between nodule and lung, or above the lung's noise where that is more.
    """
    lung = patch.lung & ~patch.nodule
    inside = float(np.median(patch.hu[patch.nodule]))
    if not lung.any():
        return (inside - 850.0) / 2
    values = patch.hu[lung]
    middle = float(np.median(values))
    # The darker half: vessels make the brighter one wider.
    noise = _STRAND_NOISE * (middle - float(np.percentile(values, 15.87)))
    return max((inside + middle) / 2, middle + noise)
