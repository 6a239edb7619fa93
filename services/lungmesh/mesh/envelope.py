"""An event on the bus: CloudEvents 1.0 in Kafka binary mode, W3C trace context, our retry state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import DecodeError, Message

from lungmesh.mesh import contract
from lungmesh.mesh.bus.port import Outgoing, Record
from lungmesh.mesh.errors import BadInput
from lungmesh.v1.study_pb2 import StudyRef

CONTENT_TYPE = "application/protobuf"
# Our own headers; the rest follow CloudEvents and W3C.
ATTEMPT = "attempt"
NOT_BEFORE = "not_before"
ORIGINAL_TOPIC = "original_topic"
ORIGINAL_PARTITION = "original_partition"
ORIGINAL_OFFSET = "original_offset"
PRIORITY = "priority"
TENANT = "tenant"
REPLAY = "replay"


@dataclass(frozen=True)
class Event:
    """A decoded event with what its headers say.

    Attributes
    ----------
    made_at
        When it was put on the bus, seconds since 1970.
    attempt
        0 at first, one more at each retry.
    not_before
        Seconds since 1970 before which a retry must wait.
    """

    record: Record
    message: Message
    event_id: str
    study: StudyRef
    lane: str
    made_at: float
    attempt: int = 0
    not_before: float = 0.0

    @property
    def key(self) -> bytes:
        """Key of the record: the patient's pseudonym."""
        return self.record.key


def topic(kind: type[Message], lane: str) -> str:
    """Return the topic of an event type in a lane."""
    return f"{contract.topic_of(kind)}.{lane}"


def outgoing(
    message: Message, event_id: str, source: str, trace: Mapping[str, str] | None = None
) -> Outgoing:
    """Wrap an event for its lane's topic.

    The key is the patient's pseudonym, so one patient's events stay in order. A stage that needs
    no order and much GPU would be keyed by series here, so that no partition runs hot.
    """
    study: StudyRef = message.study  # type: ignore[attr-defined]
    lane = contract.lane_of(study)
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_type": message.DESCRIPTOR.full_name,
        "ce_source": f"/lungmesh/{source}",
        "ce_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "content-type": CONTENT_TYPE,
        PRIORITY: lane,
        TENANT: study.tenant,
        **(trace or {}),
    }
    return Outgoing(
        topic(type(message), lane),
        study.patient.encode(),
        message.SerializeToString(deterministic=True),
        {name: value.encode() for name, value in headers.items()},
    )


def text(record: Record, name: str, default: str = "") -> str:
    """Return a header as text; bytes that are no UTF-8 are replaced."""
    value = record.headers.get(name)
    return default if value is None else value.decode(errors="replace")


def number(record: Record, name: str) -> float:
    """Return a header as a number, 0 when absent or no number."""
    try:
        return float(record.headers.get(name, b"0"))
    except ValueError:
        return 0.0


def decode(record: Record, kinds: Sequence[type[Message]]) -> Event:
    """Read a record as one of the event types that a stage takes in.

    Raises BadInput when it is none of them or cannot be read.
    """
    event_id = text(record, "ce_id")
    type_name = text(record, "ce_type")
    if not event_id:
        raise BadInput("the record has no ce_id header: it is no event", code="not_an_event")
    kind = next((kind for kind in kinds if kind.DESCRIPTOR.full_name == type_name), None)
    if kind is None:
        raise BadInput(f"the event's type {type_name!r} is not taken here", code="wrong_type")
    try:
        message = kind.FromString(record.value)
    except DecodeError as error:
        raise BadInput(f"the event is no {type_name}", code="undecodable") from error
    contract.validate(message)
    study: StudyRef = message.study  # type: ignore[attr-defined]
    return Event(
        record=record,
        message=message,
        event_id=event_id,
        study=study,
        lane=contract.lane_of(study),
        made_at=_time(text(record, "ce_time")),
        attempt=int(number(record, ATTEMPT)),
        not_before=number(record, NOT_BEFORE),
    )


def retry(event: Event, stage: str, delay_seconds: float, now: float) -> Outgoing:
    """Return the event for the stage's next retry topic."""
    attempt = event.attempt + 1
    return Outgoing(
        f"{stage}.retry.{attempt}",
        event.key,
        event.record.value,
        {
            **event.record.headers,
            **origin(event.record),
            ATTEMPT: str(attempt).encode(),
            NOT_BEFORE: f"{now + delay_seconds:.3f}".encode(),
        },
    )


def origin(record: Record) -> dict[str, bytes]:
    """Headers that name where the record first stood, kept through retries and replays."""
    if ORIGINAL_TOPIC in record.headers:
        names = (ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET)
        return {name: record.headers[name] for name in names if name in record.headers}
    return {
        ORIGINAL_TOPIC: record.topic.encode(),
        ORIGINAL_PARTITION: str(record.partition).encode(),
        ORIGINAL_OFFSET: str(record.offset).encode(),
    }


def _time(value: str) -> float:
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return 0.0
