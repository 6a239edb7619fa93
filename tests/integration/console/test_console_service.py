"""The console as a process: events in any order in, the worklist by gRPC out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lungmesh.v1 import events_pb2
from lungmesh.v1.console_pb2 import (
    STUDY_OUTCOME_DONE,
    STUDY_OUTCOME_FAILED,
    ListStudiesRequest,
    ListStudiesResponse,
    StudyView,
    WatchStudiesRequest,
)
from lungmesh.v1.console_pb2_grpc import ConsoleServiceStub
from lungmesh.v1.events_pb2 import StageProgress, StudyFailed
from lungmesh.v1.mdt_pb2 import MdtOption, MdtRecommended
from lungmesh.v1.nodule_pb2 import Category
from lungmesh.v1.report_pb2 import Artefact, ReportReady
from lungmesh.v1.study_pb2 import BlobRef, StudyReceived, StudyRef
from lungmesh.v1.volume_pb2 import ModelVersion
from tests.support.broker import Broker
from tests.support.chassis import TENANT, ServiceProcess, study_received, tap, until
from tests.support.postgres import postgres

MODELS = [ModelVersion(name="m", version="1")]


@pytest.fixture(params=["sqlite", "postgresql"])
def console(
    request: pytest.FixtureRequest, broker: Broker, tmp_path: Path
) -> Iterator[ServiceProcess]:
    """The service on SQLite and on PostgreSQL."""

    def run(**environment: str) -> Iterator[ServiceProcess]:
        process = ServiceProcess(
            "lungmesh.mesh.serve", "console", tmp_path, broker.bootstrap, **environment
        )
        yield process
        process.kill()

    if request.param == "sqlite":
        yield from run()
    else:
        with postgres() as url:
            yield from run(LUNGMESH_DATABASE_URL=url)


def progress(study: StudyRef, state: events_pb2.StageState.ValueType, at: int) -> StageProgress:
    return StageProgress(
        study=study,
        stage="detection",
        state=state,
        handler_seconds=4.0 if state == events_pb2.STAGE_STATE_DONE else 0,
        at=Timestamp(seconds=at),
    )


def whole_way(received: StudyReceived) -> list[Message]:
    """Events of a study that went through."""
    study = received.study
    lung_rads = ModelVersion(name="Lung-RADS", version="v2022")
    return [
        received,
        progress(study, events_pb2.STAGE_STATE_STARTED, 10),
        progress(study, events_pb2.STAGE_STATE_DONE, 14),
        ReportReady(
            study=study,
            content_sha256="ab" * 32,
            artefacts=[Artefact(name="sr.dcm", content=BlobRef(key="k", sha256="0" * 64))],
            exam_categories=[Category(guideline=lung_rads, source="ACR", category="4A")],
            models=MODELS,
        ),
        MdtRecommended(
            study=study,
            options=[MdtOption(text_en="discuss", text_zh="讨论", source="s")],
            models=MODELS,
        ),
    ]


def failed(received: StudyReceived) -> StudyFailed:
    return StudyFailed(
        study=received.study,
        stage="detection",
        kind=events_pb2.FAILURE_KIND_UNAVAILABLE,
        error_class="Unavailable",
        reason="Triton is away",
        event_id="e",
        at=Timestamp(seconds=20),
    )


async def studies(stub: ConsoleServiceStub, tenant: str = TENANT) -> Sequence[StudyView]:
    answer: ListStudiesResponse = await stub.ListStudies(ListStudiesRequest(tenant=tenant))
    return answer.studies


async def test_the_worklist_is_right_in_whatever_order_events_arrive(
    console: ServiceProcess, broker: Broker
) -> None:
    good, bad = [study_received() for _ in range(4)], study_received()
    events = [event for received in good for event in whole_way(received)] + [bad, failed(bad)]
    events += random.Random(7).sample(events, 6)  # some come twice
    random.Random(3).shuffle(events)
    await console.start()
    async with (
        tap(broker.bootstrap) as line,
        grpc.aio.insecure_channel(f"127.0.0.1:{console.ports['grpc']}") as channel,
    ):
        stub = ConsoleServiceStub(channel)
        watched: dict[str, StudyView] = {}

        async def watch() -> None:
            async for answer in stub.WatchStudies(WatchStudiesRequest(tenant=TENANT)):
                watched[answer.study.study.study_id] = answer.study

        watching = asyncio.create_task(watch())
        await line.publish(*events)
        wanted = {item.study.study_id: STUDY_OUTCOME_DONE for item in good}
        wanted[bad.study.study_id] = STUDY_OUTCOME_FAILED

        async def settled() -> bool:
            found = await studies(stub)
            outcomes = {view.study.study_id: view.outcome for view in found}
            return outcomes == wanted and all(
                [stage.state for stage in view.stages] == [events_pb2.STAGE_STATE_DONE] * 4
                for view in found
                if view.outcome == STUDY_OUTCOME_DONE
            )

        await until(settled, 20, "every study has its outcome")
        await until(
            lambda: {name: view.outcome for name, view in watched.items()} == wanted,
            5,
            "a watcher has seen the same",
        )
        listed = {view.study.study_id: view for view in await studies(stub)}
        failure = listed[bad.study.study_id]
        assert failure.reason == "detection: Triton is away"
        done = listed[good[0].study.study_id]
        assert (done.category, done.content_sha256) == ("4A", "ab" * 32)
        assert [stage.stage for stage in done.stages] == ["ingest", "detection", "report", "mdt"]
        assert done.stages[1].handler_seconds == 4.0
        assert not await studies(stub, "hospital-b"), "a tenant sees only its own"

        # A watcher holds up neither the end of the process nor the next start.
        assert await console.stop(10) == 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watching
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    await console.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{console.ports['grpc']}") as channel:
        kept = await studies(ConsoleServiceStub(channel))
        assert {view.study.study_id: view.outcome for view in kept} == wanted


async def test_a_wrong_request_names_its_field_and_reflection_the_service(
    broker: Broker, tmp_path: Path
) -> None:
    console = ServiceProcess("lungmesh.mesh.serve", "console", tmp_path, broker.bootstrap)
    await console.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{console.ports['grpc']}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await ConsoleServiceStub(channel).ListStudies(ListStudiesRequest())
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert raised.value.details() == "ListStudiesRequest: tenant is required"
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            ask = reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="lungmesh.v1.ConsoleService"
            )
            answers = [answer async for answer in stub.ServerReflectionInfo(iter([ask]))]
            assert answers[0].file_descriptor_response.file_descriptor_proto
    finally:
        console.kill()
