"""Which event next: stat first, no lane starved, one at a time of a key where order matters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from lungmesh.mesh.contract import LANES

T = TypeVar("T")

# A waiting lane is passed over at most this many times a rank before its turn comes.
PATIENCE = 4


class LaneScheduler(Generic[T]):
    """Queues of the three lanes.

    The highest waiting lane is picked, except that a lane which was passed over `PATIENCE` times
    its rank (routine 1, backfill 2) has its turn. With a key, an item waits until the one before
    it with the same key is released.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, deque[tuple[Hashable, T]]] = {lane: deque() for lane in LANES}
        self._passed = dict.fromkeys(LANES, 0)
        self._behind: dict[Hashable, deque[tuple[str, T]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, lane: str, item: T, key: Hashable = None, claimed: bool = False) -> None:
        """Queue an item; a key other than None puts it behind equal keys.

        With `claimed` the item has its key already: it was popped and comes again.
        """
        self._count += 1
        if key is not None and not claimed:
            if key in self._behind:
                self._behind[key].append((lane, item))
                return
            self._behind[key] = deque()
        self._lanes[lane].append((key, item))

    def pop(self) -> T | None:
        """Take the next item; its key stays claimed until `release`."""
        waiting = [lane for lane in LANES if self._lanes[lane]]
        if not waiting:
            return None
        overdue = [lane for lane in waiting[1:] if self._passed[lane] >= self._limit(lane)]
        # Of two overdue lanes the longer overdue one goes first.
        chosen = max(overdue, key=lambda lane: self._passed[lane] - self._limit(lane), default=None)
        chosen = chosen or waiting[0]
        for lane in waiting:
            self._passed[lane] = 0 if lane == chosen else self._passed[lane] + 1
        self._count -= 1
        return self._lanes[chosen].popleft()[1]

    def release(self, key: Hashable) -> None:
        """Let the next item of a key come forward."""
        behind = self._behind.get(key)
        if behind:
            lane, item = behind.popleft()
            self._lanes[lane].append((key, item))
        else:
            self._behind.pop(key, None)

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove and return queued items for which `unwanted` is true."""
        dropped: list[T] = []
        for key, queue in list(self._behind.items()):
            kept = deque((lane, item) for lane, item in queue if not unwanted(item))
            dropped += [item for _, item in queue if unwanted(item)]
            self._behind[key] = kept
        for lane, ready in self._lanes.items():
            gone = [(key, item) for key, item in ready if unwanted(item)]
            self._lanes[lane] = deque(pair for pair in ready if not unwanted(pair[1]))
            for key, item in gone:
                dropped.append(item)
                if key is not None:
                    self.release(key)
        self._count -= len(dropped)
        return dropped

    @staticmethod
    def _limit(lane: str) -> int:
        return PATIENCE * LANES.index(lane)
