"""How strongly the HU speak for solid, part-solid and non-solid."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from lungmesh.malignancy.patch import STEP_MM, Patch, opened
from lungmesh.v1 import nodule_pb2

# As the detection service tells the types (CLINICAL section 1).
_SOLID_HU = -300.0
_SMOOTHING_MM = 0.7
_VESSEL_RADIUS_MM = 1.25
_LEAST_SOLID_MM3 = 14.1
_SOLID_SHARE = 0.75
_CORE_MM = 2.0
_SMALL_RADIUS_MM, _SMALL_SOLID_HU = 3.0, -350.0
# How far from each of these limits the answer is about 73 to 27.
_SHARE_WIDTH, _HU_WIDTH, _LOG_VOLUME_WIDTH = 0.08, 60.0, 0.35


def density_probabilities(patch: Patch) -> dict[nodule_pb2.NoduleType.ValueType, float]:
    """Return the probability of each NoduleType of the three, together 1.

    The limits that tell the types apart, made soft. They were not fitted to readers.

    Parameters
    ----------
    patch
        On cubic voxels of 1 mm (`patch.cubic`).
    """
    depth = ndimage.distance_transform_edt(np.pad(patch.nodule, 1))[1:-1, 1:-1, 1:-1] * STEP_MM
    smooth = ndimage.gaussian_filter(patch.hu, _SMOOTHING_MM / STEP_MM)
    radius = float(depth.max())
    if radius < _SMALL_RADIUS_MM:
        # All blurred edge: its brightest tenth speaks for it.
        bright = float(np.percentile(patch.hu[patch.nodule], 90))
        solid = _soft((bright - _SMALL_SOLID_HU) / _HU_WIDTH)
    else:
        core = depth > min(_CORE_MM, radius / 2)
        solid = _soft((float(np.mean(smooth[core] > _SOLID_HU)) - _SOLID_SHARE) / _SHARE_WIDTH)
    dense = patch.nodule & (smooth > _SOLID_HU)
    volume = float(np.count_nonzero(_without_vessels(dense))) * STEP_MM**3
    part = _soft(math.log(max(volume, 0.1) / _LEAST_SOLID_MM3) / _LOG_VOLUME_WIDTH)
    return {
        nodule_pb2.NODULE_TYPE_SOLID: solid,
        nodule_pb2.NODULE_TYPE_PART_SOLID: (1 - solid) * part,
        nodule_pb2.NODULE_TYPE_NON_SOLID: (1 - solid) * (1 - part),
    }


def _without_vessels(
    dense: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    inner = ndimage.distance_transform_edt(np.pad(dense, 1)) * STEP_MM > _VESSEL_RADIUS_MM
    return opened(dense, _VESSEL_RADIUS_MM) if inner.any() else np.zeros_like(dense)


def _soft(x: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, x))))
