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
        self._closing = threading.Event()
        self._handovers: list[_Handover] = []
        self.joined = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the poll thread with a new consumer."""
        self._closing.clear()
        self._thread = threading.Thread(
            target=self._run, name=f"poll-{self._config['group_id']}", daemon=True
        )
        self._thread.start()

    def done(self, record: Record) -> None:
        """Move the partition's watermark; the poll thread commits it."""
        where = TopicPartition(record.topic, record.partition)
        with self._lock:
            mark = self._marks.get(where)
            if mark is not None:
                mark.finish(record.offset)
            for handover in self._handovers:
                handover.look(self._marks)

    def abandon(self, record: Record) -> None:
        """Give a record back that was never started; its offset is not committed."""
        where = TopicPartition(record.topic, record.partition)
        with self._lock:
            mark = self._marks.get(where)
            if mark is not None:
                mark.abandon(record.offset)

    def stop(self) -> None:
        """Deliver nothing more; keep the membership until `close`."""
        self._stopped.set()

    async def close(self) -> None:
        """Commit what is done and leave the group."""
        self._stopped.set()
        await self.halt()

    async def halt(self) -> None:
        """End the poll thread; `start` makes a consumer that begins at the committed offsets."""
        self._closing.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 15)
            self._thread = None
        self.drop()

    def drop(self) -> None:
        """Forget every delivered record: its log is gone or another member has it."""
        with self._lock:
            partitions = frozenset((where.topic, where.partition) for where in self._marks)
            self._marks.clear()
            self._committed.clear()
            self._paused.clear()
        self.joined = False
        self._call(self._listener.on_revoked, partitions)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                consumer = KafkaConsumer(**self._config)
            except KafkaError as error:
                log.warning("the broker does not take a consumer: %s", type(error).__name__)
                self._closing.wait(1)
                continue
            try:
                consumer.subscribe(self._topics, listener=_Rebalance(self, consumer))
                self._poll(consumer)
            except KafkaError as error:
                log.warning("consumer starts again after %s", type(error).__name__)
                self._closing.wait(0.5)
            finally:
                self._leave(consumer)

    def _leave(self, consumer: KafkaConsumer) -> None:
        try:
            self._commit(consumer, wait=True)
        except KafkaError as error:
            log.warning("the last offsets were not committed: %s", type(error).__name__)
        try:
            consumer.close(autocommit=False, timeout_ms=2000)
        except KafkaError as error:
            log.warning("the group was left without a word: %s", type(error).__name__)

    def _poll(self, consumer: KafkaConsumer) -> None:
        last_commit = 0.0
        while not self._closing.is_set():
            self._balance(consumer)
            batches = consumer.poll(timeout_ms=_POLL_MS)
            if not self.joined and consumer.assignment():
                self.joined = True
            records: list[Record] = []
            with self._lock:
                for where, batch in batches.items():
                    mark = self._marks.setdefault(where, Watermark())
                    for item in batch:
                        mark.add(item.offset)
                        records.append(
                            Record(
                                item.topic,
                                item.partition,
                                item.offset,
                                item.key or b"",
                                item.value or b"",
                                dict(item.headers),
                            )
                        )
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
        self._subscription.drop()
