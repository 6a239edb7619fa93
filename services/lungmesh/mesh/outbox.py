"""The relay: what a transaction put into the outbox goes to the bus, at least once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from lungmesh.mesh.bus.port import Bus, Outgoing
from lungmesh.mesh.db import Database, OutboxRow
from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.tasks import finish
from lungmesh.mesh.telemetry import Metrics

log = logging.getLogger(__name__)

_BATCH = 200
# The sweep finds what a crash left between a commit and its publishing.
_SWEEP_SECONDS = 5.0
_CLOSE_SECONDS = 5.0


class Relay:
    """Publishes the rows of the outbox in the order they were written."""

    def __init__(self, database: Database, bus: Bus, metrics: Metrics) -> None:
        self._database = database
        self._bus = bus
        self._metrics = metrics
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Start with what an earlier process left."""
        self._woken.set()
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Look at once: a transaction has committed."""
        self._woken.set()

    async def close(self) -> None:
        """Publish what is left, as far as the broker takes it."""
        self._closing = True
        self._woken.set()
        if self._task is not None:
            await finish({self._task}, _CLOSE_SECONDS)
        try:
            while self._bus.healthy and await self._publish():
                continue
        except (Unavailable, SQLAlchemyError) as error:
            log.warning("the outbox is sent at the next start: %s", type(error).__name__)

    async def _run(self) -> None:
        while not self._closing:
            self._woken.clear()
            try:
                while await self._publish():
                    continue
            except Exception as error:
                # Whatever it is: an outbox without its relay would keep events for ever. The text
                # of a database error quotes rows, so only a broker's is told.
                known = isinstance(error, Unavailable)
                log.warning("the outbox waits: %s", error if known else type(error).__name__)
                await asyncio.sleep(0.5)
                self._woken.set()
            # Not wait_for: in Python 3.11 it can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._woken.wait()

    async def _publish(self) -> bool:
        """Publish one batch; return whether there was any."""
        unsent = OutboxRow.sent < OutboxRow.wanted
        async with self._database.sessions() as session:
            rows = (
                await session.scalars(
                    select(OutboxRow).where(unsent).order_by(OutboxRow.sequence).limit(_BATCH)
                )
            ).all()
            depth = len(rows)
            if depth == _BATCH:
                depth = await session.scalar(select(func.count()).where(unsent)) or 0
        self._metrics.outbox_depth.set(depth)
        if not rows:
            return False
        await self._bus.publish(
            [
                Outgoing(
                    row.topic,
                    row.key,
                    row.value,
                    {name: text.encode() for name, text in json.loads(row.headers).items()},
                )
                for row in rows
            ]
        )
        async with self._database.sessions() as session, session.begin():
            for wanted in {row.wanted for row in rows}:
                # A row that was asked for again in the meantime stays unsent.
                published = [row.sequence for row in rows if row.wanted == wanted]
                await session.execute(
                    update(OutboxRow).where(OutboxRow.sequence.in_(published)).values(sent=wanted)
                )
        return True
