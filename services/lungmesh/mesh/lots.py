"""Small blocking calls of many events at once, a few to a thread's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# A turn of a thread costs as much as a small call. Few enough that a slow store is still asked by
# many threads at the same time.
LOT = 8


class Lots(Generic[T, R]):
    """Runs a blocking function off the event loop.

    Calls that are made while the loop turns once share threads, `LOT` of them one; a call that
    comes alone goes alone and at once.
    """

    def __init__(self, work: Callable[[T], R]) -> None:
        self._work = work
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []

    async def run(self, item: T) -> R:
        """Return what the function returns for the item; raises what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, done))
        if len(self._waiting) == 1:
            loop.call_soon(self._send, loop)
        return await done

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), LOT):
            loop.run_in_executor(None, self._do, loop, waiting[start : start + LOT])

    def _do(self, loop: asyncio.AbstractEventLoop, lot: list[tuple[T, asyncio.Future[R]]]) -> None:
        found: list[tuple[asyncio.Future[R], R | None, Exception | None]] = []
        for item, done in lot:
            try:
                found.append((done, self._work(item), None))
            except Exception as error:
                found.append((done, None, error))
        loop.call_soon_threadsafe(_settle, found)


def _settle(found: list[tuple[asyncio.Future[R], R | None, Exception | None]]) -> None:
    for done, result, error in found:
        if done.cancelled():
            continue
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]
