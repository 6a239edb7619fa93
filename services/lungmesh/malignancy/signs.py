"""Radiological signs measured from HU and mask: the same answer every time, in mm.

A score says how strongly the image shows the sign, `present` is the yes or no that rules and risk
models take. Lobulation's threshold was set on contours that readers drew (see the README); the
other thresholds are choices that were not validated against readers.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lungmesh.malignancy.air import air_signs
from lungmesh.malignancy.patch import (
    STEP_MM,
    Field,
    Finding,
    Mask,
    Patch,
    closed,
    cubic,
    found,
    opened,
    strand_level,
)
from lungmesh.malignancy.pleura import pleural_signs

NAME, VERSION = "signs-geometric", "3"
# Tissue this far around a nodule is looked at.
MARGIN_MM = 12.0
# Spicules: strands no wider than twice this leave the body of the nodule…
_STRAND_RADIUS_MM = 2.0
# …and still stand out in a shell this far from it.
_SHELL_MM = (2.0, 4.0)
_STRANDS_PRESENT, _STRANDS_FULL = 5, 10
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


def measure_signs(patch: Patch, contrast: bool = False) -> list[Finding]:
    """Return spiculation, lobulation, smooth_margin, clear_border, calcification, fat,
    juxtapleural, pleural_retraction, vacuole and air_bronchogram, in this order.

    Parameters
    ----------
    contrast
        True where contrast medium was given, or may have been: only denser tissue is calcium then.

    Raises ValueError for an empty nodule.
    """
    if not patch.nodule.any():
        raise ValueError("an empty mask has no signs")
    fine = cubic(patch)
    body = _body(fine.nodule)
    spiculation = _spiculation(fine, body)
    lobulation = _lobulation(body)
    rough = max(spiculation.score, lobulation.score)
    depth = ndimage.distance_transform_edt(fine.nodule) * STEP_MM
    core = fine.nodule & (depth >= min(_CORE_MM, float(depth.max())))
    return [
        spiculation,
        lobulation,
        found("smooth_margin", 1 - rough, not (spiculation.present or lobulation.present)),
        found("clear_border", _sharpness(fine, core, depth)),
        _tissue(
            "calcification", fine.hu[core] > (_CALCIUM_CONTRAST_HU if contrast else _CALCIUM_HU)
        ),
        _fat(fine, depth),
        *pleural_signs(fine, body),
        *air_signs(fine),
    ]


def _body(nodule: Mask) -> Mask:
    """Return the nodule without thin strands."""
    return opened(nodule, _STRAND_RADIUS_MM)


def _spiculation(patch: Patch, body: Mask) -> Finding:
    """Count the thin strands that leave the nodule into the lung.

    Vessels count as well, unless the nodule is fainter than they are.
    """
    away = ndimage.distance_transform_edt(~body) * STEP_MM
    low, high = _SHELL_MM
    dense = (patch.hu > strand_level(patch)) & patch.lung & (away <= high)
    # Only what hangs together with the nodule: a vessel passing by does not.
    labels, _ = ndimage.label(dense | body)
    touching = np.unique(labels[body])
    attached = np.isin(labels, touching[touching > 0]) & ~body
    strands, _ = ndimage.label(attached & (away >= low), ndimage.generate_binary_structure(3, 3))
    inside = float(np.median(patch.hu[patch.nodule]))
    thin = 0
    for index, box in enumerate(ndimage.find_objects(strands), start=1):
        strand = strands[box] == index
        width = 2 * float(ndimage.distance_transform_edt(np.pad(strand, 1)).max()) * STEP_MM
        reaches = float(away[box][strand].max()) >= high - STEP_MM
        # What is denser than the nodule itself runs through it: a vessel in ground glass.
        vessel = float(np.median(patch.hu[box][strand])) > inside
        thin += reaches and width <= 2 * _STRAND_RADIUS_MM and not vessel
    return found("spiculation", thin / _STRANDS_FULL, thin >= _STRANDS_PRESENT)


def _lobulation(body: Mask) -> Finding:
    filled = closed(body, _NOTCH_RADIUS_MM)
    notches = filled.sum() / max(int(body.sum()), 1) - 1
    return found("lobulation", float(notches) / _NOTCH_FULL)


def _sharpness(patch: Patch, core: Mask, depth: Field) -> float:
    """Return the share of the nodule's contrast that falls within 2 mm on both sides.

    Less where that fall is too faint to be seen.
    """
    lung = patch.lung & ~patch.nodule
    if not lung.any():
        return 0.0
    outside = ndimage.distance_transform_edt(~patch.nodule) * STEP_MM
    rim = patch.nodule & (depth <= 2.0)
    near = lung & (outside > 1.0) & (outside <= 3.0)
    if not near.any():
        return 0.0
    contrast = float(np.median(patch.hu[core]) - np.median(patch.hu[lung]))
    if contrast <= 0:
        return 0.0
    fall = float(np.median(patch.hu[rim]) - np.median(patch.hu[near]))
    return fall / contrast * float(np.clip(fall / _VISIBLE_HU, 0, 1))


def _tissue(name: str, voxels: Mask) -> Finding:
    share = float(voxels.mean()) if voxels.size else 0.0
    return found(name, share / (2 * _CORE_SHARE))


def _fat(patch: Patch, depth: Field) -> Finding:
    """Judge the largest even cluster of fat, as a share of the core."""
    core = patch.nodule & (depth >= _FAT_CORE_MM)
    low, high = _FAT_HU
    if not core.any() or float(np.median(patch.hu[core])) < low:
        return found("fat", 0.0)
    smooth = ndimage.gaussian_filter(patch.hu, _SMOOTHING_MM / STEP_MM)
    slope = np.sqrt(sum(part**2 for part in np.gradient(smooth, STEP_MM)))
    fat = core & (smooth >= low) & (smooth <= high) & (slope < _EVEN_HU_PER_MM)
    labels, _ = ndimage.label(fat)
    largest = int(np.bincount(labels[core])[1:].max(initial=0))
    return found("fat", largest / int(core.sum()) / (2 * _CORE_SHARE))
