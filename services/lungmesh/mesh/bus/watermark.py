"""Which offset may be committed: the one below which everything is finished."""

from __future__ import annotations

from collections import deque


class Watermark:
    """Low watermark of one partition.

    Records finish in any order; only a contiguous run of finished ones from the bottom may be
    committed, so that a crash repeats work but never skips a record.
    """

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._finished: set[int] = set()
        self._abandoned: set[int] = set()
        self._next: int | None = None

    def add(self, offset: int) -> None:
        """Note a delivered record. Offsets come in rising order, possibly with gaps."""
        self._open.append(offset)

    def finish(self, offset: int) -> None:
        """Note a finished record; one that is not open (delivered before a loss) is ignored."""
        if not self._open or offset < self._open[0]:
            return
        self._finished.add(offset)
        while self._open and self._open[0] in self._finished:
            done = self._open.popleft()
            self._finished.discard(done)
            self._next = done + 1

    def abandon(self, offset: int) -> None:
        """Note a delivered record that nobody will work on here; it keeps the watermark down."""
        self._abandoned.add(offset)

    @property
    def in_work(self) -> int:
        """Count of delivered records that are neither finished nor abandoned."""
        return len(self._open) - len(self._finished) - len(self._abandoned)

    @property
    def commit(self) -> int | None:
        """Offset to commit: that of the next record to read after a restart; None before any."""
        return self._next
