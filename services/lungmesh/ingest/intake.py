"""The one core behind every door: keep the bytes, check the header, answer.

It runs on the door's own thread and does no more than the answer needs. What it decided goes into
the inbox; the keeper does the rest. Once an object is in the spool and its answer is a success, it
is never lost: a restart finds it there.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from lungmesh.ingest.header import Header, check_file
from lungmesh.ingest.index import Index
from lungmesh.ingest.metrics import IngestMetrics
from lungmesh.ingest.part10 import read_meta
from lungmesh.ingest.refusals import REFUSALS, SUCCESS, Rejection
from lungmesh.ingest.spool import Spool, Spooled
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.errors import MeshError
from lungmesh.mesh.ids import deterministic_id, study_id

log = logging.getLogger(__name__)


class StorageFull(MeshError):
    """The disk is below its watermark: nothing new is taken until some is free again."""


class SteadyClock:
    """Seconds since 1970 that never run back, whatever is done to the system's clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time now."""
        return self._offset + time.monotonic()


@dataclass(frozen=True)
class Accepted:
    """A new object of a study; `sender` is the trace of the association or request."""

    file: Spooled
    header: Header
    patient_lookup: str
    at: float
    connection: Hashable | None
    sender: SpanContext


@dataclass(frozen=True)
class Refused:
    """An object for quarantine."""

    file: Spooled
    rejection: Rejection
    at: float
    connection: Hashable | None


@dataclass(frozen=True)
class Repeated:
    """An object that was there already."""

    tenant: str
    study_instance_uid: str
    at: float
    connection: Hashable | None


@dataclass(frozen=True)
class Ended:
    """An association, request or stream that ended; `released` when its sender was done."""

    connection: Hashable
    at: float
    released: bool


Item = Accepted | Refused | Repeated | Ended


