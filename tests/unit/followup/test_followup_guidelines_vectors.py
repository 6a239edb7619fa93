"""Every row of every guideline and every bound from both sides, by `guidelines/vectors.csv`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pytest

from lungmesh.followup.guidelines.conditions import Within
from lungmesh.followup.guidelines.engine import judge, judge_exam, load
from lungmesh.followup.guidelines.evaluate import evaluate, evaluate_exam, rounded
from lungmesh.followup.guidelines.table import Guideline, Row, every
from lungmesh.followup.guidelines.verdict import Verdict
from lungmesh.followup.guidelines.vocabulary import Value, exam_facts_of, facts_of
from tests.unit.followup.guidelines.states import Vector, vectors

VECTORS = vectors()


def verdict_of(vector: Vector) -> Verdict:
    guideline = load(vector.guideline, vector.edition)
    if vector.state is not None:
        return judge(guideline, vector.state)
    assert vector.exam is not None
    given = [Verdict(category, f"given {category}", f"{category} 类") for category in vector.given]
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


Run = tuple[Mapping[str, Value | None], set[str]]


def runs_of(guideline: Guideline) -> list[Run]:
    """Return the facts of the guideline's vectors, each with the rows that fired."""
    runs: list[Run] = []
    for vector in VECTORS:
        if (vector.guideline, vector.edition) != (guideline.name, guideline.edition):
            continue
        if vector.state is not None:
            facts = rounded(guideline, facts_of(vector.state))
            fired = evaluate(guideline, facts).fired
        else:
            assert vector.exam is not None
            facts = exam_facts_of(vector.exam)
            fired = tuple(row for one in evaluate_exam(guideline, facts) for row in one.fired)
        runs.append((facts, {row.name for row in fired}))
    return runs


@pytest.mark.parametrize("guideline", every(), ids=lambda g: f"{g.name}-{g.edition}")
def test_every_row_of_the_table_fires_for_a_vector(guideline: Guideline) -> None:
    fired = {name for _, names in runs_of(guideline) for name in names}
    assert {row.name for row in guideline.rows()} - fired == set()


def edges_of(guideline: Guideline) -> Iterator[tuple[Row, Within, float, float]]:
    """Yield each bound of each row, with how near to it on both sides vectors must lie."""
    for row in guideline.rows():
        for condition in row.when:
            if isinstance(condition, Within):
                least = 0.01 if condition.fact.endswith("probability") else 1.0
                step = guideline.steps.get(condition.fact, least) + 1e-6
                for bound in (condition.bounds.low, condition.bounds.high):
                    if math.isfinite(bound):
                        yield row, condition, bound, step


def near(facts: Mapping[str, Value | None], edge: Within, bound: float, step: float) -> bool:
    value = facts.get(edge.fact)
    return isinstance(value, float) and abs(value - bound) <= step


@pytest.mark.parametrize("guideline", every(), ids=lambda g: f"{g.name}-{g.edition}")
def test_vectors_lie_on_both_sides_of_every_bound_of_every_row(guideline: Guideline) -> None:
    """Inside the row fires; outside all else of the row holds, and it does not fire.

    One of the two is the bound itself, the other lies within one step of it.
    """
    runs = runs_of(guideline)
    missed = []
    for row, edge, bound, step in edges_of(guideline):
        at_it = [run for run in runs if near(run[0], edge, bound, step)]
        # What the engine derives stands in no vector.
        others = [
            one
            for one in row.when
            if one is not edge and one.fact not in ("category", "crossed_threshold")
        ]
        belongs = edge.bounds.holds(bound)
        inside = any(
            row.name in fired and edge.holds(facts) and (facts[edge.fact] == bound or not belongs)
            for facts, fired in at_it
        )
        outside = any(
            row.name not in fired
            and edge.holds(facts) is False
            and (facts[edge.fact] == bound or belongs)
            and all(one.holds(facts) for one in others)
            for facts, fired in at_it
        )
        if not (inside and outside):
            missed.append((row.name, edge.fact, bound))
    assert missed == []
