"""Rows of a guideline's table, and what it means to meet one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lungmesh.followup.guidelines.facts import NoduleFacts
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import GrowthClass, NoduleType

SOLID = nodule_pb2.NODULE_TYPE_SOLID
PART_SOLID = nodule_pb2.NODULE_TYPE_PART_SOLID
NON_SOLID = nodule_pb2.NODULE_TYPE_NON_SOLID
CALCIFIED = nodule_pb2.NODULE_TYPE_CALCIFIED
FAT = nodule_pb2.NODULE_TYPE_FAT_CONTAINING
AIRWAY = nodule_pb2.NODULE_TYPE_AIRWAY
CYST = nodule_pb2.NODULE_TYPE_ATYPICAL_CYST

BASELINE = nodule_pb2.GROWTH_CLASS_BASELINE
NEW = nodule_pb2.GROWTH_CLASS_NEW
STABLE = nodule_pb2.GROWTH_CLASS_STABLE
GROWING = nodule_pb2.GROWTH_CLASS_GROWING
SLOW = nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING
SHRINKING = nodule_pb2.GROWTH_CLASS_SHRINKING
NOT_EVALUABLE = nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE


@dataclass(frozen=True)
class Bounds:
    """Sizes in mm from `low`, which belongs to it, up to `high`, which does not: [low, high)."""

    low: float = 0.0
    high: float = float("inf")

    def holds(self, value: float) -> bool:
        """Return whether a size lies inside."""
        return self.low <= value < self.high


@dataclass(frozen=True)
class Row:
    """One row of a table: a nodule that meets all of it has the category.

    Attributes
    ----------
    total, solid
        Bounds of the mean diameter of the whole nodule and of its solid part.
    growth
        Growth classes that the row names; empty means any.
    signs, without
        Signs that must be present, and signs that must not.
    needs
        What must be known before the row can be used; a row with needs gives no category.
    """

    name: str
    category: str
    types: frozenset[NoduleType.ValueType]
    total: Bounds = Bounds()
    solid: Bounds = Bounds()
    growth: frozenset[GrowthClass.ValueType] = frozenset()
    signs: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()

    def holds(self, nodule: NoduleFacts) -> bool:
        """Return whether the nodule meets the row."""
        return (
            nodule.type in self.types
            and (not self.growth or nodule.growth in self.growth)
            and self.total.holds(nodule.mean_diameter_mm)
            and self.solid.holds(nodule.solid_mean_diameter_mm)
            and self.signs <= nodule.signs
            and not self.without & nodule.signs
        )


@dataclass(frozen=True)
class Management:
    """What a category asks for.

    Attributes
    ----------
    months
        To the next exam; None where the guideline names work-up instead.
    """

    en: str
    zh: str
    months: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A guideline's word on a nodule or an exam.

    Attributes
    ----------
    category
        Empty when no row can be used without what `needs` names.
    row
        The row that fired.
    needs
        Facts that are missing; they may change the category.
    """

    category: str
    row: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guideline:
    """A guideline's name, edition and source, and its categories from the least suspicious up."""

    name: str
    edition: str
    source: str
    order: tuple[str, ...]
    management: Mapping[str, Management]

    def worst(self, verdicts: Sequence[Verdict]) -> Verdict:
        """Return the most suspicious verdict, with what all of them need.

        A nodule without a category may be more suspicious than the others: what it needs is named
        beside the category of the rest.

        Raises ValueError when there is no verdict.
        """
        if not verdicts:
            raise ValueError("an exam without verdicts has no most suspicious one")
        worst = max(verdicts, key=lambda verdict: self.rank(verdict.category))
        needs = dict.fromkeys(need for verdict in verdicts for need in verdict.needs)
        return replace(worst, needs=tuple(needs))

    def rank(self, category: str) -> int:
        """Return the place in `order`; −1 for none."""
        return self.order.index(category) if category else -1


def kinds(*values: int) -> frozenset[NoduleType.ValueType]:
    """Return types as a row takes them."""
    return frozenset(values)  # type: ignore[arg-type]


def growths(*values: int) -> frozenset[GrowthClass.ValueType]:
    """Return growth classes as a row takes them."""
    return frozenset(values)  # type: ignore[arg-type]
