"""The worklist by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.console import store
from lungmesh.console.bell import Bell
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.worklist import StudyStatus
from lungmesh.v1 import console_pb2_grpc
from lungmesh.v1.console_pb2 import (
    ListStudiesRequest,
    ListStudiesResponse,
    StageView,
    StudyView,
    WatchStudiesRequest,
    WatchStudiesResponse,
)
from lungmesh.v1.study_pb2 import StudyRef

# Clocks of several console processes may differ by this much.
_CLOCK_SLACK_SECONDS = 5.0


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
