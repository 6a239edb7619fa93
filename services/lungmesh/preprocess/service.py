"""The preprocess service: its stage on the bus, and the same handler by gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.settings import load
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stage import PreprocessStage
from lungmesh.v1 import volume_pb2, volume_pb2_grpc


class PreprocessServicer(volume_pb2_grpc.PreprocessServiceServicer):
    """Answers gRPC calls with the stage's own handler."""

    def __init__(self, mesh: Mesh, stage: PreprocessStage) -> None:
        self._mesh, self._stage = mesh, stage

    async def Prepare(
        self,
        request: volume_pb2.PrepareRequest,
        context: grpc.aio.ServicerContext,
    ) -> volume_pb2.PrepareResponse:
        """Choose, judge and grid a study's series; nothing goes to the bus."""
        ready = await self._mesh.call(self._stage, request.event, volume_pb2.VolumeReady)
        return volume_pb2.PrepareResponse(event=ready)


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_PREPROCESS__ setting is wrong.
    """
    stage = PreprocessStage(load(PreprocessSettings), mesh.metrics.registry)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        volume_pb2_grpc.add_PreprocessServiceServicer_to_server(
            PreprocessServicer(mesh, stage), server
        )
        return [volume_pb2.DESCRIPTOR.services_by_name["PreprocessService"].full_name]

    return Service(name="preprocess", stages=[stage], register=register)
