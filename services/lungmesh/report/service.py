"""The report service: writing on the bus, writing and fetching by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc

from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.settings import load
from lungmesh.report.settings import ReportSettings
from lungmesh.report.stage import ReportStage, find_report
from lungmesh.v1 import report_pb2, report_pb2_grpc

# gRPC takes 4 MiB a message by default.
_PART_BYTES = 1024 * 1024


class ReportServicer(report_pb2_grpc.ReportServiceServicer):
    """Writes with the stage's own handler, and hands out what is written."""

    def __init__(self, mesh: Mesh, stage: ReportStage) -> None:
        self._mesh, self._stage = mesh, stage

    async def Write(
        self, request: report_pb2.WriteRequest, context: grpc.aio.ServicerContext
    ) -> report_pb2.WriteResponse:
        """Write a report; nothing goes to the bus."""
        ready = await self._mesh.call(self._stage, request.event, report_pb2.ReportReady)
        return report_pb2.WriteResponse(event=ready)

    async def FetchReport(
        self, request: report_pb2.FetchReportRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[report_pb2.FetchReportResponse]:
        """Stream the files of a report in parts, one file after the other.

        Raises BlobMissing when there is no such report.
        """
        blobs = self._mesh.blobs
        ready = await asyncio.to_thread(
            find_report, blobs, request.tenant, request.study_id, request.revision
        )
        for artefact in ready.artefacts:
            data = await asyncio.to_thread(blobs.get, artefact.content)
            for start in range(0, len(data), _PART_BYTES):
                yield report_pb2.FetchReportResponse(
                    name=artefact.name, data=data[start : start + _PART_BYTES]
                )


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_REPORT__ setting is wrong, or a template is.
    """
    settings = load(ReportSettings)
    stage = ReportStage(settings)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        report_pb2_grpc.add_ReportServiceServicer_to_server(ReportServicer(mesh, stage), server)
        return [report_pb2.DESCRIPTOR.services_by_name["ReportService"].full_name]

    return Service(name="report", stages=[stage], register=register)
