"""The programme's lists and figures, read from the tables by their indexes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, case, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.followup.programme import INTERVAL_DAYS
from lungmesh.followup.store import DueRow, OutcomeRow, ResultRow
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated, Outcome

_BATCH = 500
# A worklist is read in this order; a page ends at one, the next begins behind it.
Place = tuple[int, str]


@dataclass(frozen=True)
class Late:
    """How many exams are due, overdue and lost on a day."""

    due: int = 0
    overdue: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Figures:
    """A programme's figures over a time.

    Attributes
    ----------
    positive
        Exams of a positive category.
    called, came
        Exams that were due, and those that came within the grace.
    interval_cancers
        Lung cancers within a year after a negative exam.
    """

    patients: int
    exams: int
    baseline: int
    positive: int
    categories: dict[str, int]
    called: int
    came: int
    cancers_after_positive: int
    interval_cancers: int


@dataclass(frozen=True)
class RegistryExam:
    """An exam as the registry export takes it, with the patient's outcomes in order of day."""

    place: Place
    patient: str
    baseline: bool
    positive: bool
    next_day: int | None
    result: FollowupUpdated
    outcomes: tuple[Outcome, ...]


def due_page(
    tenant: str,
    days: tuple[int | None, int | None],
    category: str,
    after: Place | None,
    limit: int,
) -> Select[DueRow]:
    """Return the query for a page of what is due, the longest overdue first.

    Parameters
    ----------
    days
        First and last due day, both included; None is no bound.
    category
        Only this one; empty means all.
    after
        The last row of the page before.
    """
    conditions: list[ColumnElement[bool]] = [DueRow.tenant == tenant]
    first, last = days
    if first is not None:
        conditions.append(DueRow.due_day >= first)
    if last is not None:
        conditions.append(DueRow.due_day <= last)
    if category:
        conditions.append(DueRow.category == category)
    if after is not None:
        conditions.append(tuple_(DueRow.due_day, DueRow.patient) > after)
    return select(DueRow).where(*conditions).order_by(DueRow.due_day, DueRow.patient).limit(limit)


async def late(
    session: AsyncSession, today: int, grace_days: int, lost_days: int, tenant: str = ""
) -> dict[str, Late]:
    """Return, by tenant, how many exams are due, overdue and lost; one tenant's if it is named."""
    overdue, lost = DueRow.due_day < today - grace_days, DueRow.due_day < today - lost_days
    query = (
        select(
            DueRow.tenant,
            func.count(),
            func.sum(case((overdue, 1), else_=0)),
            func.sum(case((lost, 1), else_=0)),
        )
        .where(DueRow.due_day <= today)
        .group_by(DueRow.tenant)
    )
    if tenant:
        query = query.where(DueRow.tenant == tenant)
    rows = (await session.execute(query)).all()
    return {
        name: Late(every - since_grace, since_grace - since_lost, since_lost)
        for name, every, since_grace, since_lost in rows
    }


async def due_categories(session: AsyncSession) -> dict[tuple[str, str], int]:
    """Return how many patients are to be followed, by tenant and category."""
    rows = await session.execute(
        select(DueRow.tenant, DueRow.category, func.count()).group_by(
            DueRow.tenant, DueRow.category
        )
    )
    return {(tenant, category): count for tenant, category, count in rows}


async def figures(
    session: AsyncSession, tenant: str, first: int, last: int, grace_days: int
) -> Figures:
    """Return the figures of the days from `first` to `last`, both included."""
    inside = and_(ResultRow.tenant == tenant, ResultRow.study_day.between(first, last))
    by_category = (
        await session.execute(
            select(
                ResultRow.category,
                func.count(),
                func.sum(case((ResultRow.baseline, 1), else_=0)),
                func.sum(case((ResultRow.positive, 1), else_=0)),
            )
            .where(inside)
            .group_by(ResultRow.category)
            .order_by(ResultRow.category)
        )
    ).all()
    patients = await session.scalar(
        select(func.count(func.distinct(ResultRow.patient))).where(inside)
    )
    # Whose grace has not run out by the last day may still come.
    called = and_(ResultRow.tenant == tenant, ResultRow.due_day.between(first, last - grace_days))
    in_time = ResultRow.next_day <= ResultRow.due_day + grace_days
    due, came = (
        await session.execute(
            select(func.count(), func.sum(case((in_time, 1), else_=0))).where(called)
        )
    ).one()
    after_positive, interval = await _cancers(session, tenant, first, last)
    return Figures(
        patients=patients or 0,
        exams=sum(row[1] for row in by_category),
        baseline=sum(row[2] for row in by_category),
        positive=sum(row[3] for row in by_category),
        categories={row[0]: row[1] for row in by_category},
        called=due,
        came=came or 0,
        cancers_after_positive=after_positive,
        interval_cancers=interval,
    )


async def _cancers(session: AsyncSession, tenant: str, first: int, last: int) -> tuple[int, int]:
    """Return how many lung cancers followed a positive exam, and how many a negative one soon.

    Of a patient the first diagnosis counts, and the last exam before it.
    """
    cancer = and_(
        OutcomeRow.tenant == tenant,
        OutcomeRow.kind == followup_pb2.OUTCOME_KIND_LUNG_CANCER,
        OutcomeRow.day.between(first, last),
    )
    before = and_(
        ResultRow.tenant == OutcomeRow.tenant,
        ResultRow.patient == OutcomeRow.patient,
        ResultRow.study_day <= OutcomeRow.day,
    )
    rows = await session.execute(
        select(OutcomeRow.patient, OutcomeRow.day, ResultRow.study_day, ResultRow.positive)
        .join(ResultRow, before)
        .where(cancer)
        .order_by(OutcomeRow.patient, OutcomeRow.day.desc(), ResultRow.study_day)
    )
    # The last row of a patient is that of the first diagnosis and the latest exam.
    latest = {patient: (day - (exam or 0), positive) for patient, day, exam, positive in rows}
    after_positive = sum(positive for _, positive in latest.values())
    interval = sum(not positive and days <= INTERVAL_DAYS for days, positive in latest.values())
    return after_positive, interval


def registry_query(tenant: str, after: Place, last: int) -> Select[ResultRow]:
    """Return the query for the exams behind a place (study day, study id) up to a day."""
    return (
        select(ResultRow)
        .where(
            ResultRow.tenant == tenant,
            tuple_(ResultRow.study_day, ResultRow.study_id) > after,
            ResultRow.study_day <= last,
        )
        .order_by(ResultRow.study_day, ResultRow.study_id)
        .limit(_BATCH)
    )


async def registry_page(
    session: AsyncSession, tenant: str, after: Place, last: int
) -> list[RegistryExam]:
    """Return the exams behind a place (study day, study id) up to a day, as many as fit a page."""
    rows = (await session.scalars(registry_query(tenant, after, last))).all()
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    kept = await session.scalars(
        select(OutcomeRow)
        .where(OutcomeRow.tenant == tenant, OutcomeRow.patient.in_({row.patient for row in rows}))
        .order_by(OutcomeRow.day, OutcomeRow.outcome_id)
    )
    for outcome in kept:
        outcomes[outcome.patient].append(Outcome.FromString(outcome.event))
    return [
        RegistryExam(
            (row.study_day or 0, row.study_id),
            row.patient,
            row.baseline,
            row.positive,
            row.next_day,
            FollowupUpdated.FromString(row.event),
            tuple(outcomes[row.patient]),
        )
        for row in rows
    ]
