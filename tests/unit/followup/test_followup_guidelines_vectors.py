"""Every row of every guideline and every bound from both sides, by `guidelines/vectors.csv`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lungmesh.followup.guidelines.conditions import Bounds, Within
from lungmesh.followup.guidelines.engine import judge, judge_exam, load
from lungmesh.followup.guidelines.evaluate import evaluate, evaluate_exam, rounded
from lungmesh.followup.guidelines.table import Guideline, every
from lungmesh.followup.guidelines.verdict import Verdict
from lungmesh.followup.guidelines.vocabulary import exam_facts_of, facts_of
from tests.unit.followup.guidelines.states import Vector, vectors

VECTORS = vectors()
# How near to a bound, on both sides, vectors must lie; what a table rounds, at its step.
NEAR = {"days": 1.0, "%": 1.0}


def verdict_of(vector: Vector) -> Verdict:
    guideline = load(vector.guideline, vector.edition)
    if vector.state is not None:
        return judge(guideline, vector.state)
    assert vector.exam is not None
    given = [Verdict(category, f"given {category}") for category in vector.given]
    return judge_exam(guideline, given, vector.exam)


@pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{v.guideline}-{number}" for number, v in enumerate(VECTORS, 2)]
)
def test_the_vector_gets_its_category_row_and_needs(vector: Vector) -> None:
    verdict = verdict_of(vector)
    assert (verdict.category, verdict.row, verdict.needs) == (
        vector.category,
        vector.row,
        vector.needs,
    )


def test_there_are_at_least_150_vectors_and_each_names_its_source() -> None:
    assert len(VECTORS) >= 150
    assert all(vector.source for vector in VECTORS)


@pytest.mark.parametrize("guideline", every(), ids=lambda g: f"{g.name}-{g.edition}")
def test_every_row_of_the_table_fires_for_a_vector(guideline: Guideline) -> None:
    fired = set()
    for vector in VECTORS:
        if (vector.guideline, vector.edition) != (guideline.name, guideline.edition):
            continue
        if vector.state is not None:
            outcome = evaluate(guideline, rounded(guideline, facts_of(vector.state)))
            fired |= {row.name for row in outcome.fired}
        elif vector.exam is not None:
            said = evaluate_exam(guideline, exam_facts_of(vector.exam))
            fired |= {row.name for outcome in said for row in outcome.fired}
    assert {row.name for row in guideline.rows()} - fired == set()


def bounds_of(guideline: Guideline) -> Iterator[tuple[str, str, float, bool]]:
    """Yield the row, fact and number of each bound, and whether the number is the lower side's."""
    for row in guideline.rows():
        for condition in row.when:
            if not isinstance(condition, Within):
                continue
            bounds: Bounds = condition.bounds
            if bounds.low > float("-inf"):
                yield row.name, condition.fact, bounds.low, not bounds.low_inside
            if bounds.high < float("inf"):
                yield row.name, condition.fact, bounds.high, bounds.high_inside


@pytest.mark.parametrize("guideline", every(), ids=lambda g: f"{g.name}-{g.edition}")
def test_vectors_lie_on_both_sides_of_every_bound(guideline: Guideline) -> None:
    values: dict[str, set[float]] = {}
    for vector in VECTORS:
        if (vector.guideline, vector.edition) != (guideline.name, guideline.edition):
            continue
        facts = (
            rounded(guideline, facts_of(vector.state))
            if vector.state is not None
            else exam_facts_of(vector.exam)  # type: ignore[arg-type]
        )
        for name, value in facts.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                values.setdefault(name, set()).add(float(value))
    missed = set()
    for _, fact, number, belongs_below in bounds_of(guideline):
        step = guideline.steps.get(fact, 0.01 if fact.endswith("probability") else 1.0) + 1e-9
        below, above = (
            (
                {v for v in values[fact] if number - step <= v <= number},
                {v for v in values[fact] if number < v <= number + step},
            )
            if belongs_below
            else (
                {v for v in values[fact] if number - step <= v < number},
                {v for v in values[fact] if number <= v <= number + step},
            )
        )
        if not (below and above):
            missed.add((fact, number))
    assert missed == set()
