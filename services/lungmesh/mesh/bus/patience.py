"""Publishing that waits for a broker that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lungmesh.mesh.bus.port import Bus, Outgoing
from lungmesh.mesh.errors import Unavailable

_AGAIN_SECONDS = 0.5


async def publish_patiently(bus: Bus, records: Sequence[Outgoing]) -> None:
    """Publish until the broker has acknowledged every record; a drain may cancel it.

    While it waits its input stays uncommitted, so nothing is lost when the process ends.
    """
    while True:
        try:
            await bus.publish(records)
            return
        except Unavailable:
            await asyncio.sleep(_AGAIN_SECONDS)
