"""The detection service: its stage on the bus, and the same handler by gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.stage import DetectionStage
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.settings import load
from lungmesh.v1 import nodule_pb2, nodule_pb2_grpc


class DetectionServicer(nodule_pb2_grpc.DetectionServiceServicer):
    """Answers gRPC calls with the stage's own handler."""

    def __init__(self, mesh: Mesh, stage: DetectionStage) -> None:
        self._mesh, self._stage = mesh, stage

    async def Detect(
        self,
        request: nodule_pb2.DetectRequest,
        context: grpc.aio.ServicerContext,
    ) -> nodule_pb2.DetectResponse:
        """Find the nodules of a volume; nothing goes to the bus."""
        found = await self._mesh.call(self._stage, request.event, nodule_pb2.NodulesDetected)
        return nodule_pb2.DetectResponse(event=found)


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_DETECTION__ setting is wrong.
    """
    stage = DetectionStage(load(DetectionSettings), mesh.metrics.registry)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        nodule_pb2_grpc.add_DetectionServiceServicer_to_server(
            DetectionServicer(mesh, stage), server
        )
        return [nodule_pb2.DESCRIPTOR.services_by_name["DetectionService"].full_name]

    return Service(name="detection", stages=[stage], register=register)
