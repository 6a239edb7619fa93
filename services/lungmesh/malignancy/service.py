"""The malignancy service: its stage on the bus, and the same handler by gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from lungmesh.malignancy.settings import MalignancySettings
from lungmesh.malignancy.stage import MalignancyStage
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.settings import load
from lungmesh.v1 import nodule_pb2, nodule_pb2_grpc


class MalignancyServicer(nodule_pb2_grpc.MalignancyServiceServicer):
    """Answers gRPC calls with the stage's own handler."""

    def __init__(self, mesh: Mesh, stage: MalignancyStage) -> None:
        self._mesh, self._stage = mesh, stage

    async def Assess(
        self, request: nodule_pb2.AssessRequest, context: grpc.aio.ServicerContext
    ) -> nodule_pb2.AssessResponse:
        """Assess an exam's nodules; nothing goes to the bus."""
        event = await self._mesh.call(self._stage, request.event, nodule_pb2.NodulesAssessed)
        return nodule_pb2.AssessResponse(event=event)


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_MALIGNANCY__ setting is wrong.
    """
    stage = MalignancyStage(load(MalignancySettings), mesh.metrics.registry)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        nodule_pb2_grpc.add_MalignancyServiceServicer_to_server(
            MalignancyServicer(mesh, stage), server
        )
        return [nodule_pb2.DESCRIPTOR.services_by_name["MalignancyService"].full_name]

    return Service(name="malignancy", stages=[stage], register=register)
