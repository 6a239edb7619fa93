"""The follow-up service's own tables, and one patient's state in them.

A patient's version holds off writers: whoever computed from an older one writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Index, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lungmesh.followup.laying import Laying
from lungmesh.followup.programme import Due, Line, day_of
from lungmesh.mesh.errors import Unavailable
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated, Outcome
from lungmesh.v1.nodule_pb2 import NodulesAssessed


class FollowupBase(DeclarativeBase):
    """Tables of the follow-up service."""


class PatientRow(FollowupBase):
    """One more at every change of the patient's state."""

    __tablename__ = "followup_patient"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]


class ExamRow(FollowupBase):
    """The newest revision of an exam as it came (NodulesAssessed, serialized)."""

    __tablename__ = "followup_exam"
    __table_args__ = (Index("followup_exam_patient", "tenant", "patient"),)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    revision: Mapped[int]
    event: Mapped[bytes]


class CorrectionRow(FollowupBase):
    """A person's word on a nodule (Correction, serialized); never changed, never removed."""

    __tablename__ = "followup_correction"
    __table_args__ = (Index("followup_correction_patient", "tenant", "patient"),)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    correction_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    event: Mapped[bytes]


class LayingRow(FollowupBase):
    """How two exams lie over each other (Laying, JSON); `key` names what it was made from."""

    __tablename__ = "followup_laying"
    __table_args__ = (Index("followup_laying_patient", "tenant", "patient"),)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    earlier_id: Mapped[str] = mapped_column(primary_key=True)
    current_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    key: Mapped[str]
    laying: Mapped[str]


class ResultRow(FollowupBase):
    """An exam's result as it was told last (FollowupUpdated), and its line in the figures."""

    __tablename__ = "followup_result"
    __table_args__ = (
        Index("followup_result_patient", "tenant", "patient"),
        Index("followup_result_study_day", "tenant", "study_day", "study_id"),
        Index("followup_result_due_day", "tenant", "due_day"),
    )
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    category: Mapped[str]
    positive: Mapped[bool]
    baseline: Mapped[bool]
    # Days as `date.toordinal` numbers them.
    study_day: Mapped[int | None]
    due_day: Mapped[int | None]
    next_day: Mapped[int | None]
    event: Mapped[bytes]


class DueRow(FollowupBase):
    """What is to be done next for a patient; `described` is the Category, serialized."""

    __tablename__ = "followup_due"
    __table_args__ = (
        Index("followup_due_day", "tenant", "due_day", "patient"),
        Index("followup_due_category", "tenant", "category", "due_day", "patient"),
    )
    tenant: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str]
    study_date: Mapped[str]
    due_day: Mapped[int]
    due_date: Mapped[str]
    work_up: Mapped[bool]
    category: Mapped[str]
    described: Mapped[bytes]


class OutcomeRow(FollowupBase):
    """What became of a patient (Outcome, serialized)."""

    __tablename__ = "followup_outcome"
    __table_args__ = (
        Index("followup_outcome_patient", "tenant", "patient"),
        Index("followup_outcome_day", "tenant", "kind", "day"),
    )
    tenant: Mapped[str] = mapped_column(primary_key=True)
    outcome_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    kind: Mapped[int]
    day: Mapped[int]
    event: Mapped[bytes]


@dataclass(frozen=True)
class KeptLaying:
    """A laying and the key of what it was made from."""

    key: str
    laying: Laying


@dataclass(frozen=True)
class State:
    """All that is kept of a patient.

    Attributes
    ----------
    version
        0 when nothing is kept yet.
    results
        By study id.
    """

    tenant: str
    patient: str
    version: int
    exams: tuple[NodulesAssessed, ...]
    corrections: tuple[Correction, ...]
    layings: Mapping[tuple[str, str], KeptLaying]
    results: Mapping[str, FollowupUpdated]
    outcomes: tuple[Outcome, ...]


async def read(session: AsyncSession, tenant: str, patient: str) -> State:
    """Return a patient's state; empty when nothing is kept."""

    async def rows(kind: Any) -> Sequence[Any]:
        found = await session.scalars(
            select(kind).where(kind.tenant == tenant, kind.patient == patient)
        )
        return found.all()

    # First: what is written after it is read again by whoever finds the version changed.
    version = await session.scalar(
        select(PatientRow.version).where(PatientRow.tenant == tenant, PatientRow.patient == patient)
    )
    return State(
        tenant,
        patient,
        version or 0,
        tuple(NodulesAssessed.FromString(row.event) for row in await rows(ExamRow)),
        tuple(Correction.FromString(row.event) for row in await rows(CorrectionRow)),
        {
            (row.earlier_id, row.current_id): KeptLaying(row.key, Laying.from_json(row.laying))
            for row in await rows(LayingRow)
        },
        {row.study_id: FollowupUpdated.FromString(row.event) for row in await rows(ResultRow)},
        tuple(Outcome.FromString(row.event) for row in await rows(OutcomeRow)),
    )


