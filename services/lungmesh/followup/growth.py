"""How a nodule changed: sizes, doubling times, how sure that is, and growth by the guidelines."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from lungmesh.followup.measurement_error import (
    Z95,
    Measured,
    difference_sd,
    solid_volume_sd,
    volume_sd,
)
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import GrowthClass

# Also names the edition of `measurement_error`.
RULES = ("growth", "2")
# A change of volume below this is within the error of measurement (CLINICAL section 1).
MEASUREMENT_ERROR_PERCENT = 25.0
# Lung-RADS v2022: the mean diameter up by more than this within 12 months.
GROWTH_MM = 1.5
YEAR_DAYS = 365.25
# A trend over several exams is growth from this probability on: it makes a Lung-RADS 4B, so it is
# asked to be surer than a single pair's 97.5 %.
TREND_PROBABILITY = 0.99
TREND_EXAMS = 3
_DOUBLED_PERCENT = 100.0
_NORMAL = NormalDist()

# The same nodule in an earlier exam: days from that exam to this one, and what it measured.
Earlier = tuple[float, Measured]


@dataclass(frozen=True)
class Change:
    """A nodule against itself in one earlier exam; the fields are those of `PriorMatch`.

    Attributes
    ----------
    volume_doubling_time_days, mass_doubling_time_days
        Negative means shrinking; None when nothing changed or no days lie between.
    mass_change_percent
        None when the earlier exam knows no mass.
    volume_error_percent
        A change of volume within ± this is within the error of measurement (95 %).
    growth_probability
        That the true volume is larger now, given the error alone: 0.5 is no word either way.
    volume_doubling_time_low_days, volume_doubling_time_high_days
        95 % interval; a bound is None where it reaches "no growth".
    warnings
        What makes the two exams unlike.
    """

    diameter_change_mm: float
    volume_change_percent: float
    volume_doubling_time_days: float | None
    mass_change_percent: float | None
    mass_doubling_time_days: float | None
    solid_diameter_change_mm: float
    volume_error_percent: float
    growth_probability: float
    volume_doubling_time_low_days: float | None
    volume_doubling_time_high_days: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Trend:
    """Steady growth (a straight line of ln volume over time) through all exams of a nodule.

    Attributes
    ----------
    change_percent
        Of the line, from the first exam to this one.
    doubling_time_days, low_days, high_days
        As in `Change`.
    probability
        That the line rises.
    """

    exams: int
    days: float
    change_percent: float
    doubling_time_days: float | None
    low_days: float | None
    high_days: float | None
    probability: float


def volume_doubling_time_days(v1_mm3: float, v2_mm3: float, days: float) -> float | None:
    """Return Δt · ln 2 / ln(V2 / V1) in days; negative means shrinking.

    None when the volumes are equal or no days lie between (Schwartz, Cancer 1961;14:1272).
    """
    return _doubling(math.log(v2_mm3 / v1_mm3), days)


def volume_change_percent(v1_mm3: float, v2_mm3: float) -> float:
    """Return 100 · (V2 − V1) / V1."""
    return 100.0 * (v2_mm3 - v1_mm3) / v1_mm3


def change(then: Measured, now: Measured, days: float, warnings: Collection[str] = ()) -> Change:
    """Compare a nodule with itself, `days` earlier.

    Parameters
    ----------
    warnings
        Codes of what makes the two exams unlike (see `PriorMatch.warnings`): they are told again
        and widen the error.
    """
    ratio = math.log(now.volume_mm3 / then.volume_mm3)
    sd = difference_sd(then, now, warnings)
    low, high = _interval(ratio, sd, days)
    known_mass = then.mass_mg > 0 and now.mass_mg > 0
    return Change(
        diameter_change_mm=now.mean_diameter_mm - then.mean_diameter_mm,
        volume_change_percent=volume_change_percent(then.volume_mm3, now.volume_mm3),
        volume_doubling_time_days=_doubling(ratio, days),
        mass_change_percent=(
            volume_change_percent(then.mass_mg, now.mass_mg) if known_mass else None
        ),
        mass_doubling_time_days=(
            volume_doubling_time_days(then.mass_mg, now.mass_mg, days) if known_mass else None
        ),
        solid_diameter_change_mm=now.solid_mean_diameter_mm - then.solid_mean_diameter_mm,
        volume_error_percent=100 * math.expm1(Z95 * sd),
        growth_probability=_NORMAL.cdf(ratio / sd),
        volume_doubling_time_low_days=low,
        volume_doubling_time_high_days=high,
        warnings=tuple(sorted(warnings)),
    )


def trend(now: Measured, earlier: Sequence[Earlier]) -> Trend | None:
    """Fit steady growth of the volume through all exams, each weighed by its error.

    Parameters
    ----------
    earlier
        The same nodule in earlier exams, in any order.

    None with fewer than three exams, or when all are of one day.
    """
    return _fit([(days, m.volume_mm3, volume_sd(m)) for days, m in [*earlier, (0.0, now)]])


def solid_trend(now: Measured, earlier: Sequence[Earlier]) -> Trend | None:
    """Fit steady growth of the solid part through the exams that show one; else as `trend`."""
    return _fit(
        [
            (days, m.solid_volume_mm3, solid_volume_sd(m))
            for days, m in [*earlier, (0.0, now)]
            if m.solid_volume_mm3 > 0 and m.solid_mean_diameter_mm > 0
        ]
    )


def classify(now: Measured, earlier: Sequence[Earlier]) -> GrowthClass.ValueType:
    """Return how a nodule that was there before has changed.

    Parameters
    ----------
    earlier
        The same nodule in earlier exams, most recent first; at least one.

    Growth is an increase of the mean diameter by more than 1.5 mm within 12 months against any
    earlier exam (Lung-RADS v2022), of a part-solid nodule's solid part too; over a longer interval
    the increase is taken as steady, so 1.5 mm a year. Slow growth is an increase of more than
    1.5 mm that took longer, or a steady rise through three exams or more that is beyond the error
    (`TREND_PROBABILITY`). A volume that changed by less than 25 % is within the error of
    measurement and counts as stable.
    """
    part_solid = now.type == nodule_pb2.NODULE_TYPE_PART_SOLID
    increases = [
        (_increase(then, now, part_solid), days)
        for days, then in earlier
        if _outside_error(then, now) or (part_solid and _solid_grown(then, now))
    ]
    if any(_per_year(mm, days) > GROWTH_MM for mm, days in increases):
        return nodule_pb2.GROWTH_CLASS_GROWING
    trends = (trend(now, earlier), solid_trend(now, earlier) if part_solid else None)
    if any(mm > GROWTH_MM for mm, _ in increases) or any(_rises(line) for line in trends):
        return nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING
    _, last = earlier[0]
    shrunk = now.mean_diameter_mm - last.mean_diameter_mm < -GROWTH_MM
    percent = volume_change_percent(last.volume_mm3, now.volume_mm3)
    if shrunk and percent <= -MEASUREMENT_ERROR_PERCENT:
        return nodule_pb2.GROWTH_CLASS_SHRINKING
    return nodule_pb2.GROWTH_CLASS_STABLE


def doubled_within_a_year(now: Measured, earlier: Sequence[Earlier]) -> bool:
    """Return whether the volume at least doubled, and took no longer than a year for it.

    A shorter interval is not drawn out: what has not doubled yet has not doubled.
    """
    return any(
        volume_change_percent(then.volume_mm3, now.volume_mm3) >= _DOUBLED_PERCENT
        and (vdt := volume_doubling_time_days(then.volume_mm3, now.volume_mm3, days)) is not None
        and vdt <= YEAR_DAYS
        for days, then in earlier
    )


def _doubling(log_ratio: float, days: float) -> float | None:
    return None if log_ratio == 0 or days <= 0 else days * math.log(2) / log_ratio


def _interval(log_ratio: float, sd: float, days: float) -> tuple[float | None, float | None]:
    """Return the 95 % bounds of the doubling time; the slower one is None at "no growth"."""
    slow, fast = log_ratio - Z95 * sd, log_ratio + Z95 * sd
    same_way = log_ratio != 0
    return (
        _doubling(fast, days) if same_way and fast * log_ratio > 0 else None,
        _doubling(slow, days) if same_way and slow * log_ratio > 0 else None,
    )


def _fit(points: Sequence[tuple[float, float, float]]) -> Trend | None:
    """Fit (days before now, volume, sd of ln volume) by weighted least squares."""
    span = max(days for days, _, _ in points) if points else 0.0
    if len(points) < TREND_EXAMS or span <= 0:
        return None
    weights = [1 / sd**2 for _, _, sd in points]
    total = sum(weights)
    times = [-days for days, _, _ in points]
    logs = [math.log(volume) for _, volume, _ in points]
    centre = sum(w * t for w, t in zip(weights, times, strict=True)) / total
    spread = sum(w * (t - centre) ** 2 for w, t in zip(weights, times, strict=True))
    if spread <= 0:
        return None
    slope = sum(w * (t - centre) * y for w, t, y in zip(weights, times, logs, strict=True)) / spread
    rise, sd = slope * span, span / math.sqrt(spread)
    low, high = _interval(rise, sd, span)
    return Trend(
        exams=len(points),
        days=span,
        change_percent=100 * math.expm1(rise),
        doubling_time_days=_doubling(rise, span),
        low_days=low,
        high_days=high,
        probability=_NORMAL.cdf(rise / sd),
    )


def _rises(line: Trend | None) -> bool:
    return (
        line is not None
        and line.probability >= TREND_PROBABILITY
        and line.change_percent >= MEASUREMENT_ERROR_PERCENT
    )


def _outside_error(then: Measured, now: Measured) -> bool:
    return volume_change_percent(then.volume_mm3, now.volume_mm3) >= MEASUREMENT_ERROR_PERCENT


def _solid_grown(then: Measured, now: Measured) -> bool:
    return now.solid_mean_diameter_mm - then.solid_mean_diameter_mm > GROWTH_MM


def _increase(then: Measured, now: Measured, part_solid: bool) -> float:
    total = now.mean_diameter_mm - then.mean_diameter_mm
    solid = now.solid_mean_diameter_mm - then.solid_mean_diameter_mm
    return max(total, solid) if part_solid else total


def _per_year(increase_mm: float, days: float) -> float:
    """Return the increase within 12 months; a shorter interval is not drawn out."""
    return increase_mm / max(1.0, days / YEAR_DAYS)