class Inbox:
    """What the doors hand to the keeper; safe to call from any thread."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        # Set by the keeper; called after each item.
        self.on_item: Callable[[], None] = lambda: None

    def put(self, item: Item) -> None:
        """Add an item."""
        self._items.append(item)
        self.on_item()

    def take(self, limit: int) -> list[Item]:
        """Return at most `limit` items, in order, and forget them."""
        taken: list[Item] = []
        while self._items and len(taken) < limit:
            taken.append(self._items.popleft())
        return taken

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._items)


@dataclass(frozen=True)
class Answer:
    """What a sender is told of one object.

    Attributes
    ----------
    status
        DIMSE status, 0 for success.
    comment
        At most 64 characters, for Error Comment.
    sentence
        What is wrong and what to do, in full.
    """

    status: int
    code: str = ""
    comment: str = ""
    sentence: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""


@dataclass
class Intake:
    """Takes objects in, from any thread.

    Attributes
    ----------
    lookup
        Gives the keyed hash of (tenant, PatientID, IssuerOfPatientID, StudyInstanceUID).
    """

    spool: Spool
    blobs: BlobStore
    index: Index
    inbox: Inbox
    lookup: Callable[[str, str, str, str], str]
    metrics: IngestMetrics
    max_object_bytes: int
    min_free_bytes: int
    clock: Callable[[], float] = field(default_factory=SteadyClock)

    def check_room(self) -> None:
        """Raise StorageFull while the disk is below its watermark."""
        free = self.spool.free_bytes()
        self.metrics.free_bytes.set(free)
        if free < self.min_free_bytes:
            raise StorageFull(
                f"The disk of ingest has {free >> 20} MiB free and keeps "
                f"{self.min_free_bytes >> 20} MiB: free some, then send again."
            )

    def keep(self, tenant: str, data: bytes, connection: Hashable, door: str) -> Answer:
        """Take an object that is in memory: first to disk, then checked."""
        try:
            self.check_room()
            file = self.spool.keep(tenant, data)
        except (StorageFull, OSError) as error:
            return self.no_room(error, tenant, door)
        return self.receive(file, data, connection, door)

    def no_room(self, error: StorageFull | OSError, tenant: str, door: str) -> Answer:
        """Answer for an object that could not be kept.

        Raises the error when it is none of a full disk.
        """
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            log.error("the spool does not take an object: %s", error.strerror)
        self.metrics.objects.labels(door, tenant, "storage_full").inc()
        refusal = REFUSALS["storage_full"]
        sentence = str(error) if isinstance(error, StorageFull) else f"{refusal.comment}."
        return Answer(refusal.status, "storage_full", refusal.comment, sentence)

    def receive(
        self,
        file: Spooled,
        data: bytes,
        connection: Hashable | None,
        door: str,
        asked_study: str = "",
    ) -> Answer:
        """Check an object that is in the spool, and answer.

        Parameters
        ----------
        data
            The object's bytes.
        connection
            Whatever stands for the association, request or stream it came by.
        asked_study
            StudyInstanceUID that the sender named beside the object, empty for none.
        """
        at = self.clock()
        tenant = file.tenant
        self.metrics.bytes.labels(door, tenant).inc(len(data))
        try:
            header = check_file(data)
            try:
                result = self._accept(file, data, header, at, connection, asked_study)
            except Rejection as rejection:
                rejection.study_instance_uid = header.study_instance_uid
                rejection.sop_class_uid = header.sop_class_uid
                rejection.sop_instance_uid = header.sop_instance_uid
                raise
        except Rejection as rejection:
            self.inbox.put(Refused(file, rejection, at, connection))
            self.metrics.objects.labels(door, tenant, rejection.code).inc()
            return _refused(rejection)
        except MeshError as error:
            # Whether it is new could not be found out: the sender must ask again.
            file.remove()
            log.warning("an object was put off: %s", error)
            self.metrics.objects.labels(door, tenant, "put_off").inc()
            return Answer(0xA700, "put_off", "Not ready: send again later", str(error))
        self.metrics.objects.labels(door, tenant, result).inc()
        return Answer(
            SUCCESS,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            study_instance_uid=header.study_instance_uid,
        )

    def ended(self, connection: Hashable, released: bool) -> None:
        """Note that an association, request or stream ended."""
        self.inbox.put(Ended(connection, self.clock(), released))

    def _accept(
        self,
        file: Spooled,
        data: bytes,
        header: Header,
        at: float,
        connection: Hashable | None,
        asked_study: str,
    ) -> str:
        if len(data) > self.max_object_bytes:
            raise Rejection(
                "oversized",
                f"The object has {len(data)} bytes and at most {self.max_object_bytes} are taken",
            )
        if asked_study and asked_study != header.study_instance_uid:
            raise Rejection("wrong_study", "StudyInstanceUID is another than in the request")
        tenant = file.tenant
        patient = self.lookup(
            tenant,
            header.patient_id,
            header.issuer_of_patient_id,
            header.study_instance_uid,
        )
        claim = self.index.claim(tenant, header, patient, file, at)
        if claim.new:
            sender = trace.get_current_span().get_span_context()
            self.inbox.put(Accepted(file, header, patient, at, connection, sender))
            return "accepted"
        if claim.earlier != file:
            self._must_equal(claim.earlier, data, tenant, header)
            file.remove()
        self.inbox.put(Repeated(tenant, header.study_instance_uid, at, connection))
        return "repeated"

    def _must_equal(
        self, earlier: Spooled | None, data: bytes, tenant: str, header: Header
    ) -> None:
        """Compare data sets; File Meta Information may differ, for it names the last sender."""
        before = None
        if earlier is not None:
            try:
                before = earlier.read()
            except FileNotFoundError:
                before = None
        if before is None:
            before = self.blobs.get_key(
                instance_key(tenant, header.study_instance_uid, header.sop_instance_uid)
            )
        if before[read_meta(before)[1] :] != data[read_meta(data)[1] :]:
            raise Rejection(
                "conflicting_instance",
                "Another object with this SOPInstanceUID is there, and objects never change",
            )


def instance_key(tenant: str, study_instance_uid: str, sop_instance_uid: str) -> str:
    """Return the object-store key of an object: no UID of the sender stands in it."""
    folder = f"{tenant}/{study_id(tenant, study_instance_uid)}/instances"
    return f"{folder}/{deterministic_id('instance', sop_instance_uid)}.dcm"


def _refused(rejection: Rejection) -> Answer:
    return Answer(
        rejection.refusal.status,
        rejection.code,
        rejection.refusal.comment,
        str(rejection),
        rejection.sop_class_uid,
        rejection.sop_instance_uid,
        rejection.study_instance_uid,
    )
