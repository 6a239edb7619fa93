"""The malignancy service as a process, on a real broker: by event and by gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lungmesh.v1.nodule_pb2 import AssessRequest, NodulesAssessed, NodulesDetected
from lungmesh.v1.nodule_pb2_grpc import MalignancyServiceStub
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, tap, until
from tests.support.report import followup, made_up_case

OUT = "nodules.assessed.routine"


@pytest.fixture
def service(broker: Broker, tmp_path: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess("lungmesh.mesh.serve", "malignancy", tmp_path, broker.bootstrap)
    yield process
    process.kill()


async def test_an_exam_is_assessed_alike_by_event_and_by_grpc(
    service: ServiceProcess, broker: Broker, tmp_path: Path
) -> None:
    made = followup(made_up_case(tmp_path), prior=False)
    event = NodulesDetected(
        study=made.study, exam=made.exam, nodules=made.nodules, models=made.models
    )
    for nodule in event.nodules:
        nodule.ClearField("assessment")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(event)
        await until(lambda: line.records, 30, "the exam is assessed")
        by_event = NodulesAssessed.FromString(line.records[0].value)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
            stub = MalignancyServiceStub(channel)
            answer = await stub.Assess(AssessRequest(event=event), timeout=30)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Assess(AssessRequest(event=NodulesDetected()), timeout=30)
        # A gRPC call puts nothing on the bus.
        assert len(line.records) == 1
    assert answer.event == by_event
    assert [len(nodule.assessment.risks) for nodule in by_event.nodules] == [5, 5]
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "event.study is required" in (refused.value.details() or "")
