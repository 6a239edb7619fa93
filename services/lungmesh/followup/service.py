"""The follow-up service: its stage on the bus, and the same handler and the timeline by gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc

from lungmesh.followup import store
from lungmesh.followup.settings import FollowupSettings
from lungmesh.followup.stage import FollowupStage
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.settings import load
from lungmesh.v1 import followup_pb2, followup_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"


class FollowupServicer(followup_pb2_grpc.FollowupServiceServicer):
    """Answers with the stage's own handler, and from the service's database."""

    def __init__(self, mesh: Mesh, stage: FollowupStage) -> None:
        self._mesh, self._stage = mesh, stage

    async def Track(
        self, request: followup_pb2.TrackRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.TrackResponse:
        """Compare an exam and keep it; nothing goes to the bus."""
        event = await self._mesh.call(self._stage, request.event, followup_pb2.FollowupUpdated)
        return followup_pb2.TrackResponse(event=event)

    async def GetTimeline(
        self, request: followup_pb2.GetTimelineRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.GetTimelineResponse:
        """Return a patient's exams in order of study date."""
        async with self._mesh.sessions() as session:
            exams = await store.exams_of(session, request.tenant, request.patient)
        return followup_pb2.GetTimelineResponse(exams=exams)


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_FOLLOWUP__ setting is wrong or no database is set.
    """
    stage = FollowupStage(lambda: mesh.sessions, load(FollowupSettings))

    def register(server: grpc.aio.Server) -> Sequence[str]:
        followup_pb2_grpc.add_FollowupServiceServicer_to_server(
            FollowupServicer(mesh, stage), server
        )
        return [followup_pb2.DESCRIPTOR.services_by_name["FollowupService"].full_name]

    return Service(name="followup", stages=[stage], register=register, migrations=MIGRATIONS)
