"""Figures of ingest that no event changes: studies on their way, their age, the disk."""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from lungmesh.ingest.metrics import IngestMetrics
from lungmesh.ingest.spool import Spool
from lungmesh.ingest.store import StudyRow
from lungmesh.mesh import Mesh
from lungmesh.mesh.contract import lane_of
from lungmesh.mesh.db import READS_ONLY
from lungmesh.v1.ingest_pb2 import STUDY_STATE_PROCESSING
from lungmesh.v1.study_pb2 import Priority, StudyRef

log = logging.getLogger(__name__)

_EVERY_SECONDS = 15.0


async def count_unfinished(mesh: Mesh, metrics: IngestMetrics, spool: Spool) -> None:
    """Count, and look at the spool's disk, again and again until cancelled."""
    # Tenant and lane of every study that was found so far.
    places: set[tuple[str, str]] = set()
    while True:
        try:
            await _count(mesh, metrics, places)
        except SQLAlchemyError as error:
            log.warning("the open studies could not be counted: %s", type(error).__name__)
        metrics.free_bytes.set(await asyncio.to_thread(spool.free_bytes))
        await asyncio.sleep(_EVERY_SECONDS)


async def _count(mesh: Mesh, metrics: IngestMetrics, places: set[tuple[str, str]]) -> None:
    query = (
        select(StudyRow.tenant, StudyRow.priority, func.count(), func.min(StudyRow.since))
        .where(StudyRow.state == STUDY_STATE_PROCESSING)
        .group_by(StudyRow.tenant, StudyRow.priority)
    )
    async with mesh.sessions() as session:
        await session.connection(execution_options=READS_ONLY)
        rows = (await session.execute(query)).all()
    now = time.time()
    found = {
        (tenant, lane_of(StudyRef(priority=Priority.ValueType(priority)))): (
            count,
            max(0.0, now - first),
        )
        for tenant, priority, count, first in rows
    }
    # A lane whose last study ended goes to 0, so that its series does not break off.
    places |= found.keys()
    for place in places:
        count, age = found.get(place, (0, 0.0))
        metrics.unfinished.labels(*place).set(count)
        metrics.oldest_unfinished_seconds.labels(*place).set(age)
