"""Nodule type, from what two networks say and the HU inside the mask."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.v1 import nodule_pb2

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Triple = tuple[float, float, float]

NAME, VERSION = "nodule-type", "3"

# Noise is smoothed away before a voxel is called calcium or fat, mm.
_SMOOTHING_MM = 0.7
# The core leaves out the blurred edge: this deep, or this share of the inner radius when smaller.
_EDGE_MM, _EDGE_SHARE = 2.0, 0.4
# Calcium: denser than contrast makes soft tissue. Diffuse: most of the nodule. Central: the inner
# half of its radius.
_CALCIUM_HU, _DIFFUSE_SHARE = 200.0, 0.5
# Where the network calls it calcified, less calcium is enough: popcorn and rings.
_LIKELY, _LIKELY_SHARE = 0.5, 0.15
# Logit of the solid part's share of the volume, by type: mean and deviation over simulated nodules
# of the training patients' shapes (models/training/kinds.py prints them).
_SHARE_LOGITS = {
    nodule_pb2.NODULE_TYPE_SOLID: (3.05, 1.17),
    nodule_pb2.NODULE_TYPE_PART_SOLID: (-1.07, 1.16),
    nodule_pb2.NODULE_TYPE_NON_SOLID: (-4.01, 1.23),
}
# So much of each share's likelihood is even over all shares: no share alone rules a type out.
_EVEN, _EVEN_WIDTH = 0.05, 12.0
# Nor does the reducer alone.
_LEAST_SAID = 0.01
_LEAST_SHARE = 0.0025
# Fat reads -120 … -40; counted in the core of a nodule that is large enough to have one, and only
# where the HU are even, for an edge between tissue and lung passes through the same values.
_FAT_HU, _FAT_SHARE, _FAT_RADIUS_MM, _EVEN_HU_PER_MM = (-120.0, -40.0), 0.15, 4.0, 40.0


def classify(
    probabilities: Sequence[float],
    solid_share: float,
    has_core: bool,
    hu: Field,
    mask: Mask,
    spacing: Triple,
) -> nodule_pb2.NoduleType.ValueType:
    """Return the type from what two networks and the HU say.

    The reducer's probabilities are multiplied by how likely each type has the segmenter's solid
    share (Bayes' rule, the two networks taken as independent). Calcium and fat are read from HU.

    Parameters
    ----------
    probabilities
        Of solid, part-solid, non-solid and calcified; the last counts as solid here.
    solid_share
        Volume of the solid part over that of the whole, 0 … 1.
    has_core
        Whether a solid part is there to be measured; without one nothing is part-solid.
    hu, mask
        float32 and bool [z, y, x]: the nodule.
    spacing
        mm along [z, y, x].
    """
    solid, part, glass, calcified = (max(one, _LEAST_SAID) for one in probabilities)
    said = {
        nodule_pb2.NODULE_TYPE_SOLID: solid + calcified,
        nodule_pb2.NODULE_TYPE_PART_SOLID: part if has_core else 0.0,
        nodule_pb2.NODULE_TYPE_NON_SOLID: glass,
    }
    likely = max(said, key=lambda one: said[one] * share_likelihood(one, solid_share))
    if likely != nodule_pb2.NODULE_TYPE_SOLID:
        return likely
    return _solid_kind(hu, mask, spacing, calcified >= _LIKELY)


def share_likelihood(type_: nodule_pb2.NoduleType.ValueType, solid_share: float) -> float:
    """Return the density of a solid share's logit among nodules of a type."""
    mean, deviation = _SHARE_LOGITS[type_]
    x = share_logit(solid_share)
    normal = exp(-((x - mean) ** 2) / (2 * deviation**2)) / (deviation * sqrt(2 * pi))
    return (1 - _EVEN) * normal + _EVEN / _EVEN_WIDTH


def share_logit(solid_share: float) -> float:
    """Return the log-odds of a share of 0 … 1, the ends held off."""
    held = min(max(solid_share, _LEAST_SHARE), 1 - _LEAST_SHARE)
    return log(held / (1 - held))


def _solid_kind(
    hu: Field, mask: Mask, spacing: Triple, likely_calcified: bool
) -> nodule_pb2.NoduleType.ValueType:
    """Tell calcified and fat-containing nodules from other solid ones by their HU.

    Calcified means the benign patterns that can be measured: diffuse and central calcification.
    """
    smooth = ndimage.gaussian_filter(hu, [_SMOOTHING_MM / mm for mm in spacing])
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    radius = float(depth.max())
    calcium = smooth > _CALCIUM_HU
    centre = depth > 0.5 * radius
    wanted = _LIKELY_SHARE if likely_calcified else _DIFFUSE_SHARE
    if calcium[mask].mean() > wanted or calcium[centre].mean() > wanted:
        return nodule_pb2.NODULE_TYPE_CALCIFIED
    if radius >= _FAT_RADIUS_MM:
        core = depth > min(_EDGE_MM, _EDGE_SHARE * radius)
        slope = np.sqrt(sum(part**2 for part in np.gradient(smooth, *spacing)))
        low, high = _FAT_HU
        fat = (smooth > low) & (smooth < high) & (slope < _EVEN_HU_PER_MM)
        if fat[core].mean() > _FAT_SHARE:
            return nodule_pb2.NODULE_TYPE_FAT_CONTAINING
    return nodule_pb2.NODULE_TYPE_SOLID
