"""Stages on the real runner, results and retries, with the broker in memory."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message
from opentelemetry.sdk.trace import TracerProvider

from lungmesh.mesh import Context, RetryPolicy, Stage, envelope
from lungmesh.mesh.bus.memory import MemoryBus
from lungmesh.mesh.bus.port import Record
from lungmesh.mesh.chassis import Chassis
from lungmesh.mesh.runner import StageRunner
from lungmesh.mesh.settings import MeshSettings
from lungmesh.mesh.telemetry import Metrics
from lungmesh.v1.report_pb2 import ReportDelivered
from lungmesh.v1.study_pb2 import StudyReceived

M = TypeVar("M", bound=Message)
Work = Callable[[StudyReceived, Context], Sequence[Message]]


def delivered(event: StudyReceived) -> ReportDelivered:
    """The event that test stages give."""
    return ReportDelivered(study=event.study, destination="test", object_count=1)


class OneStage(Stage):
    """A stage that does what a function says, in a thread as services' handlers do."""

    name = "one"
    consumes = (StudyReceived,)
    produces = (ReportDelivered,)
    retry = RetryPolicy(unavailable_delays=(0.01, 0.01), defect_delays=(0.01,))
    concurrency = 2

    def __init__(self, work: Work) -> None:
        self._work = work

    def handle(self, event: StudyReceived, ctx: Context) -> Sequence[Message]:
        """Do it."""
        return self._work(event, ctx)


class OrderedStage(OneStage):
    """The same, where one patient's events stay in order."""

    name = "ordered"
    ordered = True


class Line:
    """A running stage with its bus."""

    def __init__(self, chassis: Chassis, bus: MemoryBus, runner: StageRunner) -> None:
        self.chassis = chassis
        self.bus = bus
        self.runner = runner
        self.stage = runner.stage.name

    async def publish(self, *messages: Message) -> list[str]:
        """Publish events, each with a new id."""
        ids = [str(uuid.uuid4()) for _ in messages]
        pairs = zip(messages, ids, strict=True)
        await self.bus.publish([envelope.outgoing(event, name, "test") for event, name in pairs])
        return ids

    def out(self, kind: type[M], lane: str = "routine") -> list[M]:
        """Events of a type that were published."""
        return [kind.FromString(r.value) for r in self.bus.records(envelope.topic(kind, lane))]

    def letters(self) -> list[Record]:
        """The stage's dead letters."""
        return self.bus.records(f"{self.stage}.dlq")

    def metric(self, name: str, **labels: str) -> float:
        """Value of a metric of this stage."""
        labels = {"stage": self.stage, **labels}
        return self.chassis.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def line(
    stage: Stage, folder: Path, bus: MemoryBus | None = None, database: bool = False
) -> AsyncIterator[Line]:
    """Run a stage until the block ends; the folder outlives it."""
    settings = MeshSettings(
        blobs_url=f"file://{folder}/blobs",
        database_url=f"sqlite+aiosqlite:///{folder}/mesh.db" if database else None,
    )
    bus = bus or MemoryBus()
    tracer = TracerProvider().get_tracer("test")
    chassis = Chassis(stage.name, settings, bus, Metrics(), tracer)
    if database:
        own_tables = folder / "no_migrations"
        own_tables.mkdir(exist_ok=True)
        await chassis.open_database(own_tables)
        chassis.start_relay()
    runner = chassis.runner(stage)
    runner.start()
    try:
        yield Line(chassis, bus, runner)
    finally:
        await runner.drain(2)
        await chassis.close()
