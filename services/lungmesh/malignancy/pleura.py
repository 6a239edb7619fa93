"""Where a nodule stands to the pleura: next to it, or drawing it in by a strand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.malignancy.patch import STEP_MM, Finding, Mask, Patch, found, strand_level

_PLEURA_MM = 2.0
_PLEURA_FAR_MM = 6.0
# A strand to the pleura is looked for up to this gap; in a smaller one than this there is no room.
_TAG_GAP_MM = (2.0, 10.0)
_TAG_RADIUS_MM = 2.0
# Next to nodule and pleura all is blurred border.
_BORDER_MM = 1.5
# Share of the way that a strand must bridge.
_BRIDGED = 0.9
Floats = npt.NDArray[np.float64]


def pleural_signs(patch: Patch, body: Mask) -> list[Finding]:
    """Return juxtapleural and pleural_retraction.

    Retraction is read from its tag: a thin strand that runs from the nodule to the lung's border,
    no denser than the nodule. The score is the share of the way that the best strand bridges. A
    vessel or a fissure between both looks the same; the border towards the mediastinum counts too.

    Parameters
    ----------
    patch
        On cubic voxels of 1 mm (`patch.cubic`).
    body
        The nodule without strands, bool [z, y, x].
    """
    outside = ~(patch.lung | patch.nodule)
    if not outside.any():
        return [found("juxtapleural", 0.0), found("pleural_retraction", 0.0)]
    to_pleura = ndimage.distance_transform_edt(~outside) * STEP_MM
    gap = float(to_pleura[patch.nodule].min())
    near = 1 - (gap - STEP_MM) / (_PLEURA_FAR_MM - STEP_MM)
    bridged = _bridged(patch, body, to_pleura, float(to_pleura[body].min()))
    return [
        found("juxtapleural", near, gap <= _PLEURA_MM),
        found("pleural_retraction", bridged, bridged >= _BRIDGED),
    ]


def _bridged(
    patch: Patch,
    body: Mask,
    to_pleura: Floats,
    gap: float,
) -> float:
    """Return the share of the way to the pleura that the best thin strand bridges."""
    low, high = _TAG_GAP_MM
    if not low < gap <= high:
        return 0.0
    away = ndimage.distance_transform_edt(~body) * STEP_MM
    between = patch.lung & (away > _BORDER_MM) & (to_pleura > _BORDER_MM)
    strands, _ = ndimage.label(
        between & (patch.hu > strand_level(patch)), ndimage.generate_binary_structure(3, 3)
    )
    inside = float(np.median(patch.hu[patch.nodule]))
    best = 0.0
    for index, box in enumerate(ndimage.find_objects(strands), start=1):
        strand = strands[box] == index
        width = 2 * float(ndimage.distance_transform_edt(np.pad(strand, 1)).max()) * STEP_MM
        starts = float(away[box][strand].min()) <= _BORDER_MM + 2 * STEP_MM
        vessel = float(np.median(patch.hu[box][strand])) > inside
        if starts and not vessel and width <= 2 * _TAG_RADIUS_MM:
            left = float(to_pleura[box][strand].min()) - _BORDER_MM - STEP_MM
            best = max(best, 1 - max(left, 0.0) / gap)
    return best
