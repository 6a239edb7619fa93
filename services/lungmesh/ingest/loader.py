"""Reads of the database for the doors' threads, which have no event loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.ingest import store
from lungmesh.ingest.index import KnownStudy
from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.ids import study_id

T = TypeVar("T")

_LIMIT_SECONDS = 10.0


class Loader:
    """Runs a read on the service's loop and waits for it, for at most 10 s."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self.sessions = sessions
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Use the loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def wait(self, read: Coroutine[Any, Any, T]) -> T:
        """Return what a read gives; never call it on the loop's own thread.

        Raises Unavailable when the database does not answer.
        """
        if self._loop is None:
            read.close()
            raise Unavailable("ingest is starting")
        reading = asyncio.run_coroutine_threadsafe(read, self._loop)
        try:
            return reading.result(_LIMIT_SECONDS)
        except (SQLAlchemyError, TimeoutError) as error:
            reading.cancel()
            raise Unavailable("ingest's database does not answer") from error

    def study(self, tenant: str, study_instance_uid: str) -> KnownStudy | None:
        """Return a study's patient and objects, None when there is none."""
        return self.wait(self._study(tenant, study_id(tenant, study_instance_uid)))

    async def _study(self, tenant: str, name: str) -> KnownStudy | None:
        async with self.sessions() as session:
            row = await store.study(session, tenant, name)
            if row is None:
                return None
            rows = await store.instances(session, tenant, name)
        return KnownStudy(row.patient_lookup, {one.sop_instance_uid: None for one in rows})
