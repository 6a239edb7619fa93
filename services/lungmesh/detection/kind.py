"""Nodule type, from what two networks say and the HU inside the mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.v1 import nodule_pb2

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Triple = tuple[float, float, float]

NAME, VERSION = "nodule-type", "2"

# Noise is smoothed away before a voxel is called calcium or fat, mm.
_SMOOTHING_MM = 0.7
# The core leaves out the blurred edge: this deep, or this share of the inner radius when smaller.
_EDGE_MM, _EDGE_SHARE = 2.0, 0.4
# Calcium: denser than contrast makes soft tissue. Diffuse: most of the nodule. Central: the inner
# half of its radius.
_CALCIUM_HU, _DIFFUSE_SHARE = 200.0, 0.5
# Where the network calls it calcified, less calcium is enough: popcorn and rings.
_LIKELY, _LIKELY_SHARE = 0.5, 0.15
# The segmenter alone rules out neither solid nor non-solid.
_LEAST_FIT = 0.05
# Fat reads -120 … -40; counted in the core of a nodule that is large enough to have one, and only
# where the HU are even, for an edge between tissue and lung passes through the same values.
_FAT_HU, _FAT_SHARE, _FAT_RADIUS_MM, _EVEN_HU_PER_MM = (-120.0, -40.0), 0.15, 4.0, 40.0


def classify(
    probabilities: Sequence[float], solid_share: float, hu: Field, mask: Mask, spacing: Triple
) -> nodule_pb2.NoduleType.ValueType:
    """Return the type from what two networks and the HU say.

    The reducer's probabilities are weighed by how well each type fits the segmenter's solid part:
    its width over that of the whole. Calcium and fat are read from the HU. Part-solid needs a solid
    part.

    Parameters
    ----------
    probabilities
        Of solid, part-solid, non-solid and calcified; the last counts as solid here.
    solid_share
        Volume of the solid part over that of the whole, 0 … 1.
    hu, mask
        float32 and bool [z, y, x]: the nodule.
    spacing
        mm along [z, y, x].
    """
    solid, part, glass, calcified = probabilities
    width = solid_share ** (1 / 3)
    fit = max(
        (
            ((solid + calcified) * max(width, _LEAST_FIT), nodule_pb2.NODULE_TYPE_SOLID),
            (part * 4 * width * (1 - width), nodule_pb2.NODULE_TYPE_PART_SOLID),
            (glass * max(1 - width, _LEAST_FIT), nodule_pb2.NODULE_TYPE_NON_SOLID),
        )
    )[1]
    if fit != nodule_pb2.NODULE_TYPE_SOLID:
        return fit
    return _solid_kind(hu, mask, spacing, calcified >= _LIKELY)


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
