"""The follow-up service's own tables, and one patient's state in them.

A patient's version holds off writers: whoever computed from an older one writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    Index,
    LargeBinary,
    Select,
    String,
    bindparam,
    cast,
    delete,
    literal,
    select,
    union_all,
    update,
)
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
    """How two exams lie over each other (Laying, JSON in UTF-8); `key` names what made it."""

    __tablename__ = "followup_laying"
    __table_args__ = (Index("followup_laying_patient", "tenant", "patient"),)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    earlier_id: Mapped[str] = mapped_column(primary_key=True)
    current_id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str]
    key: Mapped[str]
    laying: Mapped[bytes]


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


def _part(table: Any, text: Any = None, data: Any = None, *ids: Any) -> Select[Any]:
    """Return a patient's rows of a table as columns that all tables have."""
    one, other = (*ids, "", "")[:2]
    return select(
        literal(table.__tablename__).label("table_name"),
        (literal(one) if one == "" else one).label("one"),
        (literal(other) if other == "" else other).label("other"),
        cast(text, String).label("text"),
        cast(data, LargeBinary).label("data"),
    ).where(table.tenant == bindparam("of_tenant"), table.patient == bindparam("of_patient"))


# One statement: a patient's state of one moment, by one question.
_STATE = union_all(
    _part(PatientRow, PatientRow.version),
    _part(ExamRow, None, ExamRow.event),
    _part(CorrectionRow, None, CorrectionRow.event),
    _part(LayingRow, LayingRow.key, LayingRow.laying, LayingRow.earlier_id, LayingRow.current_id),
    _part(ResultRow, None, ResultRow.event, ResultRow.study_id),
    _part(OutcomeRow, None, OutcomeRow.event),
)


async def read(session: AsyncSession, tenant: str, patient: str) -> State:
    """Return a patient's state; empty when nothing is kept."""
    rows = await session.execute(_STATE, {"of_tenant": tenant, "of_patient": patient})
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.table_name].append(row)

    def of(table: type[FollowupBase]) -> list[Any]:
        return found[table.__tablename__]

    return State(
        tenant,
        patient,
        max((int(row.text) for row in of(PatientRow)), default=0),
        tuple(NodulesAssessed.FromString(row.data) for row in of(ExamRow)),
        tuple(Correction.FromString(row.data) for row in of(CorrectionRow)),
        {
            (row.one, row.other): KeptLaying(row.text, Laying.from_json(row.data.decode()))
            for row in of(LayingRow)
        },
        {row.one: FollowupUpdated.FromString(row.data) for row in of(ResultRow)},
        tuple(Outcome.FromString(row.data) for row in of(OutcomeRow)),
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
    rows = [
        {
            "tenant": state.tenant,
            "earlier_id": earlier,
            "current_id": current,
            "patient": state.patient,
            "key": kept.key,
            "laying": kept.laying.to_json().encode(),
        }
        for (earlier, current), kept in sorted(layings.items())
    ]
    await _put(session, LayingRow, *rows)


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
        {
            "tenant": exam.study.tenant,
            "study_id": exam.study.study_id,
            "patient": exam.study.patient,
            "revision": exam.study.revision,
            "event": _bytes(exam),
        },
    )


async def keep_correction(session: AsyncSession, state: State, correction: Correction) -> None:
    """Keep what a person said."""
    await _put(
        session,
        CorrectionRow,
        {
            "tenant": state.tenant,
            "correction_id": correction.correction_id,
            "patient": state.patient,
            "event": _bytes(correction),
        },
    )


async def keep_outcome(session: AsyncSession, state: State, outcome: Outcome) -> None:
    """Keep what became of a patient."""
    await _put(
        session,
        OutcomeRow,
        {
            "tenant": state.tenant,
            "outcome_id": outcome.outcome_id,
            "patient": state.patient,
            "kind": outcome.kind,
            "day": day_of(outcome.date),
            "event": _bytes(outcome),
        },
    )


async def keep_results(
    session: AsyncSession, state: State, rows: Sequence[tuple[FollowupUpdated, Line]]
) -> None:
    """Keep results with their lines in the figures."""
    who = {"tenant": state.tenant, "patient": state.patient}
    made = ({**who, "event": _bytes(result), **asdict(line)} for result, line in rows)
    await _put(session, ResultRow, *made)


async def keep_due(session: AsyncSession, state: State, due: Due | None) -> None:
    """Keep what is to be done next for the patient, or that nothing is."""
    if due is None:
        mine = (DueRow.tenant == state.tenant, DueRow.patient == state.patient)
        await session.execute(delete(DueRow).where(*mine))
        return
    await _put(
        session,
        DueRow,
        {
            "tenant": state.tenant,
            "patient": state.patient,
            "study_id": due.study_id,
            "study_date": due.study_date,
            "due_day": due.due_day,
            "due_date": due.due_date,
            "work_up": due.work_up,
            "category": due.category.category,
            "described": _bytes(due.category),
        },
    )


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _insert(session: AsyncSession, table: type[FollowupBase]) -> Any:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table.__table__)


async def _put(session: AsyncSession, table: type[FollowupBase], *rows: Mapping[str, Any]) -> None:
    """Write rows, new or not; each names every column."""
    if not rows:
        return
    new = _insert(session, table)
    key = [column.name for column in table.__table__.primary_key]
    rest = {name: new.excluded[name] for name in rows[0] if name not in key}
    await session.execute(
        new.on_conflict_do_update(index_elements=key, set_=rest), [dict(row) for row in rows]
    )
