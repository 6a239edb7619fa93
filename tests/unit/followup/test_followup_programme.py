"""When a patient's next exam is due, how late it is, and what an exam is in the figures."""

from __future__ import annotations

from datetime import date

import pytest

from lungmesh.followup import programme
from lungmesh.followup.guidelines import engine
from lungmesh.followup.timeline import Rules, fold
from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import Escalation, FollowupUpdated, Outcome
from lungmesh.v1.nodule_pb2 import NODULE_TYPE_AIRWAY, NODULE_TYPE_SOLID, NoduleType
from tests.support.followup import an_outcome, layings
from tests.support.nodules import a_nodule, a_study, an_assessed_exam

HERE = (50.0, 80.0, -110.0)
RULES = Rules((engine.load("Lung-RADS"),), 2)


def results(
    *exams: tuple[str, float], kind: NoduleType.ValueType = NODULE_TYPE_SOLID
) -> list[FollowupUpdated]:
    """Fold exams of (date, diameter of the one nodule)."""
    events = [
        an_assessed_exam(a_study(f"e{number}"), [a_nodule(f"n{number}", HERE, mm, kind)], date=day)
        for number, (day, mm) in enumerate(exams)
    ]
    return fold(events, (), layings(events), RULES)


def due_of(*outcomes: Outcome, exams: tuple[tuple[str, float], ...]) -> tuple[str, bool] | None:
    due = programme.due(results(*exams), outcomes)
    return None if due is None else (due.due_date, due.work_up)


def test_the_last_exam_names_what_is_due() -> None:
    assert due_of(exams=(("20200101", 5),)) == ("20210101", False)
    assert due_of(exams=(("20200101", 5), ("20210110", 7))) == ("20210410", False)
    assert due_of(exams=(("", 5),)) is None


def test_work_up_is_due_from_the_day_of_the_exam() -> None:
    due = programme.due(results(("20200101", 20)), [])
    assert due is not None
    assert (due.due_date, due.work_up) == ("", True)
    assert due.due_day == date(2020, 1, 1).toordinal()
    assert due.category.category == "4B"


def test_an_exam_without_a_category_is_nobodys_to_forget() -> None:
    due = programme.due(results(("20200101", 9), kind=NODULE_TYPE_AIRWAY), [])
    assert due is not None
    assert (due.due_date, due.work_up, list(due.category.needs)) == ("", False, ["airway"])


@pytest.mark.parametrize("kind", ["LUNG_CANCER", "LEFT_PROGRAMME", "DIED"])
def test_whoever_left_is_not_called_and_whoever_comes_again_is(kind: str) -> None:
    exams = (("20200101", 5.0),)
    assert due_of(an_outcome(kind, "20200601"), exams=exams) is None
    # The exam is later than the outcome: the patient is back.
    assert due_of(an_outcome(kind, "20191231"), exams=exams) == ("20210101", False)


def test_work_up_that_found_nothing_leads_back_to_annual_screening() -> None:
    benign = an_outcome("BENIGN", "20200301")
    assert due_of(benign, exams=(("20200101", 20.0),)) == ("20210101", False)
    # It answers no exam that came after it.
    assert due_of(benign, exams=(("20200101", 20.0), ("20200501", 20.0))) == ("", True)


def test_days_late_make_the_escalation_and_the_bounds_of_a_list_agree() -> None:
    today = date(2021, 6, 1).toordinal()
    for late in range(-40, 400):
        state = programme.escalation(late, 30, 180)
        for asked in Escalation.values():
            first, last = programme.due_days(asked, today, 30, 180)
            day = today - late
            listed = (first is None or first <= day) and (last is None or day <= last)
            wanted = state == asked or (
                asked == followup_pb2.ESCALATION_UNSPECIFIED
                and state != followup_pb2.ESCALATION_NOT_DUE
            )
            assert listed == wanted, (late, asked)


def test_an_exams_line_says_when_the_next_one_was_due_and_came() -> None:
    first, second = programme.lines(results(("20200101", 5), ("20210110", 20)), [])
    assert (first.baseline, first.positive, first.category) == (True, False, "2")
    assert first.due_day == date(2021, 1, 1).toordinal()
    assert first.next_day == date(2021, 1, 10).toordinal()
    assert (second.baseline, second.positive, second.due_day) == (False, True, None)


def test_nothing_was_due_of_whoever_had_left_by_then() -> None:
    exams = results(("20200101", 5.0), ("20210110", 5.0))
    left = [an_outcome("LEFT_PROGRAMME", "20210601")]
    first, second = programme.lines(exams, left)
    assert first.due_day is not None
    assert second.due_day is None


def test_an_outcome_has_a_day_and_only_cancer_a_stage() -> None:
    for wrong in (an_outcome("DIED", "20201399"), an_outcome("BENIGN", "20200101", stage="IA1")):
        with pytest.raises(BadInput):
            programme.check(wrong)
