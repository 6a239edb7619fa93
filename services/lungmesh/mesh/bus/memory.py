"""A broker in memory, for tests of the runner: partitions, groups, redelivery, outages."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Sequence

from lungmesh.mesh.bus.port import Listener, Outgoing, Record, ResetCallback, TopicPartition
from lungmesh.mesh.bus.watermark import Watermark
from lungmesh.mesh.errors import Unavailable


class MemoryBus:
    """Keeps every record in lists; one member a group."""

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self.healthy = True
        self.log: dict[TopicPartition, list[Record]] = defaultdict(list)
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self.topics: set[str] = set()
        self._members: list[MemorySubscription] = []
        self._callbacks: list[ResetCallback] = []

    async def start(self) -> None:
        """Nothing to connect."""

    async def close(self) -> None:
        """Stop every member."""
        for member in list(self._members):
            await member.close()

    async def ensure_topics(self, topics: Sequence[str]) -> None:
        """Note the topics."""
        self.topics.update(topics)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Append the records; raises Unavailable while `healthy` is False."""
        await asyncio.sleep(0)
        if not self.healthy:
            raise Unavailable("the memory broker is away")
        for record in records:
            self.post(record)

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Return by topic how many records a group has not committed."""
        behind = dict.fromkeys(topics, 0)
        for where, rows in self.log.items():
            if where[0] in behind:
                behind[where[0]] += len(rows) - self.committed.get((group, where), 0)
        return behind

    def post(self, record: Outgoing) -> None:
        """Append a record, or lose it while the broker is away."""
        if not self.healthy:
            return
        where = (record.topic, zlib.crc32(record.key) % self.partitions)
        rows = self.log[where]
        rows.append(Record(*where, len(rows), record.key, record.value, dict(record.headers)))
        for member in self._members:
            member.wake()

    def subscribe(
        self, group: str, topics: Sequence[str], listener: Listener, limit: int
    ) -> MemorySubscription:
        """Deliver from the group's committed offsets on."""
        member = MemorySubscription(self, group, tuple(topics), listener, limit)
        self._members.append(member)
        member.wake()
        return member

    def on_reset(self, callback: ResetCallback) -> None:
        """Keep the callback for `forget`."""
        self._callbacks.append(callback)

    async def forget(self) -> None:
        """Lose every record and offset, as the embedded broker does when it restarts."""
        self.log.clear()
        self.committed.clear()
        for member in self._members:
            member.reset()
        for callback in self._callbacks:
            await callback()

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return [
            record for where in sorted(self.log) if where[0] == topic for record in self.log[where]
        ]


class MemorySubscription:
    """The only member of its group."""

    joined = True

    def __init__(
        self, bus: MemoryBus, group: str, topics: tuple[str, ...], listener: Listener, limit: int
    ) -> None:
        self._bus = bus
        self._group = group
        self._topics = topics
        self._listener = listener
        self._limit = limit
        self._marks: dict[TopicPartition, Watermark] = defaultdict(Watermark)
        self._position: dict[TopicPartition, int] = {}
        self._stopped = False
        self._woken = False
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """Deliver soon what the limit allows."""
        if not self._woken and not self._stopped:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        if self._stopped:
            return
        batch: list[Record] = []
        for where, rows in list(self._bus.log.items()):
            if where[0] not in self._topics:
                continue
            mark = self._marks[where]
            start = self._position.setdefault(
                where, self._bus.committed.get((self._group, where), 0)
            )
            taken = rows[start : start + max(0, self._limit - mark.in_work)]
            for record in taken:
                mark.add(record)
            self._position[where] = start + len(taken)
            batch.extend(taken)
        if batch:
            self._listener.on_records(batch)

    def done(self, record: Record) -> None:
        """Move the watermark and commit it."""
        where = (record.topic, record.partition)
        mark = self._marks[where]
        mark.finish(record)
        if mark.commit is not None:
            self._bus.committed[self._group, where] = mark.commit
        self.wake()

    def abandon(self, record: Record) -> None:
        """Keep the watermark below the record."""
        self._marks[record.topic, record.partition].abandon(record)

    def reset(self) -> None:
        """Start again from the beginning of an empty log."""
        self._listener.on_revoked(frozenset(self._position))
        self._marks.clear()
        self._position.clear()

    def stop(self) -> None:
        """Deliver nothing more."""
        self._stopped = True

    async def close(self) -> None:
        """Leave the group."""
        self._stopped = True
        if self in self._bus._members:
            self._bus._members.remove(self)
