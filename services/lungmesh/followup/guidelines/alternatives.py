"""What would change the answer: the smallest changes of one fact that give another category."""

from __future__ import annotations

from collections.abc import Iterator

from lungmesh.followup.guidelines.conditions import Within
from lungmesh.followup.guidelines.evaluate import Outcome, evaluate
from lungmesh.followup.guidelines.table import Guideline
from lungmesh.followup.guidelines.verdict import Alternative, Fact
from lungmesh.followup.guidelines.vocabulary import (
    COMPARED,
    FACTS,
    FIRST_SEEN,
    NONE,
    PAST,
    Facts,
    Value,
)

# Facts about a change since an earlier exam: nothing to vary where there was none.
_NEEDS_PAST = frozenset({
    "doubled_in_a_year", "days_in_category", "vdt_days", "volume_change_percent", "cyst_change",
    "days_since_first",
})  # fmt: skip
# Smallest step of a number that its table does not round.
_STEPS = {"%": 1.0, "days": 1.0, "mm3": 1.0, "mm": 0.1, "years": 1.0, "": 0.01}


def said(guideline: Guideline, name: str, value: Value) -> Fact:
    """Return a fact as it is told."""
    kind = FACTS.get(name) or PAST.get(name)
    unit = kind.unit if kind else ""
    if isinstance(value, bool):
        return Fact(name, str(value).lower())
    if isinstance(value, frozenset):
        return Fact(name, " ".join(sorted(value)))
    if isinstance(value, str):
        return Fact(name, value)
    step = guideline.steps.get(name)
    return Fact(name, f"{value:.1f}" if step == 0.1 else f"{value:.10g}", unit)


def alternatives(guideline: Guideline, facts: Facts, outcome: Outcome) -> tuple[Alternative, ...]:
    """Return the smallest changes, up and down, of each fact that give another category.

    Words, true and false are each tried, also where nobody knows the fact. The nodule's past is
    not varied.
    """
    found = []
    for name, bounds in _named(guideline, facts).items():
        for values in _others(guideline, name, facts, bounds):
            for value in values:
                other = evaluate(guideline, {**facts, name: value})
                if other.category not in ("", outcome.category):
                    change = said(guideline, name, value)
                    found.append(Alternative(other.category, other.name, change))
                    break
    return tuple(found)


def _named(guideline: Guideline, facts: Facts) -> dict[str, set[float]]:
    """Return the facts that can be varied in the rows for the nodule's type, and their bounds."""
    named: dict[str, set[float]] = {}
    for row in (row for stage in guideline.stages_by_type[str(facts["type"])] for row in stage):
        for condition in row.when:
            name = condition.looks_at(facts)
            if name not in FACTS:
                continue
            bounds = named.setdefault(name, set())
            if isinstance(condition, Within):
                inside = condition.bounds if name == condition.fact else condition.volume
                assert inside is not None  # noqa: S101 - it is looked at
                bounds |= {inside.low, inside.high} - {float("inf"), float("-inf")}
    return {name: named[name] for name in FACTS if name in named}


def _others(
    guideline: Guideline, name: str, facts: Facts, bounds: set[float]
) -> Iterator[list[Value]]:
    """Yield lists of values, the nearest first; the first that changes the answer is told."""
    kind, value = FACTS[name], facts[name]
    if name in _NEEDS_PAST and facts["earlier_type"] == NONE:
        return
    if kind.words:
        for word in kind.words:
            if word != value and (name != "growth" or _possible(str(value), word)):
                yield [word]
    elif kind.flag:
        for flag in (True, False):
            if flag != value:
                yield [flag]
    elif isinstance(value, (int, float)):
        step = guideline.steps.get(name, _STEPS[kind.unit])
        # Not summed in binary: 8 - 0.1 is to be 7.9.
        near = {round(bound + side * step, 6) for bound in bounds for side in (-1, 0, 1)}
        near = {other for other in near if _possible_size(name, other, facts)}
        yield sorted(other for other in near if other > value)
        yield sorted((other for other in near if other < value), reverse=True)


def _possible(growth: str, other: str) -> bool:
    """Return whether a nodule with the same past can have another growth."""
    if growth in COMPARED:
        return other in COMPARED
    return other in FIRST_SEEN


def _possible_size(name: str, value: float, facts: Facts) -> bool:
    if FACTS[name].unit in ("mm", "mm3") and value <= 0:
        return False
    whole, part = facts["mean_diameter_mm"], facts["solid_mean_diameter_mm"]
    if name == "mean_diameter_mm" and isinstance(part, float):
        return value >= part
    if name == "solid_mean_diameter_mm" and isinstance(whole, float):
        return value <= whole
    return True
