"""What the page shows of a study beside its row: the newest events, whole, and its signatures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import time

from google.protobuf.message import Message
from sqlalchemy import LargeBinary, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from lungmesh.console import store
from lungmesh.console.store import ConsoleBase, StudyRow
from lungmesh.console.worklist import apply, edition_of
from lungmesh.v1.console_pb2 import StudySigned
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.report_pb2 import ReportDelivered, ReportReady
from lungmesh.v1.study_pb2 import StudyReceived


class ResultRow(ConsoleBase):
    """The newest revision's events, serialized: each the newest edition that has come."""

    __tablename__ = "console_result"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int]
    received: Mapped[bytes | None] = mapped_column(LargeBinary)
    followup: Mapped[bytes | None] = mapped_column(LargeBinary)
    report: Mapped[bytes | None] = mapped_column(LargeBinary)


class SignatureRow(ConsoleBase):
    """A signature on an edition; never changed."""

    __tablename__ = "console_signature"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    edition: Mapped[int] = mapped_column(primary_key=True)
    author: Mapped[str]
    # Seconds since 1970.
    at: Mapped[float]
    state_id: Mapped[str]
    content_sha256: Mapped[str]


class ModelRow(ConsoleBase):
    """A model or rule set that a result named."""

    __tablename__ = "console_model"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    last_seen: Mapped[float]


class DestinationRow(ConsoleBase):
    """A destination that confirmed reports."""

    __tablename__ = "console_destination"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    delivered: Mapped[int]
    last_at: Mapped[float]


@dataclass(frozen=True)
class Held:
    """A study as the console holds it; what has not come yet is None."""

    row: StudyRow
    received: StudyReceived | None
    followup: FollowupUpdated | None
    report: ReportReady | None


async def fold(session: AsyncSession, event: Message, now: float) -> bool:
    """Fold an event of the mesh into the console's tables; return whether the row changed.

    Parameters
    ----------
    event
        One of `worklist.CONSUMED`.
    now
        Seconds since 1970.
    """
    reference = event.study  # type: ignore[attr-defined]
    study = await store.read_for_update(session, reference.tenant, reference.study_id)
    changed = apply(study, event, now)
    if reference.revision == study.revision:
        await _keep(session, event, now)
    if changed:
        await store.write(session, study)
    return changed


async def _keep(session: AsyncSession, event: Message, now: float) -> None:
    if isinstance(event, ReportDelivered):
        await _delivered(session, event, now)
    if not isinstance(event, (StudyReceived, FollowupUpdated, ReportReady)):
        return
    study = event.study
    row = await session.get(ResultRow, (study.tenant, study.study_id))
    if row is None:
        row = ResultRow(tenant=study.tenant, study_id=study.study_id, revision=study.revision)
        session.add(row)
    if row.revision != study.revision:
        row.revision = study.revision
        row.received = row.followup = row.report = None
    if isinstance(event, StudyReceived):
        row.received = event.SerializeToString()
    elif isinstance(event, FollowupUpdated):
        if not row.followup or edition_of(event) >= edition_of(_followup(row.followup)):
            row.followup = event.SerializeToString()
        await _models(session, event, now)
    elif not row.report or edition_of(event) >= edition_of(ReportReady.FromString(row.report)):
        row.report = event.SerializeToString()


def _followup(value: bytes) -> FollowupUpdated:
    return FollowupUpdated.FromString(value)


async def _models(session: AsyncSession, event: FollowupUpdated, now: float) -> None:
    for name, version in sorted({(model.name, model.version) for model in event.models}):
        row = await session.get(ModelRow, (event.study.tenant, name, version))
        if row is None:
            row = ModelRow(tenant=event.study.tenant, name=name, version=version)
            session.add(row)
        row.last_seen = now


async def _delivered(session: AsyncSession, event: ReportDelivered, now: float) -> None:
    row = await session.get(DestinationRow, (event.study.tenant, event.destination))
    if row is None:
        row = DestinationRow(tenant=event.study.tenant, name=event.destination, delivered=0)
        session.add(row)
    row.delivered += 1
    row.last_at = now


async def read(session: AsyncSession, tenants: Collection[str], study_id: str) -> Held | None:
    """Return a study of one of the tenants, None when they have none."""
    found = await session.scalars(
        select(StudyRow).where(StudyRow.study_id == study_id, StudyRow.tenant.in_(tenants))
    )
    row = found.first()
    if row is None:
        return None
    kept = await session.get(ResultRow, (row.tenant, study_id))
    if kept is None or kept.revision != row.revision:
        return Held(row, None, None, None)
    return Held(
        row=row,
        received=StudyReceived.FromString(kept.received) if kept.received else None,
        followup=_followup(kept.followup) if kept.followup else None,
        report=ReportReady.FromString(kept.report) if kept.report else None,
    )


async def held_studies(
    session: AsyncSession, tenant: str, patient: str, study_ids: Collection[str]
) -> set[str]:
    """Return which of the studies are this patient's and here."""
    found = await session.scalars(
        select(StudyRow.study_id).where(
            StudyRow.tenant == tenant,
            StudyRow.patient == patient,
            StudyRow.study_id.in_(study_ids),
        )
    )
    return set(found)


async def signatures(session: AsyncSession, tenant: str, study_id: str) -> Sequence[SignatureRow]:
    """Return a study's signatures, oldest first."""
    found = await session.scalars(
        select(SignatureRow)
        .where(SignatureRow.tenant == tenant, SignatureRow.study_id == study_id)
        .order_by(SignatureRow.at)
    )
    return found.all()


async def sign(
    session: AsyncSession, held: Held, report: ReportReady, author: str
) -> StudySigned | None:
    """Sign the newest edition and return the event; None when it was signed before.

    Parameters
    ----------
    held
        The study, whose row the session holds for update.
    report
        Of that edition.
    """
    row = held.row
    known = await session.get(SignatureRow, (row.tenant, row.study_id, row.revision, row.edition))
    if known is not None:
        return None
    at = time()
    signature = SignatureRow(
        tenant=row.tenant,
        study_id=row.study_id,
        revision=row.revision,
        edition=row.edition,
        author=author,
        at=at,
        state_id=held.followup.state_id if held.followup is not None else "",
        content_sha256=report.content_sha256,
    )
    session.add(signature)
    row.signed_by, row.signed_at = author, at
    row.signed_revision, row.signed_edition = row.revision, row.edition
    store.touch(row)
    event = StudySigned(
        study=report.study,
        edition=row.edition,
        state_id=signature.state_id,
        content_sha256=signature.content_sha256,
        author=author,
    )
    event.at.FromMicroseconds(round(at * 1e6))
    return event
