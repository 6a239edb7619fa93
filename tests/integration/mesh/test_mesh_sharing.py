"""Several processes of one stage, killed at every point; lanes; traces across the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lungmesh.mesh import envelope
from lungmesh.v1.study_pb2 import PRIORITY_BACKFILL, PRIORITY_ROUTINE, PRIORITY_STAT, StudyReceived
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, metric, study_received, tap, until

OUT = "report.delivered.routine"
Toy = Callable[..., ServiceProcess]


@pytest.mark.parametrize("name", ["toy", "ledger", "ledger on PostgreSQL"])
async def test_killed_at_every_point_an_event_has_one_result(
    name: str, broker: Broker, toy: Toy, request: pytest.FixtureRequest
) -> None:
    """Handled and not kept; kept and not published; published and not committed."""
    environment = {"TOY_CRASHES": "yes"}
    if "PostgreSQL" in name:
        environment["LUNGMESH_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    service = toy(name.split()[0], **environment)
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(study_received())
        for deaths in (1, 2, 3):
            await until(lambda: not service.alive, 20, f"death {deaths}")
            assert len(service.lines("died")) == deaths
            service.launch()
        await until(lambda: line.records, 20, "it is published")
        await until(lambda: service.ready, 20, "it goes on")
        await asyncio.sleep(0.5)
        assert service.alive
        assert len({(envelope.text(r, "ce_id"), r.value) for r in line.records}) == 1
    # Handled again only after the death before anything was kept.
    assert len(service.lines("start")) == 2


async def test_processes_of_one_stage_share_its_events_and_lose_or_double_none(
    broker: Broker, toy: Toy, postgres_url: str
) -> None:
    """One joins in the middle of the work, and one is killed there."""
    settings = {"LUNGMESH_DATABASE_URL": postgres_url}
    first, second = toy("ledger", **settings), toy("ledger", "b", **settings)
    await first.start()
    async with tap(broker.bootstrap, OUT) as line:
        sent: list[StudyReceived] = []

        async def flow() -> None:
            while len(sent) < 120:
                sent.append(study_received("sleep 0.1"))
                await line.publish(sent[-1])
                await asyncio.sleep(0.06)

        flowing = asyncio.create_task(flow())
        await asyncio.sleep(0.5)
        await second.start()
        assert await metric(first, "lungmesh_dead_letters_total") == 0

        async def second_works() -> bool:
            return await metric(second, "lungmesh_handler_seconds_count") > 3

        await until(second_works, 15, "the second has its share")
        second.kill()
        await flowing
        wanted = {event.study.study_id for event in sent}

        def missing() -> set[str]:
            ends = {line.split()[2] for line in first.lines("end")}
            return wanted - ends

        await until(lambda: not missing(), 30, "every event is handled")
        await until(
            lambda: len({envelope.text(r, "ce_id") for r in line.records}) == len(wanted),
            15,
            "every event has its one output",
        )


async def test_stat_overtakes_and_no_lane_starves(broker: Broker, toy: Toy) -> None:
    service = toy("single")
    await service.start()
    async with tap(broker.bootstrap, OUT) as line:
        await line.publish(study_received("sleep 1"))
        await until(lambda: service.lines("start"), 10, "the stage is busy")
        lanes: dict[str, str] = {}
        for lane, priority in (
            ("backfill", PRIORITY_BACKFILL),
            ("routine", PRIORITY_ROUTINE),
            ("stat", PRIORITY_STAT),
        ):
            events = [study_received(priority=priority) for _ in range(12)]
            lanes |= {event.study.study_id: lane for event in events}
            await line.publish(*events)
        await until(lambda: len(service.lines("end")) == 37, 20, "all are handled")
    order = [lanes[line.split()[2]] for line in service.lines("start")[1:]]
    assert order[:3] == ["stat", "stat", "stat"]
    assert order[:24].count("stat") == 12, "stat is drained first"
    assert "routine" in order[:8]
    assert "backfill" in order[:14]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """A real OTLP receiver that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    """Run a collector; yield it and its host:port."""
    server = grpc.server(ThreadPoolExecutor(2))
    kept = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"127.0.0.1:{port}"
    server.stop(0)


async def test_a_trace_runs_on_over_the_bus_and_through_the_outbox(
    broker: Broker, toy: Toy
) -> None:
    async with collector() as (kept, address), tap(broker.bootstrap, OUT) as line:
        service = toy("chain", LUNGMESH_OTLP_ENDPOINT=address)
        await service.start()
        event = study_received()
        trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        record = envelope.outgoing(
            event, "id-1", "test", {"traceparent": f"00-{trace_id}-{parent}-01"}
        )
        await line.bus.publish([record])
        await until(lambda: service.lines("echo"), 10, "the second stage has it")
        assert await service.stop() == 0
        spans = {span.name: span for span in kept.spans}
    first, second = spans["process ledger"], spans["process echo"]
    assert {first.trace_id.hex(), second.trace_id.hex()} == {trace_id}
    assert first.parent_span_id.hex() == parent
    assert second.parent_span_id == first.span_id
    told = {item.key: item.value for item in second.attributes}
    assert told["messaging.destination.name"].string_value == OUT
    assert told["lungmesh.study_id"].string_value == event.study.study_id
    assert event.study.patient not in str(kept.spans), "no pseudonym of a patient in traces"
