"""Ingest's ear on the bus: how each study that it sent out ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.ingest import outcome, store
from lungmesh.ingest.metrics import IngestMetrics
from lungmesh.mesh import Context, Stage
from lungmesh.mesh.contract import lane_of, name_of
from lungmesh.mesh.telemetry import exemplar
from lungmesh.v1.events_pb2 import FailureKind, StudyFailed
from lungmesh.v1.mdt_pb2 import MdtRecommended
from lungmesh.v1.report_pb2 import ReportReady
from lungmesh.v1.study_pb2 import StudyReceived


class OutcomeStage(Stage):
    """Notes the end of a study's newest revision; a finished one is not sent again."""

    name = "ingest"
    consumes = (ReportReady, MdtRecommended, StudyFailed)
    # Sent from the outbox when a study is complete, not from `handle`.
    produces = (StudyReceived,)
    visible = False
    deadline_seconds = 30

    def __init__(self, metrics: IngestMetrics) -> None:
        self._metrics = metrics

    async def handle(self, event: Any, ctx: Context) -> Sequence[Message]:
        """Change the study's row; gives no events."""
        reference = event.study

        async def write(session: AsyncSession) -> None:
            row = await store.study(session, reference.tenant, reference.study_id, for_update=True)
            if row is not None and row.revision == reference.revision:
                now = time.time()
                if outcome.apply(row, event, now):
                    self._count(event, now - row.last_at)

        ctx.on_commit(write)
        return []

    def _count(self, event: Any, seconds: float) -> None:
        place = (event.study.tenant, lane_of(event.study))
        if isinstance(event, StudyFailed):
            kind = name_of(FailureKind.DESCRIPTOR, event.kind)
            self._metrics.ended.labels(*place, kind).inc()
            return
        self._metrics.ended.labels(*place, "reported").inc()
        self._metrics.turnaround.labels(*place).observe(max(0.0, seconds), exemplar())
