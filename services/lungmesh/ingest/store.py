"""Ingest's own tables: patients (sealed), studies, instances, quarantine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import LargeBinary, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lungmesh.v1.study_pb2 import BlobRef, ClinicalContext, StudyRef

DICOM = "application/dicom"


class IngestBase(DeclarativeBase):
    """Tables of ingest."""


class PatientRow(IngestBase):
    """A patient: found by a keyed hash, named by a random pseudonym, sealed."""

    __tablename__ = "ingest_patient"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    lookup: Mapped[str] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(unique=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class StudyRow(IngestBase):
    """A study: its newest closed revision, and whether something new is coming in."""

    __tablename__ = "ingest_study"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str]
    # Empty until the first object was accepted.
    patient_lookup: Mapped[str] = mapped_column(default="")
    patient: Mapped[str] = mapped_column(default="")
    # True while an assembly is open.
    receiving: Mapped[bool] = mapped_column(default=True)
    # 0 until the study was closed once.
    revision: Mapped[int] = mapped_column(default=0)
    # StudyState of the newest revision, or EXPIRED; why, and since when (seconds since 1970).
    state: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str] = mapped_column(default="")
    since: Mapped[float]
    # When the last object came.
    last_at: Mapped[float]
    # Refused objects by code, as JSON.
    refused: Mapped[str] = mapped_column(default="{}")
    priority: Mapped[int] = mapped_column(default=0)
    # ClinicalContext as the first header states it, and as CloseStudy stated it.
    header_clinical: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    stated_clinical: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    # Id of the newest revision's StudyReceived.
    event_id: Mapped[str] = mapped_column(default="")
    # Whether the newest revision's report and recommendation are there.
    reported: Mapped[bool] = mapped_column(default=False)
    recommended: Mapped[bool] = mapped_column(default=False)

    def reference(self) -> StudyRef:
        """Return the newest closed revision."""
        return StudyRef(
            tenant=self.tenant,
            patient=self.patient,
            study_id=self.study_id,
            revision=self.revision,
            priority=self.priority,  # type: ignore[arg-type]
        )

    def stated(self) -> ClinicalContext:
        """Return what CloseStudy said of the patient."""
        return ClinicalContext.FromString(self.stated_clinical)


class InstanceRow(IngestBase):
    """An accepted object in the object store."""

    __tablename__ = "ingest_instance"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    sop_class_uid: Mapped[str]
    series_instance_uid: Mapped[str]
    modality: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    usable: Mapped[bool]
    key: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    received_at: Mapped[float]
    revision: Mapped[int] = mapped_column(default=0)

    def file(self) -> BlobRef:
        """Return the object's reference."""
        return BlobRef(
            key=self.key, size_bytes=self.size_bytes, sha256=self.sha256, media_type=DICOM
        )


class QuarantineRow(IngestBase):
    """A refused object in the object store, with its reason."""

    __tablename__ = "ingest_quarantine"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    code: Mapped[str]
    reason: Mapped[str]
    status: Mapped[int]
    at: Mapped[float]


async def study(
    session: AsyncSession, tenant: str, study_id: str, for_update: bool = False
) -> StudyRow | None:
    """Return a study."""
    return await session.get(StudyRow, (tenant, study_id), with_for_update=for_update)


async def receiving(session: AsyncSession) -> Sequence[StudyRow]:
    """Return the studies whose assembly is open."""
    return (await session.scalars(select(StudyRow).where(StudyRow.receiving))).all()


async def instances(session: AsyncSession, tenant: str, study_id: str) -> Sequence[InstanceRow]:
    """Return a study's objects, by series and UID, so that a manifest is always the same."""
    found = await session.scalars(
        select(InstanceRow)
        .where(InstanceRow.tenant == tenant, InstanceRow.study_id == study_id)
        .order_by(InstanceRow.series_instance_uid, InstanceRow.sop_instance_uid)
    )
    return found.all()


async def known_uids(
    session: AsyncSession, tenant: str, study_id: str, uids: Iterable[str]
) -> set[str]:
    """Return which of the SOP Instance UIDs the study has."""
    found = await session.scalars(
        select(InstanceRow.sop_instance_uid).where(
            InstanceRow.tenant == tenant,
            InstanceRow.study_id == study_id,
            InstanceRow.sop_instance_uid.in_(list(uids)),
        )
    )
    return set(found)


async def patient_by_lookup(session: AsyncSession, tenant: str, lookup: str) -> PatientRow | None:
    """Return the patient of a keyed hash."""
    return await session.get(PatientRow, (tenant, lookup))


async def patient_by_pseudonym(
    session: AsyncSession, tenant: str, pseudonym: str
) -> PatientRow | None:
    """Return the patient of a pseudonym."""
    row: PatientRow | None = await session.scalar(
        select(PatientRow).where(PatientRow.tenant == tenant, PatientRow.pseudonym == pseudonym)
    )
    return row


async def quarantine(session: AsyncSession, tenant: str, limit: int) -> Sequence[QuarantineRow]:
    """Return the newest refused objects."""
    found = await session.scalars(
        select(QuarantineRow)
        .where(QuarantineRow.tenant == tenant)
        .order_by(QuarantineRow.at.desc(), QuarantineRow.key)
        .limit(limit)
    )
    return found.all()


async def counts(
    session: AsyncSession, tenant: str, study_ids: Sequence[str]
) -> dict[str, tuple[int, int, list[str]]]:
    """Return for each study its objects, its series and their modalities."""
    found = await session.execute(
        select(
            InstanceRow.study_id,
            InstanceRow.modality,
            func.count(),
            func.count(InstanceRow.series_instance_uid.distinct()),
        )
        .where(InstanceRow.tenant == tenant, InstanceRow.study_id.in_(study_ids))
        .group_by(InstanceRow.study_id, InstanceRow.modality)
        .order_by(InstanceRow.study_id, InstanceRow.modality)
    )
    summed: dict[str, tuple[int, int, list[str]]] = {}
    for study_id, modality, objects, series in found:
        before = summed.get(study_id, (0, 0, []))
        summed[study_id] = (before[0] + objects, before[1] + series, [*before[2], modality])
    return summed


async def studies(
    session: AsyncSession, tenant: str, uids: Sequence[str], patient_lookup: str, limit: int
) -> Sequence[StudyRow]:
    """Return studies, newest change first; empty `uids` or `patient_lookup` match every study."""
    query = select(StudyRow).where(StudyRow.tenant == tenant)
    if uids:
        query = query.where(StudyRow.study_instance_uid.in_(uids))
    if patient_lookup:
        query = query.where(StudyRow.patient_lookup == patient_lookup)
    found = await session.scalars(
        query.order_by(StudyRow.since.desc(), StudyRow.study_id).limit(limit)
    )
    return found.all()
