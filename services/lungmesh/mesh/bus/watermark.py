"""Which offset may be committed: the one below which everything is finished."""

from __future__ import annotations

from collections import OrderedDict

from lungmesh.mesh.bus.port import Record


class Watermark:
    """Low watermark of one partition.

    Records finish in any order; only a contiguous run of finished ones from the bottom may be
    committed, so that a crash repeats work but never skips a record. A record is known by identity,
    not by offset: after a hand-over or a broker's loss of memory the same offset is delivered
    anew, and work on the old delivery must not count for the new one.
    """

    def __init__(self) -> None:
        # Delivered and not yet below the watermark, in rising order of offset.
        self._open: OrderedDict[int, Record] = OrderedDict()
        self._finished: set[int] = set()
        self._abandoned: set[int] = set()
        self._next: int | None = None

    def add(self, record: Record) -> None:
        """Note a delivered record. Offsets come in rising order, possibly with gaps."""
        self._open[record.offset] = record

    def finish(self, record: Record) -> None:
        """Note a finished record; one of an earlier delivery is ignored."""
        if self._open.get(record.offset) is not record:
            return
        self._finished.add(record.offset)
        while self._open:
            lowest = next(iter(self._open))
            if lowest not in self._finished:
                break
            del self._open[lowest]
            self._finished.discard(lowest)
            self._next = lowest + 1

    def abandon(self, record: Record) -> None:
        """Note a delivered record that nobody will work on here; it keeps the watermark down."""
        if self._open.get(record.offset) is record:
            self._abandoned.add(record.offset)

    @property
    def in_work(self) -> int:
        """Count of delivered records that are neither finished nor abandoned."""
        return len(self._open) - len(self._finished) - len(self._abandoned)

    @property
    def commit(self) -> int | None:
        """Offset to commit: that of the next record to read after a restart; None before any."""
        return self._next
