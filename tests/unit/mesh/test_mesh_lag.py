"""How far a stage is behind, as its metrics tell it, and how a measurement joins its trace."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

from lungmesh.mesh.lag import watch_lag
from lungmesh.mesh.telemetry import exemplar
from tests.support.chassis import study_received, until
from tests.unit.mesh.line import OneStage, delivered, line


async def test_lag_counts_what_is_not_finished_by_lane(tmp_path: Path) -> None:
    held = threading.Event()

    def wait(event: object, ctx: object) -> list[object]:
        held.wait(10)
        return []

    async with line(OneStage(wait), tmp_path) as running:  # type: ignore[arg-type]
        await running.publish(*(study_received() for _ in range(3)))
        await until(lambda: running.metric("lungmesh_in_flight_events") == 2, 5, "two at work")
        watch = asyncio.create_task(
            watch_lag(running.bus, [running.runner], running.chassis.metrics)
        )
        await until(
            lambda: running.metric("lungmesh_lag_events", lane="routine") == 3, 5, "all are behind"
        )
        assert running.metric("lungmesh_lag_events", lane="stat") == 0
        assert running.metric("lungmesh_stage_places") == 2
        watch.cancel()
        held.set()
        await until(lambda: running.metric("lungmesh_queued_events") == 0, 5, "the queue is empty")


async def test_a_handlers_time_names_its_trace(tmp_path: Path) -> None:
    async with line(OneStage(lambda event, ctx: [delivered(event)]), tmp_path) as running:
        await running.publish(study_received())
        await until(lambda: running.out(type(delivered(study_received()))), 5, "it is handled")
        (record,) = running.bus.records("report.delivered.routine")
        family = next(
            one
            for one in running.chassis.metrics.registry.collect()
            if one.name == "lungmesh_handler_seconds"
        )
    traces = {one.exemplar.labels["trace_id"] for one in family.samples if one.exemplar}
    assert traces == {record.headers["traceparent"].decode().split("-")[1]}


def test_outside_a_trace_there_is_nothing_to_join() -> None:
    assert exemplar() is None
    with TracerProvider().get_tracer("test").start_as_current_span("one"):
        assert len((exemplar() or {})["trace_id"]) == 32
