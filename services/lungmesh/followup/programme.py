"""The screening programme: when a patient's next exam is due, and what counts in its figures.

Days are numbered as `date.toordinal` does, so that a database can reckon with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from lungmesh.followup.guidelines import engine
from lungmesh.followup.timeline import date_of, months_later
from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import Escalation, FollowupUpdated, Outcome
from lungmesh.v1.nodule_pb2 import Category

# After these nobody is called for screening any more.
_ENDINGS = (
    followup_pb2.OUTCOME_KIND_LUNG_CANCER,
    followup_pb2.OUTCOME_KIND_LEFT_PROGRAMME,
    followup_pb2.OUTCOME_KIND_DIED,
)
# Work-up that found nothing malignant: annual screening goes on. Lung-RADS v2022 puts a 4B that was
# proven benign into category 2, 12 months.
_AFTER_BENIGN_MONTHS = 12
# A lung cancer within so many days after a negative exam is an interval cancer.
INTERVAL_DAYS = 365


@dataclass(frozen=True)
class Line:
    """What an exam is in the programme's figures.

    Attributes
    ----------
    category, positive
        By the programme's guideline.
    study_day
        None when the exam has no date.
    due_day
        When the next exam was due; None where none was, or the patient had left by then.
    next_day
        When the patient's next exam was; None when there is none yet.
    """

    study_id: str
    category: str
    positive: bool
    baseline: bool
    study_day: int | None
    due_day: int | None
    next_day: int | None


@dataclass(frozen=True)
class Due:
    """What is to be done next for a patient.

    Attributes
    ----------
    due_day
        From when on it is due; work-up, and an exam that got no category for want of facts, are due
        from the exam's own day.
    due_date
        DICOM DA of the next exam; empty where that is not what is due.
    """

    study_id: str
    study_date: str
    due_day: int
    due_date: str
    work_up: bool
    category: Category


def day_of(text: str) -> int | None:
    """Return the number of a DICOM DA's day; None when it is missing or no date."""
    day = date_of(text)
    return None if day is None else day.toordinal()


def asked_day(text: str) -> int:
    """Return the number of a DICOM DA's day.

    Raises BadInput when it is no date.
    """
    day = day_of(text)
    if day is None:
        raise BadInput(f"{text} is no date", "no_date")
    return day


def check(outcome: Outcome) -> None:
    """Refuse an outcome that happened on no day.

    Raises BadInput.
    """
    asked_day(outcome.date)
    if outcome.stage and outcome.kind != followup_pb2.OUTCOME_KIND_LUNG_CANCER:
        raise BadInput("only lung cancer has a stage", "stage_without_cancer")


def lines(results: Sequence[FollowupUpdated], outcomes: Sequence[Outcome]) -> list[Line]:
    """Return a line an exam; the results are all of one patient's, in order of study date."""
    ends = [day_of(outcome.date) or 0 for outcome in outcomes if outcome.kind in _ENDINGS]
    days = [day_of(result.exam.volume.acquisition.study_date) for result in results]
    made = []
    for result, day in zip(results, days, strict=True):
        later = [other for other in days if other is not None and day is not None and other > day]
        due = day_of(result.next.due_date)
        if due is not None and any((day or 0) <= end <= due for end in ends):
            due = None
        made.append(
            Line(
                study_id=result.study.study_id,
                category=result.next.category,
                positive=is_positive(result),
                baseline=day is not None and day == min(d for d in days if d is not None),
                study_day=day,
                due_day=due,
                next_day=min(later, default=None),
            )
        )
    return made


def due(results: Sequence[FollowupUpdated], outcomes: Sequence[Outcome]) -> Due | None:
    """Return what is to be done next; None when nothing is, or nobody can know when.

    An exam after an outcome opens the programme again.
    """
    dated = [(day_of(r.exam.volume.acquisition.study_date), r) for r in results]
    known = [(day, result) for day, result in dated if day is not None]
    if not known:
        return None
    day, last = known[-1]
    since = {o.kind for o in outcomes if (day_of(o.date) or 0) >= day}
    if since & set(_ENDINGS):
        return None
    due_date, work_up = last.next.due_date, last.next.work_up
    if work_up and followup_pb2.OUTCOME_KIND_BENIGN in since:
        again = months_later(date.fromordinal(day), _AFTER_BENIGN_MONTHS)
        due_date, work_up = again.strftime("%Y%m%d"), False
    category = _category(last)
    undecided = not category.category and bool(category.needs)
    if not due_date and not work_up and not undecided:
        return None
    return Due(
        study_id=last.study.study_id,
        study_date=last.exam.volume.acquisition.study_date,
        due_day=asked_day(due_date) if due_date else day,
        due_date=due_date,
        work_up=work_up,
        category=category,
    )


def escalation(days_late: float, grace_days: int, lost_days: int) -> Escalation.ValueType:
    """Return how late an exam is; on the last day of grace it is still due."""
    if days_late < 0:
        return followup_pb2.ESCALATION_NOT_DUE
    if days_late <= grace_days:
        return followup_pb2.ESCALATION_DUE
    return (
        followup_pb2.ESCALATION_OVERDUE if days_late <= lost_days else followup_pb2.ESCALATION_LOST
    )


def due_days(
    state: Escalation.ValueType, today: int, grace_days: int, lost_days: int
) -> tuple[int | None, int | None]:
    """Return the first and last due day of a state, both included; None is no bound.

    Unspecified means whatever is due, overdue or lost.
    """
    due_since, lost_since = today - grace_days, today - lost_days
    return {
        followup_pb2.ESCALATION_NOT_DUE: (today + 1, None),
        followup_pb2.ESCALATION_DUE: (due_since, today),
        followup_pb2.ESCALATION_OVERDUE: (lost_since, due_since - 1),
        followup_pb2.ESCALATION_LOST: (None, lost_since - 1),
    }.get(state, (None, today))


def is_positive(result: FollowupUpdated) -> bool:
    """Return whether an exam is positive by the programme's guideline."""
    named = result.next.guideline
    if not named.name:
        return False
    return result.next.category in engine.load(named.name, named.version).positive


def _category(result: FollowupUpdated) -> Category:
    named = result.next.guideline
    for category in result.exam_categories:
        if category.guideline == named:
            return category
    return Category(guideline=named, category=result.next.category)
