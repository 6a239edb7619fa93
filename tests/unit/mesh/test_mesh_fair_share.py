"""One hospital's archive on its way through must not delay another's urgent study."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.message import Message

from lungmesh.mesh import Context, Stage
from lungmesh.v1.report_pb2 import ReportDelivered
from lungmesh.v1.study_pb2 import (
    PRIORITY_BACKFILL,
    PRIORITY_ROUTINE,
    PRIORITY_STAT,
    Priority,
    StudyReceived,
)
from tests.support.chassis import study_received, until
from tests.unit.mesh.line import line

BACKFILL = 5000


class GatedStage(Stage):
    """Notes whose study it takes; the first waits for the gate."""

    name = "gated"
    consumes = (StudyReceived,)
    produces = (ReportDelivered,)
    visible = False
    concurrency = 2

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.taken: list[str] = []

    async def handle(self, event: StudyReceived, ctx: Context) -> Sequence[Message]:
        """Take it."""
        self.taken.append(event.study.tenant)
        await self.gate.wait()
        return []


def of(tenant: str, priority: Priority.ValueType) -> StudyReceived:
    event = study_received(priority=priority)
    event.study.tenant = tenant
    return event


@pytest.mark.parametrize("priority", [PRIORITY_STAT, PRIORITY_ROUTINE], ids=["stat", "routine"])
async def test_a_backfill_delays_another_hospital_by_what_is_in_the_handler_alone(
    priority: Priority.ValueType, tmp_path: Path
) -> None:
    stage = GatedStage()
    async with line(stage, tmp_path) as mesh:
        await mesh.publish(*(of("archive", PRIORITY_BACKFILL) for _ in range(BACKFILL)))
        await until(lambda: len(stage.taken) == stage.concurrency, 30, "the handlers are full")
        await mesh.publish(of("other", priority))
        await asyncio.sleep(0.05)  # both topics are delivered on this loop, and nothing is taken
        stage.gate.set()
        await until(lambda: "other" in stage.taken, 30, "the other hospital's study is taken")
    assert stage.taken.index("other") == stage.concurrency
