"""From the spool to where things stay: objects into the object store, facts into the database."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.ingest import store
from lungmesh.ingest.clinical import clinical_of
from lungmesh.ingest.identity import Vault, identity_of
from lungmesh.ingest.index import StudyKey
from lungmesh.ingest.intake import Accepted, Refused, instance_key
from lungmesh.ingest.spool import Spooled
from lungmesh.ingest.store import InstanceRow, PatientRow, QuarantineRow, StudyRow
from lungmesh.mesh.blobs import BlobStore, reference
from lungmesh.mesh.ids import study_id
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, BlobRef


@dataclass
class Batch:
    """Objects of one study, or without one (unreadable), that are saved together."""

    accepted: list[Accepted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many objects it has."""
        return len(self.accepted) + len(self.refused)

    def files(self) -> list[Spooled]:
        """Return the objects in the spool."""
        return [item.file for item in self.accepted] + [item.file for item in self.refused]

    def times(self) -> list[float]:
        """Return when each object came."""
        return [item.at for item in self.accepted] + [item.at for item in self.refused]


@dataclass(frozen=True)
class Saved:
    """What saving a batch found.

    Attributes
    ----------
    receiving
        Whether the study's assembly is open now.
    new
        SOP Instance UIDs that the study did not have.
    """

    receiving: bool
    new: frozenset[str] = frozenset()


class Shelf:
    """Saves batches; saving one again after a crash changes nothing."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], blobs: BlobStore, vault: Vault
    ) -> None:
        self._sessions, self._blobs, self._vault = sessions, blobs, vault

    async def save(self, key: StudyKey, batch: Batch) -> Saved:
        """Keep a batch's objects, write its rows, then empty the spool of it.

        Raises Unavailable when the object store, SQLAlchemyError when the database is away.
        """
        files, refused = await asyncio.to_thread(self._put, batch)
        tenant, uid = key
        async with self._sessions() as session, session.begin():
            await self._quarantine(session, refused)
            saved = Saved(False)
            if uid:
                saved = await self._study(session, tenant, uid, batch, files)
        await asyncio.to_thread(self._clear, batch)
        return saved

    def _put(self, batch: Batch) -> tuple[dict[str, BlobRef], list[tuple[Refused, BlobRef]]]:
        files = {}
        for item in batch.accepted:
            header, tenant = item.header, item.file.tenant
            key = instance_key(tenant, header.study_instance_uid, header.sop_instance_uid)
            try:
                data = item.file.read()
            except FileNotFoundError:
                # Saved before, but the answer of the database was lost.
                data = self._blobs.get_key(key)
            files[header.sop_instance_uid] = self._blobs.put(key, data, store.DICOM)
        refused = []
        for other in batch.refused:
            try:
                data = other.file.read()
            except FileNotFoundError:
                continue
            # Refused bytes are named by their content: refused twice, they are kept once.
            name = reference("-", data).sha256
            key = f"{other.file.tenant}/quarantine/{name}"
            refused.append((other, self._blobs.put(key, data)))
        return files, refused

    @staticmethod
    def _clear(batch: Batch) -> None:
        for file in batch.files():
            file.remove()

    @staticmethod
    async def _quarantine(
        session: AsyncSession, refused: Sequence[tuple[Refused, BlobRef]]
    ) -> None:
        for item, ref in refused:
            await session.merge(
                QuarantineRow(
                    tenant=item.file.tenant,
                    key=ref.key,
                    size_bytes=ref.size_bytes,
                    sha256=ref.sha256,
                    code=item.rejection.code,
                    reason=str(item.rejection),
                    status=item.rejection.refusal.status,
                    at=item.at,
                )
            )

    async def _study(
        self,
        session: AsyncSession,
        tenant: str,
        uid: str,
        batch: Batch,
        files: dict[str, BlobRef],
    ) -> Saved:
        name = study_id(tenant, uid)
        there = await store.known_uids(session, tenant, name, files)
        new = [item for item in batch.accepted if item.header.sop_instance_uid not in there]
        row = await store.study(session, tenant, name, for_update=True)
        last_at = max(batch.times())
        if row is None:
            row = StudyRow(
                tenant=tenant,
                study_id=name,
                study_instance_uid=uid,
                since=last_at,
                last_at=last_at,
                revision=0,
                receiving=False,
                refused="{}",
                patient="",
                priority=PRIORITY_ROUTINE,
            )
            session.add(row)
        if not row.patient and new:
            await self._patient(session, row, new[0])
        opens = any(item.header.usable for item in new) or row.revision == 0
        if opens and not row.receiving:
            row.receiving, row.since, row.refused = True, last_at, "{}"
        row.last_at = max(row.last_at, last_at)
        refused = Counter[str](json.loads(row.refused))
        refused.update(item.rejection.code for item in batch.refused)
        row.refused = json.dumps(refused, sort_keys=True)
        await session.flush()
        if new:
            rows = [_instance(name, item, files[item.header.sop_instance_uid]) for item in new]
            await session.execute(insert(InstanceRow), rows)
        return Saved(row.receiving, frozenset(item.header.sop_instance_uid for item in new))

    async def _patient(self, session: AsyncSession, row: StudyRow, first: Accepted) -> None:
        dataset = first.header.dataset
        patient = await store.patient_by_lookup(session, row.tenant, first.patient_lookup)
        if patient is None:
            patient = PatientRow(
                tenant=row.tenant,
                lookup=first.patient_lookup,
                pseudonym=str(uuid.uuid4()),
                sealed=self._vault.seal(identity_of(dataset)),
            )
            session.add(patient)
        row.patient_lookup, row.patient = patient.lookup, patient.pseudonym
        clinical = clinical_of(dataset)
        row.header_clinical = clinical.SerializeToString(deterministic=True)


def _instance(name: str, item: Accepted, file: BlobRef) -> dict[str, object]:
    header = item.header
    return {
        "tenant": item.file.tenant,
        "study_id": name,
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "series_instance_uid": header.series_instance_uid,
        "modality": header.modality,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "usable": header.usable,
        "key": file.key,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "received_at": item.at,
        "revision": 0,
    }
