"""What becomes of an event that failed: which kind, tried again or not, and the dead letter."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lungmesh.mesh import envelope
from lungmesh.mesh.bus.port import Outgoing, Record
from lungmesh.mesh.envelope import Event
from lungmesh.mesh.errors import BadInput, MeshError, Refused, Unavailable, told
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.stage import RetryPolicy
from lungmesh.mesh.telemetry import trace_headers
from lungmesh.v1 import events_pb2
from lungmesh.v1.events_pb2 import StudyFailed

# Headers of a dead letter.
DLQ_STAGE = "dlq_stage"
DLQ_KIND = "dlq_kind"
DLQ_CLASS = "dlq_error_class"
DLQ_REASON = "dlq_reason"
DLQ_STACK = "dlq_stack"
DLQ_TIME = "dlq_time"
DLQ_BEHIND = "dlq_parked_behind"

PARKED = "parked"
_STACK_CHARACTERS = 8000
# The service's database does not answer: it passes, as a broker's or a peer's absence does.
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)

Kind: TypeAlias = events_pb2.FailureKind.ValueType


class HandlerDied(MeshError):
    """The process has ended several times while it handled one event; not tried again."""


_NAMES = {
    events_pb2.FAILURE_KIND_BAD_INPUT: "bad_input",
    events_pb2.FAILURE_KIND_UNAVAILABLE: "unavailable",
    events_pb2.FAILURE_KIND_REFUSED: "refused",
    events_pb2.FAILURE_KIND_DEFECT: "defect",
}


def kind_of(error: BaseException) -> Kind:
    """Return what a person or a machine should do about an error."""
    if isinstance(error, BadInput):
        return events_pb2.FAILURE_KIND_BAD_INPUT
    if isinstance(error, (Unavailable, *_DATABASE_AWAY)):
        return events_pb2.FAILURE_KIND_UNAVAILABLE
    if isinstance(error, Refused):
        return events_pb2.FAILURE_KIND_REFUSED
    return events_pb2.FAILURE_KIND_DEFECT


def name_of(kind: Kind) -> str:
    """Return the kind's name in metrics and headers."""
    return _NAMES[kind]


def delay_before_retry(policy: RetryPolicy, error: BaseException, attempt: int) -> float | None:
    """Return the seconds before the next attempt, None when the budget is spent."""
    kind = kind_of(error)
    if isinstance(error, HandlerDied):
        return None
    if kind == events_pb2.FAILURE_KIND_UNAVAILABLE:
        delays = policy.unavailable_delays
    elif kind == events_pb2.FAILURE_KIND_DEFECT:
        delays = policy.defect_delays
    else:
        return None
    return delays[attempt] if attempt < len(delays) else None


def reason_of(error: BaseException) -> str:
    """Return one sentence without patient data.

    The text of an error that is not of our tree may hold anything, so only its class is told.
    """
    if isinstance(error, MeshError) and str(error):
        return str(error)
    if isinstance(error, _DATABASE_AWAY):
        return f"the service's database is away ({type(error).__name__})"
    return f"an unexpected {type(error).__name__}: see the dead letter's stack"


def stack_of(error: BaseException) -> str:
    """Return the innermost frames of the error's stack, without texts that may hold anything."""
    return told(error)[-_STACK_CHARACTERS:]


def dead_letter(
    record: Record,
    event_id: str,
    stage: str,
    kind: str,
    error_class: str,
    reason: str,
    stack: str = "",
    behind: str = "",
) -> Outgoing:
    """Return the record for the stage's dead-letter topic, its value untouched."""
    headers = {
        DLQ_STAGE: stage,
        DLQ_KIND: kind,
        DLQ_CLASS: error_class,
        DLQ_REASON: reason,
        DLQ_STACK: stack,
        DLQ_TIME: datetime.now(UTC).isoformat(timespec="milliseconds"),
        DLQ_BEHIND: behind,
        "ce_id": event_id,
    }
    return Outgoing(
        f"{stage}.dlq",
        record.key,
        record.value,
        {
            **record.headers,
            **envelope.origin(record),
            **{name: value.encode() for name, value in headers.items() if value},
        },
    )


def study_failed(event: Event, stage: str, error: BaseException) -> Outgoing:
    """Return the StudyFailed event that tells everyone."""
    at = Timestamp()
    at.GetCurrentTime()
    message = StudyFailed(
        study=event.study,
        stage=stage,
        kind=kind_of(error),
        error_class=type(error).__name__,
        reason=reason_of(error),
        event_id=event.event_id,
        at=at,
    )
    return envelope.outgoing(
        message, deterministic_id("study.failed", stage, event.event_id), stage, trace_headers()
    )


class Breaker:
    """Opens when too many events in a row, or too large a share, become dead letters.

    Only failures of our side count (defects and things that are away): a sender's bad data says
    nothing about the stage.
    """

    def __init__(self, run: int = 10, share: float = 0.5, window: int = 50) -> None:
        self._limit = run
        self._share = share
        self._recent: deque[bool] = deque(maxlen=window)
        self._run = 0
        self.open = False

    def succeeded(self) -> None:
        """Note an event that went through."""
        self._run = 0
        self._recent.append(False)

    def failed(self) -> None:
        """Note a dead letter of our side."""
        self._run += 1
        self._recent.append(True)
        full = len(self._recent) == self._recent.maxlen
        if self._run >= self._limit or (
            full and sum(self._recent) > self._share * len(self._recent)
        ):
            self.open = True
