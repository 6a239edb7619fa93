"""What the runner needs of a broker; the Kafka and the memory adapter both keep to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

TopicPartition = tuple[str, int]
ResetCallback = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was consumed; headers with the same name keep the last value."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish; its key chooses the partition."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


class Listener(Protocol):
    """Takes what a subscription delivers; called on the event loop's thread."""

    def on_records(self, records: Sequence[Record]) -> None:
        """Queue records; must not block."""

    def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """The group has given this member partitions."""

    def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop queued records of partitions that another member now has."""


class Subscription(Protocol):
    """A member of a consumer group."""

    @property
    def joined(self) -> bool:
        """Whether the group has given this member its partitions."""

    def done(self, record: Record) -> None:
        """Say that a record needs no more work; offsets below all unfinished ones get committed."""

    def abandon(self, record: Record) -> None:
        """Give back a record that was never started: it will be delivered again."""

    def stop(self) -> None:
        """Deliver nothing more; heartbeats and commits go on until `close`."""

    async def close(self) -> None:
        """Commit what is done and leave the group."""


class Bus(Protocol):
    """A broker that keeps records in topics."""

    @property
    def healthy(self) -> bool:
        """Whether the broker answers."""

    async def start(self) -> None:
        """Connect; returns once the broker answers."""

    async def close(self) -> None:
        """Leave every group and disconnect."""

    async def ensure_topics(self, topics: Sequence[str]) -> None:
        """Make topics that do not exist, now and after each reset of the broker."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Publish records and return when the broker has acknowledged all of them.

        Raises Unavailable when it did not.
        """

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Return by topic how many records a group has not finished.

        Raises Unavailable when the broker does not answer.
        """

    def post(self, record: Outgoing) -> None:
        """Publish without waiting and without promise; callable from any thread."""

    def subscribe(
        self, group: str, topics: Sequence[str], listener: Listener, limit: int
    ) -> Subscription:
        """Join a group; a partition is paused while `limit` of its records are unfinished."""

    def on_reset(self, callback: ResetCallback) -> None:
        """Call back after the broker came back without its memory and topics are made again."""
