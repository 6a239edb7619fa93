"""The console put together: its stage, its gRPC API, and the web page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from pathlib import Path

import grpc

from lungmesh.console.bell import Bell
from lungmesh.console.http.app import ConsoleServer
from lungmesh.console.servicer import ConsoleServicer
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.stage import WorklistStage
from lungmesh.console.users import Users
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.errors import BadInput, Unavailable
from lungmesh.mesh.settings import TlsSettings, load
from lungmesh.mesh.tls import open_channel
from lungmesh.v1 import console_pb2_grpc
from lungmesh.v1.console_pb2 import DESCRIPTOR
from lungmesh.v1.followup_pb2 import Correction, CorrectRequest, FollowupUpdated
from lungmesh.v1.followup_pb2_grpc import FollowupServiceStub

MIGRATIONS = Path(__file__).parent / "migrations"
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_PERMANENT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
_MOST_BYTES = 64 * 1024 * 1024


class Followup:
    """The follow-up service, as far as the page needs it."""

    def __init__(self, settings: ConsoleSettings, tls: TlsSettings | None) -> None:
        self._settings, self._tls = settings, tls

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        """Made on the service's loop, at the first correction."""
        return open_channel(
            self._settings.followup,
            self._tls,
            options=(("grpc.max_receive_message_length", _MOST_BYTES),),
        )

    async def close(self) -> None:
        """Disconnect."""
        if "_channel" in self.__dict__:
            await self._channel.close()

    async def correct(
        self, tenant: str, patient: str, correction: Correction
    ) -> Sequence[FollowupUpdated]:
        """Have a correction kept; return the exams that it changed.

        Raises BadInput with the service's own sentence, Unavailable when it does not answer.
        """
        request = CorrectRequest(tenant=tenant, patient=patient, correction=correction)
        try:
            answer = await FollowupServiceStub(self._channel).Correct(
                request, timeout=self._settings.followup_seconds
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in _PASSING:
                raise Unavailable("the follow-up service does not answer") from error
            if error.code() in _PERMANENT:
                raise BadInput(error.details() or "the correction was refused") from error
            raise
        changed: Sequence[FollowupUpdated] = answer.exams
        return changed


def build(mesh: Mesh) -> Service:
    """Hand the console to the chassis.

    Raises SettingsError when a LUNGMESH_CONSOLE__ setting is wrong or no database is set.
    """
    settings = load(ConsoleSettings)
    bell = Bell()
    users = Users(mesh.sessions, settings)
    followup = Followup(settings, mesh.settings.tls)
    server = ConsoleServer(mesh, settings, users, bell, followup.correct)

    def register(grpc_server: grpc.aio.Server) -> Sequence[str]:
        console_pb2_grpc.add_ConsoleServiceServicer_to_server(
            ConsoleServicer(mesh.sessions, settings, bell), grpc_server
        )
        return [DESCRIPTOR.services_by_name["ConsoleService"].full_name]

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[dict[str, int]]:
        await users.make_first()
        port = await server.start()
        try:
            yield {"http": port}
        finally:
            await server.stop()
            await followup.close()

    return Service(
        name="console",
        stages=[WorklistStage(bell)],
        register=register,
        lifespan=lifespan,
        migrations=MIGRATIONS,
    )
