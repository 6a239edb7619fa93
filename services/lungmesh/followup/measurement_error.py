"""How far a nodule's measured volume may lie from the true one.

The error of ln(volume) of one exam is taken as normal with

    sd² = repeat(type)² + margin² + (0.594 · (t / d)^1.4)²

t is the coarsest sampling (slice thickness or voxel spacing) and d the mean diameter, both mm.
Where two exams are unlike, the published shift joins the error of their difference.
`docs/growth.md` tells where each figure comes from and what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import NormalDist

from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import NoduleType

# 95 % of a normal distribution lies within ± this many standard deviations.
Z95 = NormalDist().inv_cdf(0.975)


def repeat_sd(limit_percent: float) -> float:
    """Return the sd of ln(volume) in one exam behind 95 % limits of agreement of two, ± percent."""
    return math.log1p(limit_percent / 100) / (Z95 * math.sqrt(2))


# Solid nodules in thin slices: limits of agreement ±25 % (Eur Radiol 2022;32:1912 on BTS, NELSON).
_SOLID = repeat_sd(25.0)
# Mean diameter of subsolid nodules ±14.4 %, cubed (PLoS ONE 2016;11:e0148853).
_SUBSOLID = repeat_sd(100 * (1.144**3 - 1))
# Diameter of the solid part ±27.1 % in the lung window, cubed (the same).
_SOLID_PART = repeat_sd(100 * (1.271**3 - 1))
# Outlines that two readings drew unlike, mostly for an irregular shape or margin: 16 of 47 volumes
# differed by more than 10 % (Radiology 2006;241:251).
_MARGIN = math.log(1.10) / NormalDist().inv_cdf(1 - 16 / 47 / 2) / math.sqrt(2)
_UNCLEAR = frozenset({"spiculation", "lobulation", "juxtapleural"})
# Through two points: a 5 mm ball's diameter has an sd of 0.07 mm in slices of 0.75 mm and of
# 0.99 mm in slices of 5 mm (J Digit Imaging 2015;28:373); the volume's is three times as large.
_SAMPLING_POWER = math.log(0.99 / 0.07) / math.log(5 / 0.75)
_SAMPLING = 3 * 0.99 / 5
# What a pair of unlike exams adds, as ln(volume ratio): published mean shifts, taken as one sd.
_UNLIKE = {
    "contrast": math.log(1.155),  # AJR 2012;199:777, nodules up to 200 mm³
    "kernel": math.log(887 / 855),  # Radiology 2007;245:881
    # Full breath in against full breath out (Korean J Radiol 2006;7:243): the most that it can be.
    "lung_volume": math.log(1.231) / Z95,
}
_SUBSOLID_TYPES = (nodule_pb2.NODULE_TYPE_PART_SOLID, nodule_pb2.NODULE_TYPE_NON_SOLID)


@dataclass(frozen=True)
class Measured:
    """A nodule as one exam measured it.

    Attributes
    ----------
    solid_mean_diameter_mm, solid_volume_mm3
        Of the solid part; 0 when there is none.
    slice_thickness_mm
        None when the headers do not state it.
    spacing_mm
        Of the voxels along (x, y, z).
    signs
        Names of the signs that are present; spiculation, lobulation and contact with the pleura
        make the outline less sure.
    """

    mean_diameter_mm: float
    volume_mm3: float
    mass_mg: float = 0.0
    solid_mean_diameter_mm: float = 0.0
    solid_volume_mm3: float = 0.0
    type: NoduleType.ValueType = nodule_pb2.NODULE_TYPE_SOLID
    slice_thickness_mm: float | None = None
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    signs: frozenset[str] = field(default_factory=frozenset)


def volume_sd(measured: Measured) -> float:
    """Return the sd of ln(volume)."""
    repeat = _SUBSOLID if measured.type in _SUBSOLID_TYPES else _SOLID
    margin = _MARGIN if measured.signs & _UNCLEAR else 0.0
    return math.hypot(repeat, margin, _sampling(measured, measured.mean_diameter_mm))


def solid_volume_sd(measured: Measured) -> float:
    """Return the sd of ln(volume of the solid part); the solid part must be there."""
    return math.hypot(_SOLID_PART, _sampling(measured, measured.solid_mean_diameter_mm))


def difference_sd(then: Measured, now: Measured, warnings: Collection[str] = ()) -> float:
    """Return the sd of ln(volume now / volume then) of a nodule that did not change.

    Parameters
    ----------
    warnings
        Codes of what makes the two exams unlike; `slice_thickness` is in each exam's own error.
    """
    unlike = (_UNLIKE.get(code, 0.0) for code in warnings)
    return math.hypot(volume_sd(then), volume_sd(now), *unlike)


def _sampling(measured: Measured, diameter_mm: float) -> float:
    coarsest = max(measured.slice_thickness_mm or 0.0, *measured.spacing_mm)
    return _SAMPLING * math.pow(coarsest / diameter_mm, _SAMPLING_POWER)
