"""The worklist's table: a row a study, its stages in a column."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Index, Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lungmesh.console.worklist import StageStatus, StudyStatus


class ConsoleBase(DeclarativeBase):
    """Tables of the console."""


class StudyRow(ConsoleBase):
    """A study as `StudyStatus` holds it; `changed_at` lets watchers find what is new."""

    __tablename__ = "console_study"
    __table_args__ = (
        Index("console_study_changed", "tenant", "changed_at"),
        Index("console_study_newest", "tenant", "first_seen", "study_id"),
        Index("console_study_outcome", "tenant", "outcome", "first_seen", "study_id"),
        Index("console_study_category", "tenant", "category", "first_seen", "study_id"),
        Index("console_study_priority", "tenant", "priority", "first_seen", "study_id"),
        Index("console_study_due", "tenant", "due_date", "study_id"),
        Index("console_study_patient", "tenant", "patient", "study_date"),
        Index("console_study_id", "study_id"),
    )
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    revision: Mapped[int]
    priority: Mapped[int]
    received_at: Mapped[float]
    finished_at: Mapped[float]
    category: Mapped[str]
    content_sha256: Mapped[str]
    recommended: Mapped[bool]
    study_date: Mapped[str]
    due_date: Mapped[str]
    work_up: Mapped[bool]
    edition: Mapped[int]
    report_edition: Mapped[int]
    # A number of StudyOutcome.
    outcome: Mapped[int]
    # JSON list of StageStatus.
    stages: Mapped[str]
    # The newest signature; it may be of an older edition than the row.
    signed_by: Mapped[str] = mapped_column(default="")
    signed_at: Mapped[float] = mapped_column(default=0.0)
    signed_revision: Mapped[int] = mapped_column(default=0)
    signed_edition: Mapped[int] = mapped_column(default=0)
    # Seconds since 1970.
    first_seen: Mapped[float]
    changed_at: Mapped[float]
    # One more at every change.
    version: Mapped[int]

    @property
    def signed(self) -> bool:
        """Whether the newest edition is signed."""
        return bool(self.signed_by) and (self.signed_revision, self.signed_edition) == (
            self.revision,
            self.edition,
        )


_COPIED = (
    *("patient", "revision", "priority", "received_at", "finished_at", "category"),
    *("content_sha256", "recommended", "study_date", "due_date", "work_up", "edition"),
    "report_edition",
)


async def read_for_update(session: AsyncSession, tenant: str, study_id: str) -> StudyStatus:
    """Return the study, empty when it is new, and hold its row until the transaction ends."""
    row = await session.get(StudyRow, (tenant, study_id), with_for_update=True)
    return status_of(row) if row is not None else StudyStatus(tenant, study_id)


async def write(session: AsyncSession, study: StudyStatus) -> None:
    """Keep the study and count the change."""
    row = await session.get(StudyRow, (study.tenant, study.study_id))
    if row is None:
        row = StudyRow(
            tenant=study.tenant, study_id=study.study_id, first_seen=time.time(), version=0
        )
        session.add(row)
    for name in _COPIED:
        setattr(row, name, getattr(study, name))
    row.outcome = study.outcome
    row.stages = json.dumps([asdict(stage) for stage in study.stages.values()])
    touch(row)


def touch(row: StudyRow) -> None:
    """Count a change, so that watchers see it."""
    row.changed_at = time.time()
    row.version += 1


async def newest(session: AsyncSession, tenant: str, limit: int) -> Sequence[StudyRow]:
    """Return at most `limit` studies, the newest first."""
    found = await session.scalars(
        select(StudyRow)
        .where(StudyRow.tenant == tenant)
        .order_by(StudyRow.first_seen.desc(), StudyRow.study_id.desc())
        .limit(limit)
    )
    return found.all()


async def changed_since(
    session: AsyncSession, tenant: str, study_id: str, since: float
) -> Sequence[StudyRow]:
    """Return the studies changed at or after a time (seconds since 1970), oldest change first.

    An empty `study_id` means all studies of the tenant.
    """
    conditions: list[ColumnElement[bool]] = [
        StudyRow.tenant == tenant,
        StudyRow.changed_at >= since,
    ]
    if study_id:
        conditions.append(StudyRow.study_id == study_id)
    found = await session.scalars(select(StudyRow).where(*conditions).order_by(StudyRow.changed_at))
    return found.all()


@dataclass(frozen=True)
class Filter:
    """What a worklist shows.

    Attributes
    ----------
    priority, outcome
        Numbers of the protos' enumerations; None means all.
    category
        Lung-RADS category; empty means all.
    due_before
        DICOM DA: only exams whose next one is due on or before it, the longest due first.
    """

    priority: int | None = None
    outcome: int | None = None
    category: str = ""
    due_before: str = ""


Cursor = tuple[float | str, str]


def cursor_of(row: StudyRow, wanted: Filter) -> Cursor:
    """Return the row's place in the order of a filter."""
    return (row.due_date if wanted.due_before else row.first_seen), row.study_id


async def page(
    session: AsyncSession,
    tenants: Collection[str],
    wanted: Filter,
    after: Cursor | None,
    limit: int,
) -> list[StudyRow]:
    """Return the next studies in the filter's order, after a place in it."""
    found: list[StudyRow] = []
    # One ordered walk of an index a tenant; a list of tenants in one query would sort them all.
    for tenant in tenants:
        found += await session.scalars(_page_of(tenant, wanted, after).limit(limit))
    found.sort(key=lambda row: cursor_of(row, wanted), reverse=not wanted.due_before)
    return found[:limit]


def _page_of(tenant: str, wanted: Filter, after: Cursor | None) -> Select[StudyRow]:
    query = select(StudyRow).where(StudyRow.tenant == tenant)
    if wanted.priority is not None:
        query = query.where(StudyRow.priority == wanted.priority)
    if wanted.outcome is not None:
        query = query.where(StudyRow.outcome == wanted.outcome)
    if wanted.category:
        query = query.where(StudyRow.category == wanted.category)
    if wanted.due_before:
        place = tuple_(StudyRow.due_date, StudyRow.study_id)
        query = query.where(StudyRow.due_date != "", StudyRow.due_date <= wanted.due_before)
        if after is not None:
            query = query.where(place > tuple_(*after))
        return query.order_by(StudyRow.due_date, StudyRow.study_id)
    if after is not None:
        query = query.where(tuple_(StudyRow.first_seen, StudyRow.study_id) < tuple_(*after))
    return query.order_by(StudyRow.first_seen.desc(), StudyRow.study_id.desc())


async def newest_exams(
    session: AsyncSession, rows: Sequence[StudyRow]
) -> Mapping[tuple[str, str], str]:
    """Return the newest study date (DICOM DA) of each (tenant, patient) of the rows."""
    found: dict[tuple[str, str], str] = {}
    for tenant in {row.tenant for row in rows}:
        patients = {row.patient for row in rows if row.tenant == tenant}
        answer = await session.execute(
            select(StudyRow.patient, func.max(StudyRow.study_date))
            .where(StudyRow.tenant == tenant, StudyRow.patient.in_(patients))
            .group_by(StudyRow.patient)
        )
        found |= {(tenant, patient): day for patient, day in answer}
    return found


def status_of(row: StudyRow) -> StudyStatus:
    """Return the row as the domain sees it."""
    stages = [StageStatus(**stage) for stage in json.loads(row.stages)]
    copied = {name: getattr(row, name) for name in _COPIED}
    return StudyStatus(
        tenant=row.tenant,
        study_id=row.study_id,
        stages={stage.stage: stage for stage in stages},
        **copied,
    )
