"""What the guidelines ask of a nodule."""

from __future__ import annotations

from dataclasses import dataclass, field

from lungmesh.v1.nodule_pb2 import GrowthClass, NoduleType


@dataclass(frozen=True)
class Earlier:
    """The same nodule in the most recent earlier exam.

    Attributes
    ----------
    category
        Its Lung-RADS category then; empty when none was given.
    days_in_category
        Days since the exam in which it was first given that category without a break.
    """

    type: NoduleType.ValueType
    mean_diameter_mm: float
    solid_mean_diameter_mm: float
    category: str
    days_in_category: float


@dataclass(frozen=True)
class NoduleFacts:
    """A nodule as the guidelines see it.

    Attributes
    ----------
    mean_diameter_mm, solid_mean_diameter_mm
        Rounded to 0.1 mm, as Lung-RADS reports them, before they meet a bound.
    growth
        Baseline, new, stable, growing, slowly growing, shrinking or not evaluable.
    signs
        Names of the signs that are present.
    earlier
        None when the nodule has no earlier self.
    doubled_in_a_year
        Its volume at least doubled within 12 months.
    """

    type: NoduleType.ValueType
    mean_diameter_mm: float
    solid_mean_diameter_mm: float
    growth: GrowthClass.ValueType
    signs: frozenset[str] = field(default_factory=frozenset)
    earlier: Earlier | None = None
    doubled_in_a_year: bool = False
