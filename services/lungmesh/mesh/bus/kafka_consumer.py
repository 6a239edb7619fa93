"""A member of a Kafka consumer group on its own poll thread.

A KafkaConsumer is not thread-safe, so one thread polls, pauses and commits; everything else talks
to it through the watermarks, which a lock guards. Heartbeats run on the client's own I/O thread and
the poll thread never waits for a handler, so a long handler cannot cost the member its place.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.future import Future
from kafka.structs import OffsetAndMetadata

from lungmesh.mesh.bus.port import Listener, Record
from lungmesh.mesh.bus.watermark import Watermark

log = logging.getLogger(__name__)

_POLL_MS = 50
_COMMIT_EVERY_SECONDS = 0.05
_HANDOVER_SECONDS = 20.0


class KafkaSubscription:
    """Polls topics for a group and delivers records to a listener on the event loop."""

    def __init__(
        self,
        config: dict[str, Any],
        group: str,
        topics: Sequence[str],
        listener: Listener,
        limit: int,
        session_timeout_ms: int,
        fetch_wait_ms: int,
    ) -> None:
        self._topics = list(topics)
        self._listener = listener
        self._limit = limit
        self._config = dict(
            config,
            group_id=group,
            metrics_enabled=False,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # kafka-python 3.0.12 never gives back a partition that is paused while a part of its
            # parsed records waits (it restores one only when its in-line slot is None, and a
            # drained slot is not): so each poll takes all, and bytes bound a fetch instead.
            max_poll_records=1_000_000,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=max(300, session_timeout_ms // 6),
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=fetch_wait_ms,
            max_partition_fetch_bytes=128 * 1024,
            partition_assignment_strategy=[CooperativeStickyAssignor()],
            allow_auto_create_topics=False,
        )
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._marks: dict[TopicPartition, Watermark] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._stopped = threading.Event()
        # Set to end the poll thread; each thread has its own, so that a slow one cannot come back.
        self._closing = threading.Event()
        self._handovers: list[_Handover] = []
        self.joined = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the poll thread with a new consumer."""
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run,
            args=(self._closing,),
            name=f"poll-{self._config['group_id']}",
            daemon=True,
        )
        self._thread.start()

    def done(self, record: Record) -> None:
        """Move the partition's watermark; the poll thread commits it."""
        where = TopicPartition(record.topic, record.partition)
        with self._lock:
            mark = self._marks.get(where)
            if mark is not None:
                mark.finish(record)
            for handover in self._handovers:
                handover.look(self._marks)

    def abandon(self, record: Record) -> None:
        """Give a record back that was never started; its offset is not committed."""
        where = TopicPartition(record.topic, record.partition)
        with self._lock:
            mark = self._marks.get(where)
            if mark is not None:
                mark.abandon(record)

    def stop(self) -> None:
        """Deliver nothing more; keep the membership until `close`."""
        self._stopped.set()

    async def close(self) -> None:
        """Commit what is done and leave the group."""
        self._stopped.set()
        await self._halt()

    async def forget(self) -> None:
        """Leave without committing: the log that was read is gone. `start` begins anew."""
        self._drop()
        await self._halt()

    async def _halt(self) -> None:
        self._closing.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 15)
            self._thread = None
        self._drop()

    def _drop(self, lost: set[TopicPartition] | None = None) -> None:
        """Forget delivered records of lost partitions, or of all, and have them dropped."""
        with self._lock:
            gone = set(self._marks) if lost is None else lost
            for where in gone:
                self._marks.pop(where, None)
                self._committed.pop(where, None)
                self._paused.discard(where)
        if lost is None:
            self.joined = False
        if gone:
            partitions = frozenset((where.topic, where.partition) for where in gone)
            self._call(self._listener.on_revoked, partitions)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _run(self, closing: threading.Event) -> None:
        while not closing.is_set():
            try:
                self._serve(closing)
            except KafkaError as error:
                log.warning("consumer starts again after %s", type(error).__name__)
            except Exception:
                # Whatever the client raises: a stage without its poll thread would stand still.
                log.exception("consumer starts again")
            if not closing.is_set():
                # What was delivered comes again to the next consumer.
                self._drop()
                closing.wait(1)

    def _serve(self, closing: threading.Event) -> None:
        consumer = KafkaConsumer(**self._config)
        try:
            consumer.subscribe(self._topics, listener=_Rebalance(self, consumer))
            self._poll(consumer, closing)
        finally:
            self._leave(consumer)

    def _leave(self, consumer: KafkaConsumer) -> None:
        try:
            self._finish_joining(consumer)
            self._commit(consumer, wait=True)
        except KafkaError as error:
            log.warning("the last offsets were not committed: %s", type(error).__name__)
        try:
            consumer.close(autocommit=False, timeout_ms=2000)
        except KafkaError as error:
            log.warning("the group was left without a word: %s", type(error).__name__)

    def _finish_joining(self, consumer: KafkaConsumer) -> None:
        """Let a join that is under way end before the group is left.

        The embedded broker keeps a member that left in the middle of a join as the group's leader,
        and waits for its word for ever.
        """
        limit = time.monotonic() + 1.5 * self._config["session_timeout_ms"] / 1000
        coordinator = consumer._coordinator
        while coordinator.rebalance_in_progress() and not coordinator.coordinator_unknown():
            if time.monotonic() > limit:
                return
            consumer.poll(timeout_ms=_POLL_MS)

    def _poll(self, consumer: KafkaConsumer, closing: threading.Event) -> None:
        last_commit = 0.0
        while not closing.is_set():
            self._balance(consumer)
            batches = consumer.poll(timeout_ms=_POLL_MS)
            if not self.joined and consumer.assignment():
                self.joined = True
            records: list[Record] = []
            with self._lock:
                for where, batch in batches.items():
                    if any(where in item.partitions for item in self._handovers):
                        continue  # on its way to another member, which reads it again
                    mark = self._marks.setdefault(where, Watermark())
                    for item in batch:
                        record = as_record(item)
                        mark.add(record)
                        records.append(record)
            if records:
                self._call(self._listener.on_records, records)
            now = time.monotonic()
            if now - last_commit >= _COMMIT_EVERY_SECONDS:
                last_commit = now
                self._commit(consumer, wait=False)

    def _balance(self, consumer: KafkaConsumer) -> None:
        """Pause partitions with too many unfinished records; resume those that have room."""
        assigned = consumer.assignment()
        stopped = self._stopped.is_set()
        pause: list[TopicPartition] = []
        resume: list[TopicPartition] = []
        with self._lock:
            self._paused &= assigned
            for where in assigned:
                mark = self._marks.get(where)
                unfinished = mark.in_work if mark else 0
                if where in self._paused:
                    if not stopped and unfinished <= self._limit // 2:
                        resume.append(where)
                elif stopped or unfinished >= self._limit:
                    pause.append(where)
            self._paused.update(pause)
            self._paused.difference_update(resume)
        if pause:
            consumer.pause(*pause)
        if resume:
            consumer.resume(*resume)

    def ready_offsets(self, only: set[TopicPartition] | None = None) -> dict[Any, Any]:
        """Offsets that moved since the last commit."""
        with self._lock:
            return {
                where: OffsetAndMetadata(mark.commit, "", -1)
                for where, mark in self._marks.items()
                if mark.commit is not None
                and mark.commit != self._committed.get(where)
                and (only is None or where in only)
            }

    def _commit(self, consumer: KafkaConsumer, wait: bool) -> None:
        offsets = self.ready_offsets()
        if not offsets:
            return
        if wait:
            consumer.commit(offsets, timeout_ms=3000)
        else:
            consumer.commit_async(offsets, callback=self._noted)

    def _noted(self, offsets: dict[Any, Any], response: Any) -> None:
        # A commit that failed is tried again at the next turn: it is not noted.
        if isinstance(response, Exception):
            return
        with self._lock:
            self._committed.update({where: value.offset for where, value in offsets.items()})

    def gain(self, partitions: set[TopicPartition]) -> None:
        """Tell the listener of new partitions."""
        new = frozenset((where.topic, where.partition) for where in partitions)
        self._call(self._listener.on_assigned, new)

    def lose(self, partitions: set[TopicPartition]) -> None:
        """Forget partitions that the group took away without a hand-over."""
        self._drop(partitions)

    def begin_handover(self, partitions: set[TopicPartition]) -> Future:
        """Return a future that resolves once no record of the partitions is in work."""
        handover = _Handover(partitions)
        with self._lock:
            self._handovers.append(handover)
        # The listener drops what it has not started; only then is it known what is in work.
        self._call(self._abandon, handover)
        return handover.future

    def _abandon(self, handover: _Handover) -> None:
        self._listener.on_revoked(
            frozenset((item.topic, item.partition) for item in handover.partitions)
        )
        with self._lock:
            handover.dropped = True
            handover.look(self._marks)

    def end_handover(self, partitions: set[TopicPartition]) -> None:
        """Forget partitions that another member has now."""
        with self._lock:
            self._handovers = [item for item in self._handovers if not item.future.is_done]
            for where in partitions:
                self._marks.pop(where, None)
                self._committed.pop(where, None)
                self._paused.discard(where)


