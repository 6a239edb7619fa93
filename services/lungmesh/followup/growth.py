"""How a nodule changed: volume doubling time, and growth as the guidelines define it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import GrowthClass

RULES = ("growth", "Lung-RADS v2022")
# A change of volume below this is within the error of measurement (CLINICAL section 1).
MEASUREMENT_ERROR_PERCENT = 25.0
# Lung-RADS v2022: the mean diameter up by more than this within 12 months.
GROWTH_MM = 1.5
YEAR_DAYS = 365.25
_DOUBLED_PERCENT = 100.0


@dataclass(frozen=True)
class Size:
    """A nodule's size in an exam.

    Attributes
    ----------
    days
        Days from that exam to the current one; 0 for the current one.
    solid_mean_diameter_mm
        Of the solid part; 0 when there is none.
    """

    mean_diameter_mm: float
    volume_mm3: float
    solid_mean_diameter_mm: float = 0.0
    days: float = 0.0


def volume_doubling_time_days(v1_mm3: float, v2_mm3: float, days: float) -> float | None:
    """Return Δt · ln 2 / ln(V2 / V1) in days; negative means shrinking.

    None when the volumes are equal or no days lie between (Schwartz, Cancer 1961;14:1272).
    """
    if v1_mm3 == v2_mm3 or days <= 0:
        return None
    return days * math.log(2) / math.log(v2_mm3 / v1_mm3)


def volume_change_percent(v1_mm3: float, v2_mm3: float) -> float:
    """Return 100 · (V2 − V1) / V1."""
    return 100.0 * (v2_mm3 - v1_mm3) / v1_mm3


def classify(now: Size, earlier: Sequence[Size], solid_part: bool) -> GrowthClass.ValueType:
    """Return how a nodule that was there before has changed.

    Parameters
    ----------
    earlier
        The same nodule in earlier exams, most recent first; at least one.
    solid_part
        True for part-solid nodules: growth of the solid part counts too (Lung-RADS v2022).

    Growth is an increase of the mean diameter by more than 1.5 mm within 12 months against any
    earlier exam; over a longer interval the increase is taken as steady, so 1.5 mm a year. An
    increase of more than 1.5 mm that took longer is slow growth, also where two exams are all
    there are: such a nodule is not stable. A volume that changed by less than 25 % is within the
    error of measurement and counts as stable.
    """
    increases = [
        (_increase(then, now, solid_part), then.days)
        for then in earlier
        if _outside_error(then, now) or (solid_part and _solid(then, now))
    ]
    if any(_per_year(mm, days) > GROWTH_MM for mm, days in increases):
        return nodule_pb2.GROWTH_CLASS_GROWING
    if any(mm > GROWTH_MM for mm, _ in increases):
        return nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING
    last = earlier[0]
    shrunk = now.mean_diameter_mm - last.mean_diameter_mm < -GROWTH_MM
    change = volume_change_percent(last.volume_mm3, now.volume_mm3)
    if shrunk and change <= -MEASUREMENT_ERROR_PERCENT:
        return nodule_pb2.GROWTH_CLASS_SHRINKING
    return nodule_pb2.GROWTH_CLASS_STABLE


def doubled_within_a_year(now: Size, earlier: Sequence[Size]) -> bool:
    """Return whether the volume at least doubled, and took no longer than a year for it.

    A shorter interval is not drawn out: what has not doubled yet has not doubled.
    """
    return any(
        volume_change_percent(then.volume_mm3, now.volume_mm3) >= _DOUBLED_PERCENT
        and (vdt := volume_doubling_time_days(then.volume_mm3, now.volume_mm3, then.days))
        is not None
        and vdt <= YEAR_DAYS
        for then in earlier
    )


def _outside_error(then: Size, now: Size) -> bool:
    return volume_change_percent(then.volume_mm3, now.volume_mm3) >= MEASUREMENT_ERROR_PERCENT


def _solid(then: Size, now: Size) -> bool:
    return now.solid_mean_diameter_mm - then.solid_mean_diameter_mm > GROWTH_MM


def _increase(then: Size, now: Size, solid_part: bool) -> float:
    total = now.mean_diameter_mm - then.mean_diameter_mm
    solid = now.solid_mean_diameter_mm - then.solid_mean_diameter_mm
    return max(total, solid) if solid_part else total


def _per_year(increase_mm: float, days: float) -> float:
    """Return the increase within 12 months; a shorter interval is not drawn out."""
    return increase_mm / max(1.0, days / YEAR_DAYS)