async def results_of(session: AsyncSession, tenant: str, patient: str) -> list[FollowupUpdated]:
    """Return a patient's results in order of study date; those without a date come first."""
    rows = await session.scalars(
        select(ResultRow).where(ResultRow.tenant == tenant, ResultRow.patient == patient)
    )
    ordered = sorted(rows, key=lambda row: (row.study_day or 0, row.study_id))
    return [FollowupUpdated.FromString(row.event) for row in ordered]


async def keep_layings(
    session: AsyncSession, state: State, layings: Mapping[tuple[str, str], KeptLaying]
) -> None:
    """Keep layings; they follow from their key, so no version holds them off."""
    for (earlier, current), kept in sorted(layings.items()):
        await _put(
            session,
            LayingRow,
            tenant=state.tenant,
            earlier_id=earlier,
            current_id=current,
            patient=state.patient,
            key=kept.key,
            laying=kept.laying.to_json(),
        )


async def advance(session: AsyncSession, state: State) -> None:
    """Take the patient's next version, and with it the right to write until the transaction ends.

    Raises Unavailable when another writer was faster: everything is to be computed anew.
    """
    if state.version:
        step = (
            update(PatientRow)
            .where(
                PatientRow.tenant == state.tenant,
                PatientRow.patient == state.patient,
                PatientRow.version == state.version,
            )
            .values(version=state.version + 1)
        )
    else:
        step = _insert(session, PatientRow).values(
            tenant=state.tenant, patient=state.patient, version=1
        )
        step = step.on_conflict_do_nothing()
    if await session.scalar(step.returning(PatientRow.version)) is None:
        raise Unavailable("the patient's timeline was changed at the same time: once more")


async def keep_exam(session: AsyncSession, exam: NodulesAssessed) -> None:
    """Keep the newest revision of an exam."""
    await _put(
        session,
        ExamRow,
        tenant=exam.study.tenant,
        study_id=exam.study.study_id,
        patient=exam.study.patient,
        revision=exam.study.revision,
        event=_bytes(exam),
    )


async def keep_correction(session: AsyncSession, state: State, correction: Correction) -> None:
    """Keep what a person said."""
    await _put(
        session,
        CorrectionRow,
        tenant=state.tenant,
        correction_id=correction.correction_id,
        patient=state.patient,
        event=_bytes(correction),
    )


async def keep_outcome(session: AsyncSession, state: State, outcome: Outcome) -> None:
    """Keep what became of a patient."""
    await _put(
        session,
        OutcomeRow,
        tenant=state.tenant,
        outcome_id=outcome.outcome_id,
        patient=state.patient,
        kind=outcome.kind,
        day=day_of(outcome.date),
        event=_bytes(outcome),
    )


async def keep_results(
    session: AsyncSession, state: State, rows: Sequence[tuple[FollowupUpdated, Line]]
) -> None:
    """Keep results with their lines in the figures."""
    for result, line in rows:
        await _put(
            session,
            ResultRow,
            tenant=state.tenant,
            patient=state.patient,
            event=_bytes(result),
            **asdict(line),
        )


async def keep_due(session: AsyncSession, state: State, due: Due | None) -> None:
    """Keep what is to be done next for the patient, or that nothing is."""
    if due is None:
        mine = (DueRow.tenant == state.tenant, DueRow.patient == state.patient)
        await session.execute(delete(DueRow).where(*mine))
        return
    await _put(
        session,
        DueRow,
        tenant=state.tenant,
        patient=state.patient,
        study_id=due.study_id,
        study_date=due.study_date,
        due_day=due.due_day,
        due_date=due.due_date,
        work_up=due.work_up,
        category=due.category.category,
        described=_bytes(due.category),
    )


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _insert(session: AsyncSession, kind: type[FollowupBase]) -> Any:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(kind)


async def _put(session: AsyncSession, table: type[FollowupBase], **values: Any) -> None:
    """Write a row, new or not."""
    key = [column.name for column in table.__table__.primary_key]
    changed = {name: value for name, value in values.items() if name not in key}
    statement = _insert(session, table).values(**values)
    await session.execute(statement.on_conflict_do_update(index_elements=key, set_=changed))
