"""Dead letters: see them, see why, and send them on their way again.

The dead-letter topic of a stage is a log of one partition: letters, and marks that say which of
them were replayed. Nothing in it is ever changed or removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from lungmesh.mesh import envelope, failures
from lungmesh.mesh.bus.kafka import client_config
from lungmesh.mesh.bus.kafka_admin import BrokerAdmin
from lungmesh.mesh.errors import BadInput, Unavailable
from lungmesh.mesh.settings import KafkaSettings, MeshSettings
from lungmesh.v1 import (  # noqa: F401  (loads every event type for `show`)
    events_pb2,
    followup_pb2,
    mdt_pb2,
    nodule_pb2,
    report_pb2,
    study_pb2,
    volume_pb2,
)

_SUFFIX = ".dlq"
_REPLAYED = "dlq_replayed"
_QUIET_MS = 400


@dataclass
class DeadLetter:
    """An event that a stage gave up.

    Attributes
    ----------
    kind
        bad_input, refused, unavailable, defect or parked.
    behind
        Id of the event that must be replayed first, for a parked one.
    original
        topic/partition/offset where it first stood.
    replayed
        Whether it was sent on its way again since.
    """

    stage: str
    event_id: str
    kind: str
    error_class: str
    reason: str
    stack: str
    behind: str
    type: str
    tenant: str
    time: str
    original: str
    key: bytes
    value: bytes
    headers: dict[str, bytes] = field(default_factory=dict)
    replayed: bool = False

    def text(self) -> str:
        """Return the message as protobuf text; it is pseudonymous as every event is."""
        try:
            found = descriptor_pool.Default().FindMessageTypeByName(self.type)
            message = message_factory.GetMessageClass(found).FromString(self.value)
            return text_format.MessageToString(message, as_utf8=True)
        except (KeyError, DecodeError):
            return f"{len(self.value)} bytes that are no {self.type or 'event'}"


def list_dead_letters(
    settings: KafkaSettings | MeshSettings, stage: str | None
) -> list[DeadLetter]:
    """Return the dead letters of a stage, or of all stages, each stage's oldest first.

    Replayed ones are marked.

    Raises Unavailable when the broker does not answer.
    """
    kafka = _kafka(settings)
    return _read(kafka, _topics(kafka, stage))


def show_dead_letter(settings: KafkaSettings | MeshSettings, event_id: str) -> DeadLetter:
    """Return the newest dead letter of an event.

    Raises BadInput when there is none, Unavailable when the broker does not answer.
    """
    found = [item for item in list_dead_letters(settings, None) if item.event_id == event_id]
    if not found:
        raise BadInput(f"no stage has a dead letter {event_id}", code="no_dead_letter")
    return found[-1]


def replay(
    settings: KafkaSettings | MeshSettings, stage: str, event_ids: Sequence[str] | None
) -> int:
    """Send dead letters back to the topics they came from and return how many.

    All that were not replayed yet, or only those with the given ids; in their old order, so that
    a parked patient's events follow the one they waited for. A letter is replayed once; an event
    that fails again is a new letter.

    Raises BadInput for an id without a letter, Unavailable when the broker does not answer.
    """
    kafka = _kafka(settings)
    letters = _read(kafka, _topics(kafka, stage))
    if event_ids is not None:
        unknown = set(event_ids) - {letter.event_id for letter in letters}
        if unknown:
            raise BadInput(
                f"{stage} has no dead letter {', '.join(sorted(unknown))}", code="no_dead_letter"
            )
    # An event that was put here twice (a crash before its commit) goes back once.
    chosen = {
        letter.event_id: letter
        for letter in letters
        if not letter.replayed and (event_ids is None or letter.event_id in event_ids)
    }
    if chosen:
        _send(kafka, chosen.values())
    return len(chosen)


def _send(kafka: KafkaSettings, letters: Iterable[DeadLetter]) -> None:
    try:
        producer = KafkaProducer(
            **client_config(kafka, "lungmesh-dlq"), enable_idempotence=True, acks="all"
        )
        try:
            for letter in letters:
                headers = {
                    name: value
                    for name, value in letter.headers.items()
                    if not name.startswith("dlq_") and name != envelope.NOT_BEFORE
                }
                headers |= {envelope.ATTEMPT: b"0", envelope.REPLAY: b"1"}
                topic = letter.headers[envelope.ORIGINAL_TOPIC].decode()
                producer.send(
                    topic, value=letter.value, key=letter.key, headers=list(headers.items())
                ).get(15)
                # Marked after it was sent: a crash between sends it twice, which is harmless.
                producer.send(
                    f"{letter.stage}{_SUFFIX}",
                    value=b"",
                    key=letter.key,
                    headers=[(_REPLAYED, letter.event_id.encode())],
                ).get(15)
        finally:
            producer.close(timeout=5)
    except KafkaError as error:
        raise Unavailable(f"the broker did not take the replay: {type(error).__name__}") from error


def _kafka(settings: KafkaSettings | MeshSettings) -> KafkaSettings:
    return settings.kafka if isinstance(settings, MeshSettings) else settings


def _topics(kafka: KafkaSettings, stage: str | None) -> list[str]:
    admin = BrokerAdmin(kafka, client_config(kafka, "lungmesh-dlq"))
    try:
        known = admin.topic_ids([])
    finally:
        admin.close()
    if stage is not None:
        return [f"{stage}{_SUFFIX}"] if f"{stage}{_SUFFIX}" in known else []
    return sorted(topic for topic in known if topic.endswith(_SUFFIX))


def _read(kafka: KafkaSettings, topics: Sequence[str]) -> list[DeadLetter]:
    letters: dict[str, list[DeadLetter]] = {topic: [] for topic in topics}
    if not letters:
        return []
    try:
        consumer = KafkaConsumer(
            **client_config(kafka, "lungmesh-dlq"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        try:
            where = [
                TopicPartition(topic, number)
                for topic in topics
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            consumer.assign(where)
            ends = consumer.end_offsets(where)
            # The embedded broker tells an end that lies before the last batch's, so read on
            # until it is quiet.
            while True:
                records = consumer.poll(timeout_ms=_QUIET_MS)
                for record in (record for batch in records.values() for record in batch):
                    _note(letters[record.topic], record.topic.removesuffix(_SUFFIX), record)
                if not records and all(consumer.position(tp) >= ends[tp] for tp in where):
                    return [letter for topic in topics for letter in letters[topic]]
        finally:
            consumer.close(autocommit=False)
    except KafkaError as error:
        raise Unavailable(f"the dead letters cannot be read: {type(error).__name__}") from error


def _note(letters: list[DeadLetter], stage: str, record: Any) -> None:
    headers = dict(record.headers)

    def text(name: str) -> str:
        return bytes(headers.get(name, b"")).decode(errors="replace")

    if _REPLAYED in headers:
        for letter in letters:
            if letter.event_id == text(_REPLAYED):
                letter.replayed = True
        return
    names = (envelope.ORIGINAL_TOPIC, envelope.ORIGINAL_PARTITION, envelope.ORIGINAL_OFFSET)
    letters.append(
        DeadLetter(
            stage=stage,
            event_id=text("ce_id"),
            kind=text(failures.DLQ_KIND),
            error_class=text(failures.DLQ_CLASS),
            reason=text(failures.DLQ_REASON),
            stack=text(failures.DLQ_STACK),
            behind=text(failures.DLQ_BEHIND),
            type=text("ce_type"),
            tenant=text(envelope.TENANT),
            time=text(failures.DLQ_TIME),
            original="/".join(text(name) for name in names),
            key=record.key or b"",
            value=record.value or b"",
            headers=headers,
        )
    )
