"""Lung-RADS v2022 and C-Lung-RADS, row by row and at every bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.followup.guidelines import Earlier, NoduleFacts, c_lung_rads, lung_rads
from lungmesh.followup.guidelines.rows import (
    AIRWAY,
    BASELINE,
    CALCIFIED,
    CYST,
    FAT,
    GROWING,
    NEW,
    NON_SOLID,
    NOT_EVALUABLE,
    PART_SOLID,
    SHRINKING,
    SLOW,
    SOLID,
    STABLE,
    Verdict,
)

TYPES = (SOLID, PART_SOLID, NON_SOLID, CALCIFIED, FAT, AIRWAY, CYST)
GROWTHS = (BASELINE, NEW, STABLE, GROWING, SLOW, SHRINKING, NOT_EVALUABLE)


def facts(
    kind: int,
    growth: int,
    total: float,
    solid: float = 0.0,
    signs: tuple[str, ...] = (),
    earlier: Earlier | None = None,
) -> NoduleFacts:
    return NoduleFacts(kind, total, solid, growth, frozenset(signs), earlier)  # type: ignore[arg-type]


LUNG_RADS_ROWS = [
    (CALCIFIED, BASELINE, 12, 0, "1"),
    (FAT, NEW, 12, 0, "1"),
    # Solid at baseline.
    (SOLID, BASELINE, 5.9, 0, "2"),
    (SOLID, BASELINE, 6.0, 0, "3"),
    (SOLID, BASELINE, 7.9, 0, "3"),
    (SOLID, BASELINE, 8.0, 0, "4A"),
    (SOLID, BASELINE, 14.9, 0, "4A"),
    (SOLID, BASELINE, 15.0, 0, "4B"),
    # 5.96 mm is reported, and judged, as 6.0 mm.
    (SOLID, BASELINE, 5.96, 0, "3"),
    # New solid.
    (SOLID, NEW, 3.9, 0, "2"),
    (SOLID, NEW, 4.0, 0, "3"),
    (SOLID, NEW, 5.9, 0, "3"),
    (SOLID, NEW, 6.0, 0, "4A"),
    (SOLID, NEW, 7.9, 0, "4A"),
    (SOLID, NEW, 8.0, 0, "4B"),
    # Growing solid.
    (SOLID, GROWING, 7.9, 0, "4A"),
    (SOLID, GROWING, 8.0, 0, "4B"),
    (SOLID, SLOW, 5.0, 0, "4B"),
    # Part-solid.
    (PART_SOLID, BASELINE, 5.9, 4, "2"),
    (PART_SOLID, BASELINE, 6.0, 5.9, "3"),
    (PART_SOLID, BASELINE, 9.0, 6.0, "4A"),
    (PART_SOLID, BASELINE, 9.0, 7.9, "4A"),
    (PART_SOLID, BASELINE, 9.0, 8.0, "4B"),
    (PART_SOLID, NEW, 5.9, 4, "3"),
    (PART_SOLID, NEW, 6.0, 3.9, "4A"),
    (PART_SOLID, NEW, 6.0, 4.0, "4B"),
    (PART_SOLID, GROWING, 9.0, 3.9, "4A"),
    (PART_SOLID, GROWING, 9.0, 4.0, "4B"),
    (PART_SOLID, SLOW, 9.0, 2.0, "4B"),
    # Non-solid.
    (NON_SOLID, BASELINE, 29.9, 0, "2"),
    (NON_SOLID, GROWING, 29.9, 0, "2"),
    (NON_SOLID, BASELINE, 30.0, 0, "3"),
    (NON_SOLID, NEW, 30.0, 0, "3"),
    (NON_SOLID, STABLE, 30.0, 0, "2"),
    (NON_SOLID, SLOW, 30.0, 0, "2"),
]


@pytest.mark.parametrize(("kind", "growth", "total", "solid", "category"), LUNG_RADS_ROWS)
def test_lung_rads_by_type_growth_and_size(
    kind: int, growth: int, total: float, solid: float, category: str
) -> None:
    verdict = lung_rads.judge(facts(kind, growth, total, solid))
    assert verdict.category == category
    assert verdict.row


def test_a_smooth_juxtapleural_solid_nodule_below_10_mm_is_category_2() -> None:
    signs = ("juxtapleural", "smooth_margin")
    assert lung_rads.judge(facts(SOLID, BASELINE, 9.9, signs=signs)).category == "2"
    assert lung_rads.judge(facts(SOLID, BASELINE, 10.0, signs=signs)).category == "4A"
    assert lung_rads.judge(facts(SOLID, GROWING, 9.0, signs=signs)).category == "4B"
    rough = (*signs, "lobulation")
    assert lung_rads.judge(facts(SOLID, BASELINE, 9.0, signs=rough)).category == "4A"


def test_spiculation_raises_3_and_4_to_4x_and_nothing_below() -> None:
    assert lung_rads.judge(facts(SOLID, BASELINE, 20, signs=("spiculation",))).category == "4X"
    assert lung_rads.judge(facts(SOLID, BASELINE, 7, signs=("spiculation",))).category == "4X"
    assert lung_rads.judge(facts(SOLID, BASELINE, 5, signs=("spiculation",))).category == "2"


@pytest.mark.parametrize(
    ("before", "days", "mm", "now"),
    [
        ("3", 180, 7.0, "2"),
        ("3", 90, 7.0, "3"),
        ("4A", 90, 9.0, "3"),
        ("4A", 30, 9.0, "4A"),
        # Stepped down before and still the same.
        ("2", 365, 7.0, "2"),
        ("3", 90, 9.0, "3"),
        ("4B", 365, 16.0, "4B"),
        # It was new or grew, so its size alone says too little: it stays until a step-down.
        ("4A", 30, 6.0, "4A"),
        ("4A", 90, 6.0, "3"),
        ("4B", 90, 9.0, "4B"),
        ("4X", 365, 9.0, "4X"),
    ],
)
def test_a_stable_nodule_steps_down_in_time(before: str, days: float, mm: float, now: str) -> None:
    earlier = Earlier(SOLID, mm, 0.0, before, days)
    assert lung_rads.judge(facts(SOLID, STABLE, mm, earlier=earlier)).category == now


def test_a_smaller_nodule_may_go_by_its_size() -> None:
    earlier = Earlier(SOLID, 16.0, 0.0, "4B", 90)
    assert lung_rads.judge(facts(SOLID, SHRINKING, 9.0, earlier=earlier)).category == "4A"
    assert lung_rads.judge(facts(SOLID, SHRINKING, 5.0, earlier=earlier)).category == "2"


def test_a_large_non_solid_nodule_that_is_stable_is_2_as_the_table_says() -> None:
    earlier = Earlier(NON_SOLID, 31.0, 0.0, "3", 90)
    assert lung_rads.judge(facts(NON_SOLID, STABLE, 31.0, earlier=earlier)).category == "2"


def test_a_nodule_that_turned_solid_goes_by_its_size_now() -> None:
    earlier = Earlier(NON_SOLID, 9.0, 0.0, "2", 365)
    assert lung_rads.judge(facts(SOLID, STABLE, 9.0, earlier=earlier)).category == "4A"


def test_a_nodule_that_crosses_a_threshold_is_categorised_by_size_without_growth() -> None:
    earlier = Earlier(SOLID, 7.5, 0.0, "2", 365)
    assert lung_rads.judge(facts(SOLID, STABLE, 8.2, earlier=earlier)).category == "4A"


def test_what_is_not_measured_is_asked_for_and_not_guessed() -> None:
    assert lung_rads.judge(facts(AIRWAY, BASELINE, 8)) == Verdict(
        "", "airway nodule: its category depends on the airway", ("airway",)
    )
    assert lung_rads.judge(facts(CYST, BASELINE, 8)).needs == ("cyst_wall",)


def test_beside_an_undecided_nodule_the_exam_names_what_is_needed() -> None:
    undecided = lung_rads.judge(facts(AIRWAY, BASELINE, 8))
    exam = lung_rads.judge_exam([Verdict("3", "a"), undecided], frozenset())
    assert (exam.category, exam.needs) == ("3", ("airway",))


def test_the_exam_has_the_category_of_its_most_suspicious_nodule() -> None:
    verdicts = [Verdict("2", "a"), Verdict("4A", "b"), Verdict("3", "c")]
    assert lung_rads.judge_exam(verdicts, frozenset()).category == "4A"
    assert lung_rads.judge_exam([], frozenset()).category == "1"


def test_lungs_that_are_cut_off_give_category_0_unless_a_nodule_is_worse() -> None:
    cut = frozenset({"lungs_cut_off"})
    assert lung_rads.judge_exam([Verdict("2", "a")], cut).category == "0"
    assert lung_rads.judge_exam([Verdict("4B", "a")], cut).category == "4B"


@given(
    kind=st.sampled_from(TYPES),
    growth=st.sampled_from(GROWTHS),
    total=st.floats(1, 60),
    share=st.floats(0, 1),
)
def test_every_nodule_meets_a_row_of_both_guidelines(
    kind: int, growth: int, total: float, share: float
) -> None:
    nodule = facts(kind, growth, total, share * total)
    for verdict in (lung_rads.judge(nodule), c_lung_rads.judge(nodule)):
        assert bool(verdict.category) != bool(verdict.needs)


@given(
    before=st.sampled_from(("2", "3", "4A", "4B", "4X")),
    days=st.floats(0, 74),
    mm=st.floats(2, 40),
    kind=st.sampled_from((SOLID, PART_SOLID)),
)
def test_before_a_step_down_is_due_a_stable_nodule_never_falls(
    before: str, days: float, mm: float, kind: int
) -> None:
    earlier = Earlier(kind, mm, mm / 2, before, days)  # type: ignore[arg-type]
    now = lung_rads.judge(facts(kind, STABLE, mm, mm / 2, earlier=earlier))
    assert now.category == before


@given(
    growth=st.sampled_from((BASELINE, NEW, GROWING)),
    sizes=st.tuples(st.floats(2, 40), st.floats(2, 40)),
)
def test_a_larger_solid_nodule_never_has_a_lower_category(
    growth: int, sizes: tuple[float, float]
) -> None:
    small, large = (
        lung_rads.LUNG_RADS.rank(lung_rads.judge(facts(SOLID, growth, mm)).category)
        for mm in sorted(sizes)
    )
    assert small <= large


@pytest.mark.parametrize(
    ("kind", "total", "solid", "category"),
    [
        (CALCIFIED, 12, 0, "0"),
        (SOLID, 5.9, 0, "1"),
        (PART_SOLID, 5.9, 5, "1"),
        (NON_SOLID, 5.9, 0, "1"),
        (SOLID, 6.0, 0, "2"),
        (SOLID, 9.9, 0, "2"),
        (SOLID, 10.0, 0, "3"),
        (SOLID, 17.9, 0, "3"),
        (SOLID, 18.0, 0, "4"),
        (PART_SOLID, 6.0, 5.9, "2"),
        (PART_SOLID, 12, 6.0, "3"),
        (PART_SOLID, 12, 9.9, "3"),
        (PART_SOLID, 12, 10.0, "4"),
        (NON_SOLID, 6.0, 0, "2"),
        (NON_SOLID, 19.9, 0, "2"),
        (NON_SOLID, 20.0, 0, "3"),
    ],
)
def test_c_lung_rads_by_type_and_size(kind: int, total: float, solid: float, category: str) -> None:
    assert c_lung_rads.judge(facts(kind, BASELINE, total, solid)).category == category


@pytest.mark.parametrize(
    ("category", "months"),
    [("1", 12), ("2", 12), ("3", 6), ("4A", 3), ("4B", None), ("4X", None)],
)
def test_lung_rads_management_names_the_next_exam_or_work_up(
    category: str, months: int | None
) -> None:
    management = lung_rads.LUNG_RADS.management[category]
    assert management.months == months
    assert management.en
    assert management.zh


def test_sizes_of_both_exams_are_rounded_before_a_threshold_counts_as_crossed() -> None:
    earlier = Earlier(PART_SOLID, 15.94, 7.97, "2", 0)
    now = lung_rads.judge(facts(PART_SOLID, STABLE, 15.94, 7.97, earlier=earlier))
    assert now.category == "2"
