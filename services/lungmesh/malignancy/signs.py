"""Radiological signs measured from HU and mask: the same answer every time, in mm.

A score says how strongly the image shows the sign, `present` is the yes or no that rules and risk
models take. Lobulation's threshold was set on contours that readers drew (see the README); the
other thresholds are choices that were not validated against readers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

NAME, VERSION = "signs-geometric", "2"
# Tissue this far around a nodule is looked at.
MARGIN_MM = 12.0
# All shapes are judged on cubic voxels of this edge.
_STEP_MM = 1.0
# Spicules: strands no wider than twice this leave the body of the nodule…
_STRAND_RADIUS_MM = 2.0
# …and still stand out in a shell this far from it.
_SHELL_MM = (2.0, 4.0)
_STRANDS_PRESENT, _STRANDS_FULL = 5, 10
# A strand stands out of the lung's own noise by this many standard deviations: half the contrast
# of ground glass does not always.
_STRAND_NOISE = 3.0
# Lobulation: notches that a ball of this radius does not enter, as a share of the body. Half of
# the full share counts as present: in LIDC-IDRI's contours about one in six nodules that readers
# call hardly lobulated reach it.
_NOTCH_RADIUS_MM = 5.0
_NOTCH_FULL = 0.04
_CALCIUM_HU = 200.0
# Contrast medium brings vessels, and nodules fed by them, to several hundred HU.
_CALCIUM_CONTRAST_HU = 500.0
_FAT_HU = (-120.0, -30.0)
# Share of the core that must be calcium or fat.
_CORE_SHARE = 0.10
# The border's voxels mix nodule and lung: tissue is judged this far inside. The mix of both reads
# like fat, so fat is only looked for where the HU are even, in nodules that are large enough to
# have such a place and are not filled with air throughout.
_CORE_MM = 1.5
_FAT_CORE_MM = 2.5
_SMOOTHING_MM = 0.7
_EVEN_HU_PER_MM = 40.0
# A border is clear to the eye when the HU fall by this much: a fifth of the lung window's width.
_VISIBLE_HU = 300.0
_PLEURA_MM = 2.0
_PLEURA_FAR_MM = 6.0
_HALF = 0.5

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


def measure_signs(patch: Patch, contrast: bool = False) -> list[Finding]:
    """Return spiculation, lobulation, smooth_margin, clear_border, calcification, fat and
    juxtapleural, in this order.

    Parameters
    ----------
    contrast
        True where contrast medium was given, or may have been: only denser tissue is calcium then.

    Raises ValueError for an empty nodule.
    """
    if not patch.nodule.any():
        raise ValueError("an empty mask has no signs")
    cubic = _cubic(patch)
    body = _body(cubic.nodule)
    spiculation = _spiculation(cubic, body)
    lobulation = _lobulation(body)
    rough = max(spiculation.score, lobulation.score)
    depth = ndimage.distance_transform_edt(cubic.nodule) * _STEP_MM
    core = cubic.nodule & (depth >= min(_CORE_MM, float(depth.max())))
    return [
        spiculation,
        lobulation,
        _found("smooth_margin", 1 - rough, not (spiculation.present or lobulation.present)),
        _found("clear_border", _sharpness(cubic, core, depth)),
        _tissue(
            "calcification", cubic.hu[core] > (_CALCIUM_CONTRAST_HU if contrast else _CALCIUM_HU)
        ),
        _fat(cubic, depth),
        _juxtapleural(cubic),
    ]


def _found(name: str, score: float, present: bool | None = None) -> Finding:
    score = round(float(np.clip(score, 0, 1)), 4)
    return Finding(name, score, score >= _HALF if present is None else present)


def _cubic(patch: Patch) -> Patch:
    """Resample to cubic voxels, linearly."""
    factors = [mm / _STEP_MM for mm in patch.spacing]

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
    return Patch(
        linear(patch.hu), nodule, linear(patch.lung) >= _HALF, (_STEP_MM, _STEP_MM, _STEP_MM)
    )


def _opened(mask: Mask, radius_mm: float) -> Mask:
    """Take away what a ball of this radius cannot fill."""
    padded = np.pad(mask, 1)
    inner = ndimage.distance_transform_edt(padded) * _STEP_MM > radius_mm
    if not inner.any():
        return mask
    opened: Mask = (ndimage.distance_transform_edt(~inner) * _STEP_MM <= radius_mm)[
        1:-1, 1:-1, 1:-1
    ]
    return opened & mask


def _closed(mask: Mask, radius_mm: float) -> Mask:
    """Fill what a ball of this radius cannot enter."""
    pad = int(np.ceil(radius_mm / _STEP_MM)) + 1
    padded = np.pad(mask, pad)
    near = ndimage.distance_transform_edt(~padded) * _STEP_MM <= radius_mm
    filled: Mask = ndimage.distance_transform_edt(near) * _STEP_MM > radius_mm
    cut = slice(pad, -pad)
    return filled[cut, cut, cut] | mask


def _body(nodule: Mask) -> Mask:
    """Return the nodule without thin strands."""
    return _opened(nodule, _STRAND_RADIUS_MM)


def _spiculation(cubic: Patch, body: Mask) -> Finding:
    """Count the thin strands that leave the nodule into the lung.

    Vessels count as well, unless the nodule is fainter than they are.
    """
    away = ndimage.distance_transform_edt(~body) * _STEP_MM
    low, high = _SHELL_MM
    lung = cubic.lung & ~cubic.nodule
    level = max(_between(cubic, lung), _above_noise(cubic, lung))
    dense = (cubic.hu > level) & cubic.lung & (away <= high)
    # Only what hangs together with the nodule: a vessel passing by does not.
    labels, _ = ndimage.label(dense | body)
    touching = np.unique(labels[body])
    attached = np.isin(labels, touching[touching > 0]) & ~body
    strands, _ = ndimage.label(attached & (away >= low), ndimage.generate_binary_structure(3, 3))
    inside = float(np.median(cubic.hu[cubic.nodule]))
    thin = 0
    for index, box in enumerate(ndimage.find_objects(strands), start=1):
        strand = strands[box] == index
        width = 2 * float(ndimage.distance_transform_edt(np.pad(strand, 1)).max()) * _STEP_MM
        reaches = float(away[box][strand].max()) >= high - _STEP_MM
        # What is denser than the nodule itself runs through it: a vessel in ground glass.
        vessel = float(np.median(cubic.hu[box][strand])) > inside
        thin += reaches and width <= 2 * _STRAND_RADIUS_MM and not vessel
    return _found("spiculation", thin / _STRANDS_FULL, thin >= _STRANDS_PRESENT)


def _between(cubic: Patch, lung: Mask) -> float:
    """Return the HU half-way between the nodule and the lung around it."""
    inside = float(np.median(cubic.hu[cubic.nodule]))
    outside = float(np.median(cubic.hu[lung])) if lung.any() else -850.0
    return (inside + outside) / 2


def _above_noise(cubic: Patch, lung: Mask) -> float:
    """Return the HU that noise of the lung does not reach."""
    if not lung.any():
        return -np.inf
    values = cubic.hu[lung]
    middle = float(np.median(values))
    # The darker half: vessels make the brighter one wider.
    return middle + _STRAND_NOISE * (middle - float(np.percentile(values, 15.87)))


def _lobulation(body: Mask) -> Finding:
    filled = _closed(body, _NOTCH_RADIUS_MM)
    notches = filled.sum() / max(int(body.sum()), 1) - 1
    return _found("lobulation", float(notches) / _NOTCH_FULL)


def _sharpness(cubic: Patch, core: Mask, depth: Field) -> float:
    """Return the share of the nodule's contrast that falls within 2 mm on both sides.

    Less where that fall is too faint to be seen.
    """
    lung = cubic.lung & ~cubic.nodule
    if not lung.any():
        return 0.0
    outside = ndimage.distance_transform_edt(~cubic.nodule) * _STEP_MM
    rim = cubic.nodule & (depth <= 2.0)
    near = lung & (outside > 1.0) & (outside <= 3.0)
    if not near.any():
        return 0.0
    contrast = float(np.median(cubic.hu[core]) - np.median(cubic.hu[lung]))
    if contrast <= 0:
        return 0.0
    fall = float(np.median(cubic.hu[rim]) - np.median(cubic.hu[near]))
    return fall / contrast * float(np.clip(fall / _VISIBLE_HU, 0, 1))


def _tissue(name: str, voxels: Mask) -> Finding:
    share = float(voxels.mean()) if voxels.size else 0.0
    return _found(name, share / (2 * _CORE_SHARE))


def _fat(cubic: Patch, depth: Field) -> Finding:
    """Judge the largest even cluster of fat, as a share of the core."""
    core = cubic.nodule & (depth >= _FAT_CORE_MM)
    low, high = _FAT_HU
    if not core.any() or float(np.median(cubic.hu[core])) < low:
        return _found("fat", 0.0)
    smooth = ndimage.gaussian_filter(cubic.hu, _SMOOTHING_MM / _STEP_MM)
    slope = np.sqrt(sum(part**2 for part in np.gradient(smooth, _STEP_MM)))
    fat = core & (smooth >= low) & (smooth <= high) & (slope < _EVEN_HU_PER_MM)
    labels, _ = ndimage.label(fat)
    largest = int(np.bincount(labels[core])[1:].max(initial=0))
    return _found("fat", largest / int(core.sum()) / (2 * _CORE_SHARE))


def _juxtapleural(cubic: Patch) -> Finding:
    """Judge the distance between the nodule and the lung's border."""
    outside = ~(cubic.lung | cubic.nodule)
    if not outside.any():
        return _found("juxtapleural", 0.0)
    gap = float((ndimage.distance_transform_edt(~outside) * _STEP_MM)[cubic.nodule].min())
    score = 1 - (gap - _STEP_MM) / (_PLEURA_FAR_MM - _STEP_MM)
    return _found("juxtapleural", score, gap <= _PLEURA_MM)
