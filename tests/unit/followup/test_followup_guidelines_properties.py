"""What holds of every guideline on every state, by search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.followup.guidelines.engine import judge
from lungmesh.followup.guidelines.evaluate import evaluate, rounded
from lungmesh.followup.guidelines.table import Guideline, every, load
from lungmesh.followup.guidelines.vocabulary import (
    COMPARED,
    SIGNS,
    Earlier,
    NoduleState,
    facts_of,
)
from tests.unit.followup.guidelines.states import GROWTHS, TYPES, changed

NODULES = ("solid", "part_solid", "non_solid", "calcified", "fat_containing")
TABLES = [pytest.param(table, id=f"{table.name}-{table.edition}") for table in every()]
SOMETIMES = settings(max_examples=60, deadline=None)
# A patient whom every guideline is for.
IN_SCOPE: dict[str, Any] = {"age_years": 60.0, "known_cancer": False, "immunosuppressed": False}


@st.composite
def states(draw: st.DrawFn, guideline: Guideline, known: bool = False) -> NoduleState:
    """States that can be reached: a solid part is no larger than its nodule, a past needs a prior.

    `known` leaves no fact unknown.
    """

    def maybe(strategy: st.SearchStrategy[object]) -> object:
        return draw(strategy if known else st.none() | strategy)

    growth = draw(st.sampled_from(sorted(GROWTHS)))
    total = draw(st.floats(1, 60))
    solid = draw(st.floats(0, 1)) * total
    volume = draw(st.floats(0.3, 1)) * 0.5236 * total**3
    earlier = None
    if growth in COMPARED:
        earlier = Earlier(
            draw(st.sampled_from([TYPES[name] for name in NODULES])),
            draw(st.floats(1, 60)),
            0.0,
            draw(st.sampled_from(("", *guideline.order))),
            draw(st.floats(0, 2000)),
        )
    nodules = maybe(st.integers(1, 4))
    facts: dict[str, object] = {
        "volume_mm3": maybe(st.just(volume)),
        "solid_volume_mm3": maybe(st.just(volume * (solid / total) ** 3)),
        "long_axis_mm": maybe(st.just(total * 1.2)),
        "vdt_days": maybe(st.floats(1, 2000)) if earlier else None,
        "volume_change_percent": maybe(st.floats(-60, 200)) if earlier else None,
        "doubled_in_a_year": draw(st.booleans()) if earlier else False,
        "days_since_first": draw(st.floats(0, 2200)) if earlier else 0.0,
        "signs": draw(st.frozensets(st.sampled_from(SIGNS))),
        "nodules": nodules,
        "subsolid_nodules": None if nodules is None else draw(st.integers(0, nodules)),  # type: ignore[arg-type]
        "age_years": maybe(st.floats(20, 90)),
        "risk": maybe(st.sampled_from(("low", "high"))),
        "brock_probability": maybe(st.floats(0, 1)),
        "herder_probability": draw(st.none() | st.floats(0, 1)),
        "model_probability": maybe(st.floats(0, 1)),
        "airway": maybe(st.sampled_from(("subsegmental", "proximal"))),
        "cyst_wall": maybe(st.sampled_from(("thin", "thick"))),
        "cyst_change": maybe(
            st.sampled_from(("none", "larger", "multilocular", "wall", "content"))
        ),
    }
    for name in ("known_cancer", "immunosuppressed", "suspected_infection", "cyst_multilocular"):
        facts[name] = maybe(st.booleans())
    state = NoduleState(
        draw(st.sampled_from(list(TYPES.values()))),
        draw(st.none() | st.just(total)) if not known else total,
        draw(st.none() | st.just(solid)) if not known else solid,
        GROWTHS[growth],
        earlier=earlier,
    )
    return replace(state, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("guideline", TABLES)
@given(data=st.data())
@SOMETIMES
def test_every_state_gets_one_category_or_says_why_not(
    guideline: Guideline, data: st.DataObject
) -> None:
    state = data.draw(states(guideline))
    outcome = evaluate(guideline, rounded(guideline, facts_of(state)))
    assert outcome.name
    assert outcome.category in ("", *guideline.order)
    if not outcome.category:
        assert outcome.needs or outcome.name.startswith("outside its scope")


@pytest.mark.parametrize("guideline", TABLES)
@given(data=st.data())
@SOMETIMES
def test_with_every_fact_known_a_nodule_has_a_category(
    guideline: Guideline, data: st.DataObject
) -> None:
    state = data.draw(states(guideline, known=True))
    outcome = evaluate(guideline, rounded(guideline, facts_of(state)))
    if not outcome.category:
        assert outcome.needs == ("nodule_type",) or outcome.name.startswith("outside its scope")


@pytest.mark.parametrize("guideline", TABLES)
@given(data=st.data())
@SOMETIMES
def test_what_an_unknown_fact_turns_out_to_be_never_contradicts_the_category(
    guideline: Guideline, data: st.DataObject
) -> None:
    """A category without needs stands whatever the unknown facts are."""
    state = data.draw(states(guideline, known=True))
    known = rounded(guideline, facts_of(state))
    hidden = data.draw(st.sets(st.sampled_from(sorted(name for name in FACTS_THAT_CAN_BE_UNKNOWN))))
    partly = evaluate(guideline, {**known, **dict.fromkeys(hidden)})
    if partly.category and not partly.needs:
        assert evaluate(guideline, known).category == partly.category


FACTS_THAT_CAN_BE_UNKNOWN = {
    "solid_mean_diameter_mm", "age_years", "risk", "known_cancer", "immunosuppressed",
    "suspected_infection", "brock_probability", "model_probability", "airway", "cyst_wall",
    "cyst_multilocular", "several_solid", "several_subsolid",
}  # fmt: skip


@pytest.mark.parametrize("guideline", TABLES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_each_alternative_is_true_when_it_is_applied(
    guideline: Guideline, data: st.DataObject
) -> None:
    state = data.draw(states(guideline))
    verdict = judge(guideline, state)
    for one in verdict.alternatives:
        assert one.category != verdict.category
        after = judge(guideline, changed(state, one.change.name, one.change.value))
        assert (after.category, after.row) == (one.category, one.row)


# A larger nodule with the same past: the size sets only one of the facts, so the others that a size
# stands in must move with it.
SIZES = ("mean_diameter_mm", "long_axis_mm", "volume_mm3")


@pytest.mark.parametrize("guideline", TABLES)
@given(
    data=st.data(),
    kind=st.sampled_from(("solid", "part_solid", "non_solid")),
    growth=st.sampled_from(("baseline", "new", "not_evaluable", "growing", "slowly_growing")),
    sizes=st.tuples(st.floats(1, 60), st.floats(1, 60)),
    share=st.floats(0, 1),
)
@SOMETIMES
def test_size_never_lowers_a_category(
    guideline: Guideline,
    data: st.DataObject,
    kind: str,
    growth: str,
    sizes: tuple[float, float],
    share: float,
) -> None:
    """Nor does a larger solid part. The signs stay as they are."""
    state = data.draw(states(guideline, known=True))
    earlier = Earlier(TYPES[kind], 5.0, 0.0, "", 300.0) if growth in COMPARED else None
    base = replace(
        state,
        type=TYPES[kind],
        growth=GROWTHS[growth],
        earlier=earlier,
        doubled_in_a_year=False,
        vdt_days=500.0 if earlier else None,
        volume_change_percent=80.0 if earlier else None,
        **IN_SCOPE,
    )
    ranks = []
    for total in sorted(sizes):
        solid = share * total
        larger = replace(
            base,
            mean_diameter_mm=total,
            solid_mean_diameter_mm=solid,
            long_axis_mm=total * 1.2,
            volume_mm3=0.5236 * total**3,
            solid_volume_mm3=0.5236 * solid**3,
        )
        outcome = evaluate(guideline, rounded(guideline, facts_of(larger)))
        ranks.append(guideline.rank(outcome.category))
    assert ranks[0] <= ranks[1]


@pytest.mark.parametrize("guideline", TABLES)
@given(
    data=st.data(),
    kind=st.sampled_from(("solid", "part_solid", "non_solid")),
    days=st.floats(0, 2000),
)
@SOMETIMES
def test_growth_never_lowers_a_category(
    guideline: Guideline, data: st.DataObject, kind: str, days: float
) -> None:
    """A nodule that grew is not below the same nodule unchanged, nor below one first seen.

    BTS and NELSON go by the volume: it doubles within a year here. A nodule's past categories are
    left out, and so is its second look by Brock: they speak of the unchanged one.
    """
    state = data.draw(states(guideline, known=True))
    size = state.mean_diameter_mm
    assert size is not None
    past = Earlier(TYPES[kind], max(1.0, size - 2), 0.0, "", days)
    first = replace(
        state,
        type=TYPES[kind],
        growth=GROWTHS["baseline"],
        earlier=None,
        vdt_days=None,
        volume_change_percent=None,
        doubled_in_a_year=False,
        days_since_first=0.0,
        herder_probability=None,
        **IN_SCOPE,
    )
    unchanged = replace(
        first,
        growth=GROWTHS["stable"],
        earlier=past,
        volume_change_percent=5.0,
        vdt_days=5000.0,
        days_since_first=days,
    )
    grown = replace(
        unchanged, growth=GROWTHS["growing"], volume_change_percent=100.0, vdt_days=300.0
    )
    first_rank, unchanged_rank, grown_rank = (
        guideline.rank(evaluate(guideline, rounded(guideline, facts_of(one))).category)
        for one in (first, unchanged, grown)
    )
    assert grown_rank >= unchanged_rank
    assert grown_rank >= first_rank


@given(
    before=st.sampled_from(("2", "3", "4A", "4B", "4X")),
    days=st.floats(0, 74),
    mm=st.floats(2, 40),
    kind=st.sampled_from(("solid", "part_solid")),
)
def test_before_a_step_down_of_lung_rads_is_due_a_stable_nodule_never_falls(
    before: str, days: float, mm: float, kind: str
) -> None:
    earlier = Earlier(TYPES[kind], mm, mm / 2, before, days)
    state = NoduleState(TYPES[kind], mm, mm / 2, GROWTHS["stable"], earlier=earlier)
    assert judge(load("Lung-RADS"), state).category == before


@pytest.mark.parametrize("guideline", TABLES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_explanation_names_a_row_of_the_table_and_what_it_looked_at(
    guideline: Guideline, data: st.DataObject
) -> None:
    state = data.draw(states(guideline, known=True))
    verdict = judge(guideline, state)
    outcome = evaluate(guideline, rounded(guideline, facts_of(state)))
    assert outcome.fired
    assert set(outcome.fired) <= set(guideline.rows())
    names = {fact.name for fact in verdict.facts}
    assert names
    asked = {condition.fact for row in outcome.fired for condition in row.when}
    assert names <= asked
