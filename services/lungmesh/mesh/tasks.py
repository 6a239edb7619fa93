"""The end of background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def finish(tasks: Iterable[asyncio.Task[Any]], limit_seconds: float) -> None:
    """Let tasks end by themselves; those that have not after the limit are cancelled.

    What a task raises is not raised here.
    """
    running = set(tasks)
    if not running:
        return
    _, unfinished = await asyncio.wait(running, timeout=limit_seconds)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
