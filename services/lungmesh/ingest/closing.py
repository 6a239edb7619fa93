"""A study that is complete: its manifest, its event, and its state, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import update

from lungmesh.ingest import store
from lungmesh.ingest.clinical import merged
from lungmesh.ingest.store import InstanceRow, StudyRow
from lungmesh.mesh import Mesh
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1.events_pb2 import STAGE_STATE_DONE, StageProgress
from lungmesh.v1.ingest_pb2 import STUDY_STATE_EXPIRED, STUDY_STATE_PROCESSING
from lungmesh.v1.study_pb2 import (
    CLOSED_BY_ASSOCIATION_RELEASE,
    CLOSED_BY_EXPLICIT_CALL,
    CLOSED_BY_QUIET_PERIOD,
    BlobRef,
    ClinicalContext,
    ClosedBy,
    ManifestInstance,
    ManifestSeries,
    Priority,
    StudyManifest,
    StudyReceived,
    StudyRef,
)

CLOSED_BY_IN_WORDS = {
    CLOSED_BY_QUIET_PERIOD: "quiet period",
    CLOSED_BY_ASSOCIATION_RELEASE: "association release",
    CLOSED_BY_EXPLICIT_CALL: "explicit call",
}


@dataclass(frozen=True)
class Close:
    """How a revision is closed.

    Attributes
    ----------
    priority, clinical
        What an explicit call said; None keeps what is known.
    receiving_seconds, waiting_seconds
        From the first object to the last, and from the last to now.
    """

    closed_by: ClosedBy.ValueType
    at: float
    priority: Priority.ValueType | None = None
    clinical: ClinicalContext | None = None
    receiving_seconds: float = 0.0
    waiting_seconds: float = 0.0


def event_id(study_id: str, revision: int) -> str:
    """Return the id of a revision's StudyReceived."""
    return deterministic_id("study.received", study_id, revision)


async def close_revision(mesh: Mesh, row: StudyRow, close: Close) -> StudyRef:
    """Close the study's next revision: everything it holds now.

    The manifest is written first; a crash before the commit leaves only a blob that the next
    attempt replaces.

    Raises Unavailable when the object store, SQLAlchemyError when the database is away.
    """
    async with mesh.sessions() as session:
        instances = await store.instances(session, row.tenant, row.study_id)
    revision = row.revision + 1
    manifest = await asyncio.to_thread(
        mesh.blobs.put,
        f"{row.tenant}/{row.study_id}/r{revision}/ingest/manifest",
        manifest_of(row.study_instance_uid, instances).SerializeToString(deterministic=True),
        "application/protobuf",
    )
    async with mesh.sessions() as session, session.begin():
        found = await store.study(session, row.tenant, row.study_id, for_update=True)
        if found is None:
            raise LookupError("a study vanished while it was closed")
        found.receiving = False
        found.revision = revision
        found.state, found.since = STUDY_STATE_PROCESSING, close.at
        found.reason = (
            f"revision {revision} ({len(instances)} instances, closed by "
            f"{CLOSED_BY_IN_WORDS[close.closed_by]}) is being read"
        )
        found.reported = found.recommended = False
        if close.priority is not None:
            found.priority = close.priority
        if close.clinical is not None:
            found.stated_clinical = close.clinical.SerializeToString(deterministic=True)
        found.event_id = event_id(found.study_id, revision)
        await session.execute(
            update(InstanceRow)
            .where(
                InstanceRow.tenant == row.tenant,
                InstanceRow.study_id == row.study_id,
                InstanceRow.revision == 0,
            )
            .values(revision=revision)
        )
        await mesh.emit(session, _received(found, manifest, close, len(instances)), found.event_id)
        await mesh.emit(
            session, _progress(found, close), deterministic_id(found.event_id, "progress")
        )
        return found.reference()


async def expire(mesh: Mesh, study: StudyRow, at: float, story: str) -> None:
    """Give up what is open of a study: nothing usable came.

    A study that was closed before goes back to the state of its newest revision.
    """
    async with mesh.sessions() as session, session.begin():
        row = await store.study(session, study.tenant, study.study_id, for_update=True)
        if row is None:
            raise LookupError("a study vanished while it was given up")
        row.receiving = False
        if row.revision == 0:
            row.state, row.since = STUDY_STATE_EXPIRED, at
            row.reason = f"given up, for no usable CT image came: {story}. Send the study again."


def manifest_of(study_instance_uid: str, instances: Sequence[InstanceRow]) -> StudyManifest:
    """List the instances by series, in the order in which they are given."""
    series: dict[str, ManifestSeries] = {}
    for row in instances:
        one = series.setdefault(
            row.series_instance_uid,
            ManifestSeries(series_instance_uid=row.series_instance_uid, modality=row.modality),
        )
        one.instances.append(
            ManifestInstance(
                sop_instance_uid=row.sop_instance_uid,
                sop_class_uid=row.sop_class_uid,
                transfer_syntax_uid=row.transfer_syntax_uid,
                file=row.file(),
            )
        )
    return StudyManifest(study_instance_uid=study_instance_uid, series=list(series.values()))


def _received(row: StudyRow, manifest: BlobRef, close: Close, count: int) -> StudyReceived:
    header = ClinicalContext.FromString(row.header_clinical)
    return StudyReceived(
        study=row.reference(),
        study_instance_uid=row.study_instance_uid,
        manifest=manifest,
        clinical=merged(header, row.stated()),
        closed_by=close.closed_by,
        received_at=timestamp(row.last_at),
        instance_count=count,
    )


def _progress(row: StudyRow, close: Close) -> StageProgress:
    return StageProgress(
        study=row.reference(),
        stage="ingest",
        state=STAGE_STATE_DONE,
        fraction=1.0,
        handler_seconds=max(0.0, close.receiving_seconds),
        queue_seconds=max(0.0, close.waiting_seconds),
        at=timestamp(close.at),
    )


def timestamp(seconds: float) -> Timestamp:
    """Return seconds since 1970 as a message."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
