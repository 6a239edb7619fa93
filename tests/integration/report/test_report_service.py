"""The report service as a process, on a real broker."""

from __future__ import annotations

import uuid
from pathlib import Path

import grpc
import pytest

from lungmesh.v1.report_pb2 import FetchReportRequest, WriteRequest, WriteResponse
from lungmesh.v1.report_pb2_grpc import ReportServiceStub
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess
from tests.support.report import followup, made_up_case


async def test_a_written_report_can_be_fetched_whole_by_study_and_revision(
    broker: Broker, tmp_path: Path
) -> None:
    event = followup(made_up_case(tmp_path))
    service = ServiceProcess("lungmesh.mesh.serve", "report", tmp_path, broker.bootstrap)
    try:
        await service.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
            stub = ReportServiceStub(channel)
            answer: WriteResponse = await stub.Write(WriteRequest(event=event))
            study = event.study
            for revision in (0, study.revision):
                request = FetchReportRequest(
                    tenant=study.tenant, study_id=study.study_id, revision=revision
                )
                files: dict[str, bytes] = {}
                async for part in stub.FetchReport(request):
                    files[part.name] = files.get(part.name, b"") + part.data
                sizes = {a.name: a.content.size_bytes for a in answer.event.artefacts}
                assert {name: len(data) for name, data in files.items()} == sizes
            for missing in (
                FetchReportRequest(tenant=study.tenant, study_id=str(uuid.uuid4())),
                FetchReportRequest(tenant="other", study_id=study.study_id),
                FetchReportRequest(tenant=study.tenant, study_id=study.study_id, revision=7),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    async for _ in stub.FetchReport(missing):
                        pass
                assert error.value.code() is grpc.StatusCode.NOT_FOUND
    finally:
        service.kill()
