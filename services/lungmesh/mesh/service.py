"""What a service hands to the chassis, and what the chassis hands to a service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.settings import MeshSettings
from lungmesh.mesh.stage import Stage
from lungmesh.mesh.telemetry import Metrics

M = TypeVar("M", bound=Message)


class Mesh(Protocol):
    """The chassis as a service sees it."""

    settings: MeshSettings
    blobs: BlobStore
    # A service adds its own metrics to `metrics.registry`.
    metrics: Metrics

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Sessions on the service's own database.

        Raises SettingsError when LUNGMESH_DATABASE_URL is not set.
        """

    async def call(self, stage: Stage, event: Message, kind: type[M]) -> M:
        """Run a stage's handler for a gRPC request and return its one output of a kind.

        Nothing goes to the bus. Errors of the tree become gRPC status in the interceptor.
        """

    async def emit(self, session: AsyncSession, message: Message, event_id: str) -> None:
        """Put an event into the outbox of the session's transaction.

        It is published after the commit, at least once, also across a crash.
        """

    async def emit_again(self, session: AsyncSession, event_ids: Sequence[str]) -> None:
        """Publish events once more that the outbox sent before (the broker lost them)."""

    def on_broker_reset(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call back when the broker came back without its memory (embedded broker restarted)."""


@dataclass
class Service:
    """A service: its stages, its gRPC API, and what else runs while it is up.

    Attributes
    ----------
    name
        Its folder and consumer group prefix.
    stages
        Each gets its own consumer.
    register
        Adds the servicers to a gRPC server; returns their full names for health and reflection.
    lifespan
        Entered before the stages start and left after they drained (DICOM listener, HTTP server).
        It yields the extra ports to announce, such as {"dicom": 11112}.
    migrations
        Alembic versions folder, for a service with a database.
    """

    name: str
    stages: Sequence[Stage] = ()
    register: Callable[[grpc.aio.Server], Sequence[str]] = field(default=lambda server: ())
    lifespan: Callable[[], AbstractAsyncContextManager[dict[str, int]]] | None = None
    migrations: Path | None = None
