"""The chassis of one process: what `Mesh` promises, and the parts that run the stages."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message
from opentelemetry.trace import Tracer
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.bus.port import Bus
from lungmesh.mesh.db import Database, OutboxRow, after_commit
from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.handling import EventHandler
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.outbox import Relay
from lungmesh.mesh.parking import ParkedKeys
from lungmesh.mesh.results import BlobResults, DatabaseResults, Results, add_to_outbox
from lungmesh.mesh.runner import StageRunner
from lungmesh.mesh.settings import MeshSettings
from lungmesh.mesh.stage import Context, Stage, run_stage
from lungmesh.mesh.telemetry import Metrics

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class Chassis:
    """A process's bus, blobs, database and outbox; a service sees it as `Mesh`."""

    def __init__(
        self, name: str, settings: MeshSettings, bus: Bus, metrics: Metrics, tracer: Tracer
    ) -> None:
        self.name = name
        self.settings = settings
        self.blobs = BlobStore(settings.blobs_url)
        self.bus = bus
        self.metrics = metrics
        self.tracer = tracer
        self.database = Database(settings.database_url, name) if settings.database_url else None
        self.relay = Relay(self.database, bus, metrics) if self.database else None
        self._stateful = False
        self._places: dict[str, asyncio.Semaphore] = {}
        self._reset_callbacks: list[Callable[[], Awaitable[None]]] = []
        bus.on_reset(self._reset)

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Sessions on the service's own database.

        Raises SettingsError when LUNGMESH_DATABASE_URL is not set.
        """
        if self.database is None:
            raise SettingsError(f"LUNGMESH_DATABASE_URL is not set, and {self.name} keeps state")
        return self.database.sessions

    async def call(self, stage: Stage, event: Message, kind: type[M]) -> M:
        """Run a stage's handler for a gRPC request and return its one output of a kind."""
        content = hashlib.sha256(event.SerializeToString(deterministic=True)).hexdigest()
        context = Context(deterministic_id("call", stage.name, content), self.blobs)
        # As many at once as by the bus: each may hold a volume in memory.
        place = self._places.setdefault(stage.name, asyncio.Semaphore(stage.concurrency))
        async with place:
            outputs = await run_stage(stage, event, context)
        if context._writes:
            async with self.sessions() as session, session.begin():
                for write in context._writes:
                    await write(session)
        for output in outputs:
            if isinstance(output, kind):
                return output
        raise TypeError(f"{stage.name} gave no {kind.__name__}")

    async def emit(self, session: AsyncSession, message: Message, event_id: str) -> None:
        """Put an event into the outbox of the session's transaction."""
        await add_to_outbox(session, [(event_id, message)], self.name)
        self._wake_after(session)

    async def emit_again(self, session: AsyncSession, event_ids: Sequence[str]) -> None:
        """Publish events once more that the outbox sent before (the broker lost them)."""
        await session.execute(
            update(OutboxRow)
            .where(OutboxRow.event_id.in_(list(event_ids)))
            .values(wanted=OutboxRow.wanted + 1)
        )
        self._wake_after(session)

    def on_broker_reset(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call back when the broker came back without its memory (embedded broker restarted)."""
        self._reset_callbacks.append(callback)

    async def open_database(self, migrations: Path | None) -> None:
        """Wait for the database and bring its tables to their newest version.

        Raises SettingsError when the service has migrations but no database.
        """
        if migrations is None:
            return
        if self.database is None:
            raise SettingsError(f"LUNGMESH_DATABASE_URL is not set, and {self.name} keeps state")
        self._stateful = True
        while True:
            try:
                await self.database.migrate(migrations)
                return
            except OperationalError as error:
                # The driver's own words: they name host and cause, and no row has been read yet.
                log.warning("the database does not answer, trying again: %s", error.orig)
                await asyncio.sleep(1)

    def start_relay(self) -> None:
        """Publish what an earlier process left in the outbox, and what comes."""
        if self._stateful and self.relay is not None:
            self.relay.start()

    def runner(self, stage: Stage) -> StageRunner:
        """Make the runner of a stage."""
        results: Results
        database = self.database if self._stateful else None
        if database is not None and self.relay is not None:
            results = DatabaseResults(database, self.relay)
        else:
            results = BlobResults(self.blobs, self.bus)
        handler = EventHandler(
            stage,
            self.bus,
            self.blobs,
            results,
            ParkedKeys(stage.name, database),
            self.metrics,
            self.tracer,
        )
        return StageRunner(handler, self.bus, self.metrics)

    async def close(self) -> None:
        """Send what the outbox holds, then let go of broker and database."""
        if self.relay is not None and self._stateful:
            await self.relay.close()
        await self.bus.close()
        if self.database is not None:
            await self.database.close()

    async def _reset(self) -> None:
        self.metrics.broker_resets.inc()
        for callback in self._reset_callbacks:
            await callback()

    def _wake_after(self, session: AsyncSession) -> None:
        if self.relay is not None:
            after_commit(session, self.relay.wake)
