"""The console's stage (everything that happens to a study) and its gRPC API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.console import store
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.worklist import CONSUMED, StudyStatus, apply
from lungmesh.mesh import Context, Mesh, RetryPolicy, Service, Stage
from lungmesh.mesh.settings import load
from lungmesh.v1 import console_pb2_grpc
from lungmesh.v1.console_pb2 import (
    DESCRIPTOR,
    ListStudiesRequest,
    ListStudiesResponse,
    StageView,
    StudyView,
    WatchStudiesRequest,
    WatchStudiesResponse,
)
from lungmesh.v1.study_pb2 import StudyRef

MIGRATIONS = Path(__file__).parent / "migrations"
# Clocks of several console processes may differ by this much.
_CLOCK_SLACK_SECONDS = 5.0


class Bell:
    """Wakes every watcher of this process after a commit."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Wake them."""
        for waiter in self._waiting:
            waiter.set()

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


class WorklistStage(Stage):
    """Folds every event of the mesh into the study's row."""

    name = "console"
    consumes = CONSUMED
    visible = False
    deadline_seconds = 30
    # Two processes may make a study's row at once; the second then finds it.
    retry = RetryPolicy(defect_delays=(0.2, 1.0, 5.0))

    def __init__(self, bell: Bell) -> None:
        self._bell = bell

    async def handle(self, event: Any, ctx: Context) -> Sequence[Message]:
        """Change the study's row; gives no events."""

        async def write(session: AsyncSession) -> None:
            study = await store.read_for_update(session, event.study.tenant, event.study.study_id)
            if apply(study, event, time.time()):
                await store.write(session, study)
                sqlalchemy_event.listen(
                    session.sync_session, "after_commit", lambda _: self._bell.ring(), once=True
                )

        ctx.on_commit(write)
        return []


class ConsoleServicer(console_pb2_grpc.ConsoleServiceServicer):
    """Answers from the console's own database."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        settings: ConsoleSettings,
        bell: Bell,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._bell = bell

    async def ListStudies(
        self, request: ListStudiesRequest, context: grpc.aio.ServicerContext
    ) -> ListStudiesResponse:
        """List the tenant's studies, newest first."""
        limit = request.limit or self._settings.list_limit
        async with self._sessions() as session:
            rows = await store.newest(session, request.tenant, limit)
        return ListStudiesResponse(studies=[view(store.status_of(row)) for row in rows])

    async def WatchStudies(
        self, request: WatchStudiesRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[WatchStudiesResponse]:
        """Send each study as it stands, then again at every change, until the caller leaves.

        Changes that fall together are sent as one, so a slow watcher never holds up the stage.
        """
        sent: dict[str, int] = {}
        since = 0.0
        waiter = asyncio.Event()
        while True:
            waiter.clear()
            async with self._sessions() as session:
                rows = await store.changed_since(session, request.tenant, request.study_id, since)
            for row in rows:
                if sent.get(row.study_id) != row.version:
                    sent[row.study_id] = row.version
                    yield WatchStudiesResponse(study=view(store.status_of(row)))
            if rows:
                since = rows[-1].changed_at - _CLOCK_SLACK_SECONDS
            await self._bell.wait(waiter, self._settings.watch_interval_seconds)


def view(study: StudyStatus) -> StudyView:
    """Return the study as the API shows it."""
    failure = study.failure
    return StudyView(
        study=StudyRef(
            tenant=study.tenant,
            patient=study.patient,
            study_id=study.study_id,
            revision=study.revision,
            priority=study.priority,  # type: ignore[arg-type]
        ),
        outcome=study.outcome,
        reason=f"{failure.stage}: {failure.detail}" if failure is not None else "",
        stages=[
            StageView(
                stage=stage.stage,
                state=stage.state,  # type: ignore[arg-type]
                fraction=stage.fraction,
                detail=stage.detail,
                handler_seconds=stage.handler_seconds,
                queue_seconds=stage.queue_seconds,
                at=_timestamp(stage.at),
            )
            for stage in study.ordered_stages()
        ],
        received_at=_timestamp(study.received_at),
        finished_at=_timestamp(study.finished_at),
        category=study.category,
        content_sha256=study.content_sha256,
    )


def _timestamp(seconds: float) -> Timestamp | None:
    if not seconds:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def build(mesh: Mesh) -> Service:
    """Hand the console to the chassis."""
    bell = Bell()
    servicer = ConsoleServicer(mesh.sessions, load(ConsoleSettings), bell)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        console_pb2_grpc.add_ConsoleServiceServicer_to_server(servicer, server)
        return [DESCRIPTOR.services_by_name["ConsoleService"].full_name]

    return Service(
        name="console", stages=[WorklistStage(bell)], register=register, migrations=MIGRATIONS
    )
