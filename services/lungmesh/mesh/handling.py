"""One event through a stage: known already, handled, tried again later, or a dead letter."""

from __future__ import annotations

import logging
import random
import threading
import time

from opentelemetry.trace import SpanKind, Tracer

from lungmesh.mesh import envelope, failures
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.bus.patience import publish_patiently
from lungmesh.mesh.bus.port import Bus, Record
from lungmesh.mesh.envelope import Event
from lungmesh.mesh.errors import BadInput
from lungmesh.mesh.failures import Breaker
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.parking import ParkedKeys
from lungmesh.mesh.progress import Progress
from lungmesh.mesh.results import Results, name_outputs
from lungmesh.mesh.stage import Context, Stage, run_stage
from lungmesh.mesh.starts import Starts
from lungmesh.mesh.telemetry import Metrics, exemplar, span_failed, study_of_log, trace_of
from lungmesh.v1 import events_pb2

log = logging.getLogger(__name__)

# Retries of many events must not come back in step.
_JITTER = 0.2
_OUR_SIDE = (events_pb2.FAILURE_KIND_UNAVAILABLE, events_pb2.FAILURE_KIND_DEFECT)


class EventHandler:
    """Handles events of one stage.

    Parameters
    ----------
    results
        Where handled events are remembered.
    parked
        Keys that wait behind a failed event; used by ordered stages.
    """

    def __init__(
        self,
        stage: Stage,
        bus: Bus,
        blobs: BlobStore,
        results: Results,
        parked: ParkedKeys,
        metrics: Metrics,
        tracer: Tracer,
    ) -> None:
        self.stage = stage
        self.breaker = Breaker()
        self._bus = bus
        self._blobs = blobs
        self._results = results
        self._parked = parked
        self._metrics = metrics
        # Looking a metric up by its labels costs as much as counting.
        self._overdue = metrics.overdue.labels(stage.name)
        self._in_flight = metrics.in_flight.labels(stage.name)
        self._handler_seconds = metrics.handler_seconds.labels(stage.name)
        self._bytes_out = metrics.event_bytes.labels(stage.name, "out")
        self._tracer = tracer
        self._starts = Starts(blobs, stage.name)
        self._given_up: list[threading.Thread] = []

    def overdue(self) -> int:
        """Count of handlers that were given up at their deadline and still run."""
        self._given_up = [thread for thread in self._given_up if thread.is_alive()]
        self._overdue.set(len(self._given_up))
        return len(self._given_up)

    async def handle(self, event: Event, attempt: int) -> float | None:
        """Take an event to its end.

        Returns None when it needs no more work here, or the seconds after which it is to be tried
        again in its place (ordered stages).
        """
        study_of_log.set(event.study.study_id)
        with self._tracer.start_as_current_span(
            f"process {self.stage.name}",
            context=trace_of(event.record.headers),
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.name": event.record.topic,
                "messaging.destination.partition.id": str(event.record.partition),
                "messaging.kafka.offset": event.record.offset,
                "messaging.message.id": event.event_id,
                "messaging.consumer.group.name": f"lungmesh.{self.stage.name}",
                "lungmesh.study_id": event.study.study_id,
                "lungmesh.tenant": event.study.tenant,
            },
            record_exception=False,
        ):
            progress = Progress(self._bus, self.stage, event)
            try:
                head = await self._parked.head(event.key) if self.stage.ordered else None
                if head not in (None, event.event_id):
                    await self._put_behind(event, str(head))
                    return None
                await self._work(event, progress)
                if head is not None:
                    await self._parked.clear(event.key)
            except Exception as error:
                span_failed(error)
                return await self._failed(event, attempt, progress, error)
            self.breaker.succeeded()
        return None

    async def refuse(self, record: Record, error: BadInput) -> None:
        """Put a record that is no event of this stage into the dead letters."""
        name = deterministic_id("record", record.topic, record.partition, record.offset)
        event_id = envelope.text(record, "ce_id") or name
        log.error("%s: a record on %s is refused: %s", self.stage.name, record.topic, error)
        letter = failures.dead_letter(
            record, event_id, self.stage.name, "bad_input", type(error).__name__, str(error)
        )
        await publish_patiently(self._bus, [letter])
        self._metrics.dead_letters.labels(self.stage.name, "bad_input").inc()

    async def _work(self, event: Event, progress: Progress) -> None:
        stage = self.stage.name
        known = await self._results.recall(self.stage, event)
        if known is not None:
            await self._results.send_again(self.stage, known)
            progress.tell(events_pb2.STAGE_STATE_DONE, 1.0)
            self._count(event, "repeated")
            return
        progress.tell(events_pb2.STAGE_STATE_STARTED)
        waited = self._metrics.queue_seconds.labels(stage, event.lane)
        waited.observe(progress.queue_seconds, exemplar())
        context = Context(event.event_id, self._blobs, _progress=progress.running)
        # Events of an unseen stage are many and small: a mark each would cost more than the work.
        if self.stage.visible:
            await self._starts.begin(event)
        started = time.perf_counter()
        with self._in_flight.track_inprogress():
            try:
                messages = await run_stage(self.stage, event.message, context)
            finally:
                seconds = time.perf_counter() - started
                self._handler_seconds.observe(seconds, exemplar())
                if context._thread is not None and context._thread.is_alive():
                    self._given_up.append(context._thread)
                if self.stage.visible:
                    await self._starts.end(event)
        outputs = name_outputs(self.stage, event, messages)
        size = sum(message.ByteSize() for message in messages)
        self._bytes_out.inc(size)
        await self._results.keep(self.stage, event, outputs, context)
        progress.tell(events_pb2.STAGE_STATE_DONE, 1.0, seconds=seconds)
        self._count(event, "handled")

    async def _failed(
        self, event: Event, attempt: int, progress: Progress, error: Exception
    ) -> float | None:
        kind = failures.kind_of(error)
        name = failures.name_of(kind)
        reason = failures.reason_of(error)
        delay = failures.delay_before_retry(self.stage.retry, error, attempt)
        if delay is not None:
            delay *= 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311
            log.warning("%s: tried again in %.1f s: %s", self.stage.name, delay, reason)
            self._metrics.retries.labels(self.stage.name, name).inc()
            progress.tell(events_pb2.STAGE_STATE_RETRYING, detail=reason)
            if self.stage.ordered:
                return delay
            again = envelope.retry(event, self.stage.name, delay, time.time())
            await publish_patiently(self._bus, [again])
            self._count(event, "retried")
            return None
        log.error("%s: given up (%s): %s", self.stage.name, name, reason)
        letter = failures.dead_letter(
            event.record,
            event.event_id,
            self.stage.name,
            name,
            type(error).__name__,
            reason,
            failures.stack_of(error),
        )
        if self.stage.ordered and kind in _OUR_SIDE:
            await self._parked.park(event.key, event.event_id)
        await publish_patiently(
            self._bus, [letter, failures.study_failed(event, self.stage.name, error)]
        )
        if isinstance(error, failures.HandlerDied):
            await self._starts.end(event)  # a replay starts to count anew
        self._metrics.dead_letters.labels(self.stage.name, name).inc()
        self._count(event, "dead_lettered")
        progress.tell(events_pb2.STAGE_STATE_FAILED, detail=reason, seconds=progress.seconds)
        if kind in _OUR_SIDE:
            self.breaker.failed()
            if self.breaker.open:
                self._metrics.breaker_open.labels(self.stage.name).set(1)
                log.error(
                    "%s stopped itself: too many of its events became dead letters; "
                    "mend the cause, restart the service, then replay them",
                    self.stage.name,
                )
        return None

    async def _put_behind(self, event: Event, behind: str) -> None:
        letter = failures.dead_letter(
            event.record,
            event.event_id,
            self.stage.name,
            failures.PARKED,
            "Parked",
            f"parked behind {behind}: replay that event first",
            behind=behind,
        )
        await publish_patiently(self._bus, [letter])
        self._metrics.dead_letters.labels(self.stage.name, failures.PARKED).inc()
        self._count(event, "dead_lettered")

    def _count(self, event: Event, result: str) -> None:
        self._metrics.events.labels(self.stage.name, result, event.lane, event.study.tenant).inc()
