"""The fold: the same result whatever arrived first, and what makes a new edition."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.followup.guidelines import engine
from lungmesh.followup.timeline import Rules, changed, fold, months_later
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated, HandMeasurement
from lungmesh.v1.nodule_pb2 import NODULE_TYPE_PART_SOLID, Nodule, NodulesAssessed
from tests.support.followup import a_correction, layings
from tests.support.nodules import a_nodule, a_study, an_assessed_exam

HERE, THERE = (50.0, 80.0, -110.0), (-60.0, 20.0, -60.0)
RULES = Rules((engine.load("Lung-RADS"), engine.load("C-Lung-RADS")), 2)


def exam(name: str, date: str, *nodules: Nodule, revision: int = 1) -> NodulesAssessed:
    event = an_assessed_exam(a_study(name), nodules, date=date)
    event.study.revision = revision
    return event


A = exam("a", "20200101", a_nodule("a1", HERE, 7))
B = exam("b", "20200701", a_nodule("b1", HERE, 7))
C = exam("c", "20210101", a_nodule("c1", HERE, 7), a_nodule("c2", THERE, 5))


def folded(
    exams: Sequence[NodulesAssessed], corrections: Sequence[Correction] = ()
) -> list[FollowupUpdated]:
    return fold(exams, corrections, layings(exams), RULES)


Told = tuple[list[FollowupUpdated], list[FollowupUpdated]]


def told(
    exams: Sequence[NodulesAssessed],
    corrections: Sequence[Correction] = (),
    before: Sequence[FollowupUpdated] = (),
    rules: Rules = RULES,
) -> Told:
    """Return what is new after what was told before, and all as it stands."""
    kept = {result.study.study_id: result for result in before}
    return changed(fold(exams, corrections, layings(exams), rules, kept), kept)


def said(kind: str, of: NodulesAssessed, at: int = 1, **fields: object) -> Correction:
    return a_correction(f"{kind}{at}", kind, at, of.study.study_id, of.nodules[0], **fields)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(range(6)), unique=True))
def test_order_of_arrival_means_nothing(shuffle: random.Random, chosen: list[int]) -> None:
    every = [
        said("REJECT", A, 3),
        said("RETYPE", B, 2, type=NODULE_TYPE_PART_SOLID),
        said("REMEASURE", C, 5, measurement=HandMeasurement(long_axis_mm=12)),
        said("LINK", C, 4, other=said("CONFIRM", A).nodule),
        said("WITHDRAW", A, 9, withdraws=said("REJECT", A, 3).correction_id),
        said("CONFIRM", B, 1),
    ]
    corrections = [every[number] for number in chosen]
    exams = [A, B, C, exam("d", "20210101"), exam("undated", "", a_nodule("u", HERE, 7))]
    expected = folded(exams, corrections)
    shuffle.shuffle(corrections)
    shuffle.shuffle(exams)
    assert folded(exams, corrections) == expected


def test_a_late_exam_changes_those_after_it_and_they_get_a_new_edition() -> None:
    first, _ = told([B, C])
    assert [(r.study.study_id, r.edition) for r in first] == [
        (B.study.study_id, 1),
        (C.study.study_id, 1),
    ]
    news, now = told([A, B, C], (), first)
    assert [(r.study.study_id, r.edition) for r in news] == [
        (A.study.study_id, 1),
        (B.study.study_id, 2),
        (C.study.study_id, 2),
    ]
    # The nodule's name is that of its first appearance, which is now known.
    assert len({r.nodules[0].tracking.tracking_uid for r in now}) == 1
    assert told([A, B, C], (), now)[0] == []


def test_a_late_later_exam_changes_nothing_before_it() -> None:
    first, _ = told([A, B])
    news, now = told([A, B, C], (), first)
    assert [(r.study.study_id, r.edition) for r in news] == [(C.study.study_id, 1)]
    assert now[:2] == first


def test_a_correction_changes_its_exam_and_what_is_made_from_it() -> None:
    first, _ = told([A, B, C])
    size = said("REMEASURE", B, measurement=HandMeasurement(long_axis_mm=4, short_axis_mm=4))
    news, now = told([A, B, C], [size], first)
    assert [(r.study.study_id, r.edition) for r in news] == [
        (B.study.study_id, 2),
        (C.study.study_id, 2),
    ]
    assert now[2].nodules[0].tracking.history[0].mean_diameter_mm == 4.0
    # Withdrawn, everything is as it was, and the record tells of both.
    back = said("WITHDRAW", B, 2, withdraws=size.correction_id)
    news, now = told([A, B, C], [size, back], now)
    assert [r.edition for r in now] == [1, 3, 3]
    assert now[1].nodules == first[1].nodules
    assert len(now[1].corrections) == 2


def test_a_word_that_changes_no_later_result_is_no_new_edition_of_it() -> None:
    first, _ = told([A, B])
    news, now = told([A, B], [said("CONFIRM", A)], first)
    assert [(r.study.study_id, r.edition) for r in news] == [(A.study.study_id, 2)]
    assert now[1].edition == 1
    # It was made from more than before, and says so.
    assert now[1].state_id != first[1].state_id


def test_newer_rules_do_not_rewrite_what_was_told() -> None:
    first, _ = told([A, B])
    other = Rules((engine.load("C-Lung-RADS"),), 2)
    news, now = told([A, B], (), first, other)
    assert (news, now) == ([], first)


def test_a_new_revision_starts_with_its_first_edition() -> None:
    first, _ = told([A, B], [said("CONFIRM", B)])
    again = exam("b", "20200701", a_nodule("b1 again", HERE, 9), revision=2)
    news, _ = told([A, again], [said("CONFIRM", B)], first)
    assert [(r.study.revision, r.edition) for r in news] == [(2, 1)]
    # The word on the nodule is found again by its place.
    assert news[0].nodules[0].review.correction_ids


def test_a_rejected_nodule_is_kept_apart_and_counts_nowhere() -> None:
    first, last = folded([A, C], [said("REJECT", A)])
    assert not first.nodules
    assert [n.nodule_id for n in first.rejected] == [A.nodules[0].nodule_id]
    assert [c.category for c in first.exam_categories] == ["1"]
    assert {n.tracking.growth for n in last.nodules} == {2}
    assert not last.priors[0].resolved_nodule_ids


def test_a_risk_of_what_a_person_changed_is_not_taken_for_the_nodules() -> None:
    bts = Rules((engine.load("BTS"),), 2)
    event = exam("a", "20200101", a_nodule("a1", HERE, 9))
    risk = event.nodules[0].assessment.risks.add(probability=0.03)
    risk.model.name = "Brock"

    def needs(*corrections: Correction) -> list[str]:
        (result,) = fold([event], corrections, {}, bts)
        return list(result.nodules[0].categories[0].needs)

    assert "brock_probability" not in needs()
    other = said("REMEASURE", event, measurement=HandMeasurement(long_axis_mm=12))
    assert "brock_probability" in needs(other)


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2020, 1, 31), 1, date(2020, 2, 29)),
        (date(2020, 11, 30), 3, date(2021, 2, 28)),
        (date(2020, 12, 15), 12, date(2021, 12, 15)),
        (date(2020, 2, 29), 12, date(2021, 2, 28)),
    ],
)
def test_months_later_is_a_day_of_that_month(day: date, months: int, expected: date) -> None:
    assert months_later(day, months) == expected
