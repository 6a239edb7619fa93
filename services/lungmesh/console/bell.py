"""Wakes who watches the worklist when it has changed."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.mesh.db import after_commit


class Bell:
    """Wakes every watcher of this process after a commit."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Wake them."""
        for waiter in self._waiting:
            waiter.set()

    def ring_after(self, session: AsyncSession) -> None:
        """Wake them once the session's transaction is committed."""
        after_commit(session, self.ring)

    async def wait(self, waiter: asyncio.Event, seconds: float) -> None:
        """Return at the next ring since `waiter` was cleared, or after the seconds."""
        self._waiting.add(waiter)
        try:
            # Not wait_for: in Python 3.11 it can swallow a cancellation, and the watch with it.
            async with asyncio.timeout(seconds):
                await waiter.wait()
        except TimeoutError:
            return
        finally:
            self._waiting.discard(waiter)
