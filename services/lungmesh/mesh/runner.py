"""Runs one stage: takes its events in lane order, hands them to workers, deals with failures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from lungmesh.mesh import envelope
from lungmesh.mesh.bus.port import Bus, Record, Subscription, TopicPartition
from lungmesh.mesh.contract import LANES
from lungmesh.mesh.envelope import Event
from lungmesh.mesh.errors import BadInput
from lungmesh.mesh.handling import EventHandler
from lungmesh.mesh.lanes import LaneScheduler
from lungmesh.mesh.tasks import finish
from lungmesh.mesh.telemetry import Metrics
from lungmesh.v1.events_pb2 import StageProgress, StudyFailed

log = logging.getLogger(__name__)

_LAST_RESORT_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 1.0


@dataclass
class Pending:
    """A decoded event on its way through the runner; one that is tried again keeps its key."""

    event: Event
    attempt: int
    claimed: bool = False


class StageRunner:
    """A stage at work.

    The subscription calls `on_records` and `on_revoked`; workers are tasks, at most
    `stage.concurrency` at once.
    """

    def __init__(self, handler: EventHandler, bus: Bus, metrics: Metrics) -> None:
        self.stage = handler.stage
        self._handler = handler
        self._bus = bus
        self._metrics = metrics
        self._queue: LaneScheduler[Pending] = LaneScheduler()
        self._waiting: dict[asyncio.TimerHandle, Pending] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._draining = False
        self._look_again: asyncio.TimerHandle | None = None
        metrics.places.labels(self.stage.name).set(self.stage.concurrency)
        self._queued = metrics.queued.labels(self.stage.name)
        self._bytes_in = metrics.event_bytes.labels(self.stage.name, "in")
        metrics.expect(self.stage.name)

    @property
    def group(self) -> str:
        """The stage's consumer group."""
        return f"lungmesh.{self.stage.name}"

    def not_ready(self) -> str | None:
        """Say why the stage takes no events, None when it does."""
        if self._handler.breaker.open:
            return f"{self.stage.name} stopped itself: too many dead letters"
        if self.overdue:
            return f"{self.stage.name} has handlers that run on past their deadline"
        if self._subscription is None or not self._subscription.joined:
            return f"{self.stage.name} waits for its partitions"
        return None

    @property
    def overdue(self) -> bool:
        """Whether every worker's place is held by a handler that runs on past its deadline."""
        return self._handler.overdue() >= self.stage.concurrency

    def topics(self) -> list[str]:
        """Topics that the stage reads."""
        lanes = [envelope.topic(kind, lane) for kind in self.stage.consumes for lane in LANES]
        return lanes + self._retry_topics()

    def all_topics(self) -> list[str]:
        """Topics that must exist for the stage to run."""
        written = (*self.stage.produces, StudyFailed, StageProgress)
        lanes = [envelope.topic(kind, lane) for kind in written for lane in LANES]
        return [*self.topics(), *lanes, f"{self.stage.name}.dlq"]

    def _retry_topics(self) -> list[str]:
        if self.stage.ordered:
            return []
        policy = self.stage.retry
        most = max(len(policy.unavailable_delays), len(policy.defect_delays))
        return [f"{self.stage.name}.retry.{number}" for number in range(1, most + 1)]

    def start(self) -> None:
        """Join the stage's consumer group."""
        limit = max(20, 4 * self.stage.concurrency)
        self._subscription = self._bus.subscribe(self.group, self.topics(), self, limit)

    async def drain(self, limit_seconds: float) -> None:
        """Start nothing new, finish what is in a handler, commit and leave the group."""
        self._draining = True
        if self._subscription is not None:
            self._subscription.stop()
        # The offset of one that is cancelled stays uncommitted: its event comes again.
        await finish(self._running, limit_seconds)
        for timer in self._waiting:
            timer.cancel()
        if self._subscription is not None:
            await self._subscription.close()

    # --- what the subscription calls ---

    def on_records(self, records: Sequence[Record]) -> None:
        """Decode and queue."""
        if self._draining:
            return  # not done, so not committed: they come again
        for record in records:
            self._bytes_in.inc(len(record.value))
            try:
                event = envelope.decode(record, self.stage.consumes)
            except BadInput as error:
                self._spawn(self._refuse(record, error))
                continue
            pending = Pending(event, event.attempt)
            wait = event.not_before - time.time()
            if wait > 0:
                self._later(wait, pending)
            else:
                self._push(pending)
        self._dispatch()

    def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Count: a group that is shared out again and again gets no work done."""
        self._metrics.assignments.labels(self.stage.name).inc()

    def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop what another member will handle; what is in a handler runs on."""

        def gone(pending: Pending) -> bool:
            return (pending.event.record.topic, pending.event.record.partition) in partitions

        dropped = self._queue.drop(gone)
        for timer, pending in list(self._waiting.items()):
            if gone(pending):
                timer.cancel()
                del self._waiting[timer]
                dropped.append(pending)
                self._release(pending)
        if self._subscription is not None:
            for pending in dropped:
                self._subscription.abandon(pending.event.record)

    # --- the queue ---

    def _push(self, pending: Pending) -> None:
        self._queue.push(pending.event.lane, pending, self._key(pending), pending.claimed)
        pending.claimed = True

    def _key(self, pending: Pending) -> bytes:
        """What is handled one at a time: a patient, or where order is free at least an event.

        An event delivered again while it is in the handler waits for the result.
        """
        return pending.event.key if self.stage.ordered else pending.event.event_id.encode()

    def _release(self, pending: Pending) -> None:
        if pending.claimed:
            self._queue.release(self._key(pending))

    def _later(self, seconds: float, pending: Pending) -> None:
        def due() -> None:
            del self._waiting[timer]
            self._push(pending)
            self._dispatch()

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._waiting[timer] = pending

    def _dispatch(self) -> None:
        while (
            len(self._running) + self._handler.overdue() < self.stage.concurrency
            and not self._draining
            and not self._handler.breaker.open
        ):
            pending = self._queue.pop()
            if pending is None:
                break
            self._spawn(self._work(pending))
        self._queued.set(len(self._queue))
        if len(self._queue) and self._handler.overdue() and not self._draining:
            # The end of an overrun handler tells nobody: look again.
            if self._look_again is not None:
                self._look_again.cancel()
            loop = asyncio.get_running_loop()
            self._look_again = loop.call_later(_LOOK_AGAIN_SECONDS, self._dispatch)

    async def _work(self, pending: Pending) -> None:
        try:
            delay = await self._handler.handle(pending.event, pending.attempt)
        except Exception:
            # Dealing with the failure failed too (database away): nothing is lost, it comes again.
            log.exception("%s: an event could not be put aside; trying again", self.stage.name)
            delay = _LAST_RESORT_SECONDS
        else:
            pending.attempt += 1
        if delay is not None:
            self._later(delay, pending)
            return
        self._release(pending)
        self._done(pending.event.record)

    async def _refuse(self, record: Record, error: BadInput) -> None:
        await self._handler.refuse(record, error)
        self._done(record)

    def _done(self, record: Record) -> None:
        if self._subscription is not None:
            self._subscription.done(record)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: the runner failed", self.stage.name, exc_info=error)
        self._dispatch()