def as_record(item: Any) -> Record:
    """Return a client's record as the port has it."""
    return Record(
        item.topic,
        item.partition,
        item.offset,
        item.key or b"",
        item.value or b"",
        dict(item.headers),
    )


class _Handover:
    """Waits until revoked partitions have nothing in work."""

    def __init__(self, partitions: set[TopicPartition]) -> None:
        self.partitions = partitions
        self.dropped = False
        self.future = Future()
        self._timer = threading.Timer(_HANDOVER_SECONDS, self._end)
        self._timer.daemon = True
        self._timer.start()

    def look(self, marks: dict[TopicPartition, Watermark]) -> None:
        """Resolve when the work is done; called under the subscription's lock."""
        if self.dropped and not any(
            marks[where].in_work for where in self.partitions if where in marks
        ):
            self._end()

    def _end(self) -> None:
        self._timer.cancel()
        if not self.future.is_done:
            self.future.success(None)


class _Rebalance(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Finishes and commits what is taken away; runs on the client's own loop."""

    def __init__(self, subscription: KafkaSubscription, consumer: KafkaConsumer) -> None:
        self._subscription = subscription
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """A partition that comes starts with an empty watermark."""
        self._subscription.end_handover(assigned)
        if assigned:
            self._subscription.gain(assigned)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Wait for the work in hand, then commit it."""
        await self._subscription.begin_handover(revoked)
        offsets = self._subscription.ready_offsets(revoked)
        if offsets:
            try:
                await self._consumer.commit_async(offsets)
            except KafkaError as error:
                log.warning("a handed-over partition was not committed: %s", type(error).__name__)
        self._subscription.end_handover(revoked)

    async def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Another member has them already: forget them."""
        self._subscription.lose(lost)
