"""The console's own tables: a row a study, its stages in a column."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import ColumnElement, Index, select
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
        Index("console_study_first_seen", "tenant", "first_seen"),
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
    # JSON list of StageStatus.
    stages: Mapped[str]
    # Seconds since 1970.
    first_seen: Mapped[float]
    changed_at: Mapped[float]
    # One more at every change.
    version: Mapped[int]


async def read_for_update(session: AsyncSession, tenant: str, study_id: str) -> StudyStatus:
    """Return the study, empty when it is new, and hold its row until the transaction ends."""
    row = await session.get(StudyRow, (tenant, study_id), with_for_update=True)
    return status_of(row) if row is not None else StudyStatus(tenant, study_id)


async def write(session: AsyncSession, study: StudyStatus) -> None:
    """Keep the study and count the change."""
    now = time.time()
    row = await session.get(StudyRow, (study.tenant, study.study_id))
    if row is None:
        row = StudyRow(tenant=study.tenant, study_id=study.study_id, first_seen=now, version=0)
        session.add(row)
    row.patient = study.patient
    row.revision = study.revision
    row.priority = study.priority
    row.received_at = study.received_at
    row.finished_at = study.finished_at
    row.category = study.category
    row.content_sha256 = study.content_sha256
    row.recommended = study.recommended
    row.stages = json.dumps([asdict(stage) for stage in study.stages.values()])
    row.changed_at = now
    row.version += 1


async def newest(session: AsyncSession, tenant: str, limit: int) -> Sequence[StudyRow]:
    """Return at most `limit` studies, the newest first."""
    found = await session.scalars(
        select(StudyRow)
        .where(StudyRow.tenant == tenant)
        .order_by(StudyRow.first_seen.desc(), StudyRow.study_id)
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


def status_of(row: StudyRow) -> StudyStatus:
    """Return the row as the domain sees it."""
    stages = [StageStatus(**stage) for stage in json.loads(row.stages)]
    return StudyStatus(
        tenant=row.tenant,
        study_id=row.study_id,
        patient=row.patient,
        revision=row.revision,
        priority=row.priority,
        received_at=row.received_at,
        finished_at=row.finished_at,
        category=row.category,
        content_sha256=row.content_sha256,
        recommended=row.recommended,
        stages={stage.stage: stage for stage in stages},
    )
