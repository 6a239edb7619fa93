"""The follow-up service's own table: each patient's exams, as their last FollowupUpdated."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Index, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lungmesh.v1.followup_pb2 import FollowupUpdated


class FollowupBase(DeclarativeBase):
    """Tables of the follow-up service."""


class ExamRow(FollowupBase):
    """The newest revision of one study of one patient."""

    __tablename__ = "followup_exam"
    __table_args__ = (Index("followup_exam_patient", "tenant", "patient", "study_date"),)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    revision: Mapped[int]
    # DICOM DA; empty when the exam has none.
    study_date: Mapped[str]
    # FollowupUpdated, serialized.
    event: Mapped[bytes]


async def exams_of(session: AsyncSession, tenant: str, patient: str) -> Sequence[FollowupUpdated]:
    """Return a patient's exams in order of study date; those without a date come first."""
    rows = await session.scalars(
        select(ExamRow)
        .where(ExamRow.tenant == tenant, ExamRow.patient == patient)
        .order_by(ExamRow.study_date, ExamRow.study_id)
    )
    return [FollowupUpdated.FromString(row.event) for row in rows]


async def keep(session: AsyncSession, exam: FollowupUpdated) -> None:
    """Keep an exam; an older revision than the kept one changes nothing."""
    study = exam.study
    row = await session.get(ExamRow, (study.tenant, study.study_id), with_for_update=True)
    if row is None:
        row = ExamRow(tenant=study.tenant, study_id=study.study_id)
        session.add(row)
    elif row.revision > study.revision:
        return
    row.patient = study.patient
    row.revision = study.revision
    row.study_date = exam.exam.volume.acquisition.study_date
    row.event = exam.SerializeToString(deterministic=True)
