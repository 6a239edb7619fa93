"""The gRPC edge on real sockets: status by class, fields named, streams that end, health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lungmesh.mesh import BadInput, Refused, SettingsError, Unavailable
from lungmesh.mesh.blobs import BlobMissing
from lungmesh.mesh.server import GrpcServer
from lungmesh.mesh.telemetry import Metrics
from lungmesh.v1 import console_pb2_grpc
from lungmesh.v1.console_pb2 import (
    ListStudiesRequest,
    ListStudiesResponse,
    StudyView,
    WatchStudiesRequest,
    WatchStudiesResponse,
)

NAME = "lungmesh.v1.ConsoleService"


class Servicer(console_pb2_grpc.ConsoleServiceServicer):
    """Raises what the test wants, or watches for ever."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.left = asyncio.Event()

    async def ListStudies(self, request: Any, context: Any) -> ListStudiesResponse:
        if self.error is not None:
            raise self.error
        return ListStudiesResponse(studies=[StudyView(category="4A")])

    async def WatchStudies(self, request: Any, context: Any) -> AsyncIterator[WatchStudiesResponse]:
        yield WatchStudiesResponse()
        if self.error is not None:
            raise self.error
        try:
            await asyncio.sleep(60)
        finally:
            self.left.set()


@asynccontextmanager
async def served(
    servicer: Servicer, spans: InMemorySpanExporter | None = None
) -> AsyncIterator[tuple[grpc.aio.Channel, GrpcServer, Metrics]]:
    """Run the servicer behind the edge."""
    metrics, traces = Metrics(), TracerProvider()
    if spans is not None:
        traces.add_span_processor(SimpleSpanProcessor(spans))
    server = GrpcServer(metrics, traces.get_tracer("test"))

    def register(grpc_server: grpc.aio.Server) -> Sequence[str]:
        console_pb2_grpc.add_ConsoleServiceServicer_to_server(servicer, grpc_server)
        return [NAME]

    port = await server.start("127.0.0.1:0", register)
    await server.set_serving(True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, server, metrics
    await server.close(0)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BadInput("no slices"), grpc.StatusCode.INVALID_ARGUMENT, "no slices"),
        (BlobMissing("no object x"), grpc.StatusCode.NOT_FOUND, "no object x"),
        (Unavailable("Triton is away"), grpc.StatusCode.UNAVAILABLE, "Triton is away"),
        (Refused("not our AE"), grpc.StatusCode.FAILED_PRECONDITION, "not our AE"),
        (
            ValueError("Li Wei"),
            grpc.StatusCode.INTERNAL,
            "the service met an unexpected error; its log names it",
        ),
    ],
)
async def test_an_error_becomes_its_status(
    error: Exception, code: grpc.StatusCode, text: str
) -> None:
    async with served(Servicer(error)) as (channel, _, metrics):
        stub = console_pb2_grpc.ConsoleServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.ListStudies(ListStudiesRequest(tenant="a"))
        assert (raised.value.code(), raised.value.details()) == (code, text)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stub.WatchStudies(WatchStudiesRequest(tenant="a")):
                pass
        assert (raised.value.code(), raised.value.details()) == (code, text)
        method = f"/{NAME}/ListStudies"
        labels = {"method": method, "status": code.name}
        assert metrics.registry.get_sample_value("lungmesh_grpc_calls_total", labels) == 1


async def test_a_request_that_breaks_a_rule_is_refused_naming_the_field() -> None:
    async with served(Servicer()) as (channel, _, _):
        stub = console_pb2_grpc.ConsoleServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.ListStudies(ListStudiesRequest(tenant="Ward 7", limit=2000))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert raised.value.details() == (
            "ListStudiesRequest: tenant must match [a-z0-9][a-z0-9-]{0,62}; "
            "limit must be <= 1000, is 2000"
        )


async def test_an_endless_answer_ends_when_the_service_stops() -> None:
    servicer = Servicer()
    async with served(servicer) as (channel, server, _):
        stub = console_pb2_grpc.ConsoleServiceStub(channel)
        call = stub.WatchStudies(WatchStudiesRequest(tenant="a"))
        assert await call.read() == WatchStudiesResponse()
        async with asyncio.timeout(5):
            await server.close(25)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
            await servicer.left.wait()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in str(raised.value.details())


async def test_a_watcher_that_leaves_ends_its_answer_without_a_word_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servicer = Servicer()
    async with served(servicer) as (channel, _, _):
        stub = console_pb2_grpc.ConsoleServiceStub(channel)
        call = stub.WatchStudies(WatchStudiesRequest(tenant="a"))
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await servicer.left.wait()
        await asyncio.sleep(0.1)
    assert not caplog.records


async def test_health_and_reflection_know_the_service() -> None:
    async with served(Servicer()) as (channel, server, _):
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=NAME)
        serving = health_pb2.HealthCheckResponse
        assert (await health.Check(request)).status == serving.SERVING
        await server.set_serving(False)
        assert (await health.Check(request)).status == serving.NOT_SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in reflection.ServerReflectionInfo(iter([ask])):
            names = {item.name for item in answer.list_services_response.service}
            break
        assert names >= {NAME, "grpc.health.v1.Health"}


async def test_a_call_continues_the_callers_trace() -> None:
    spans = InMemorySpanExporter()
    async with served(Servicer(), spans) as (channel, _, _):
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        stub = console_pb2_grpc.ConsoleServiceStub(channel)
        await stub.ListStudies(ListStudiesRequest(tenant="a"), metadata=(("traceparent", parent),))
    (span,) = spans.get_finished_spans()
    assert span.name == f"{NAME}/ListStudies"
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == parent.split("-")[1]
    assert f"{span.parent.span_id:016x}" == parent.split("-")[2]


async def test_a_taken_port_is_a_wrong_setting() -> None:
    async with served(Servicer()) as (_, _, metrics):
        listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        other = GrpcServer(metrics, TracerProvider().get_tracer("test"))
        with pytest.raises(SettingsError, match="LUNGMESH_GRPC_PORT"):
            await other.start(f"127.0.0.1:{port}", lambda server: ())
        listener.close()
