"""How the mesh is doing, by what the console has seen of its studies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.console.results import DestinationRow, ModelRow
from lungmesh.console.store import StudyRow, status_of
from lungmesh.console.worklist import STAGE_ORDER, StageStatus, StudyStatus
from lungmesh.v1.console_pb2 import STUDY_OUTCOME_FAILED, STUDY_OUTCOME_IN_PROGRESS
from lungmesh.v1.events_pb2 import (
    STAGE_STATE_DONE,
    STAGE_STATE_FAILED,
    STAGE_STATE_RETRYING,
    STAGE_STATE_RUNNING,
    STAGE_STATE_STARTED,
)

_AT_WORK = (STAGE_STATE_STARTED, STAGE_STATE_RUNNING)
_DAY_SECONDS = 86400
# Studies that are not done, and done ones, that the figures are made of: the newest of each.
_MOST_OPEN, _MOST_DONE = 2000, 300
# The stage whose result each stage waits for.
_BEFORE = {
    "preprocess": "ingest",
    "detection": "preprocess",
    "malignancy": "detection",
    "followup": "malignancy",
    "report": "followup",
    "mdt": "followup",
}


async def recent(session: AsyncSession, tenants: Collection[str]) -> list[StudyRow]:
    """Return the newest studies that are not done, and the newest that are."""
    open_ones = StudyRow.outcome.in_((STUDY_OUTCOME_IN_PROGRESS, STUDY_OUTCOME_FAILED))
    found: list[StudyRow] = []
    for condition, most in ((open_ones, _MOST_OPEN), (~open_ones, _MOST_DONE)):
        query = select(StudyRow).where(StudyRow.tenant.in_(tenants), condition)
        found += await session.scalars(query.order_by(StudyRow.first_seen.desc()).limit(most))
    return found


async def seen(
    session: AsyncSession, tenants: Collection[str]
) -> tuple[Sequence[ModelRow], Sequence[DestinationRow]]:
    """Return the models that results named and the destinations that confirmed, latest first."""
    models = await session.scalars(
        select(ModelRow).where(ModelRow.tenant.in_(tenants)).order_by(ModelRow.last_seen.desc())
    )
    destinations = await session.scalars(
        select(DestinationRow)
        .where(DestinationRow.tenant.in_(tenants))
        .order_by(DestinationRow.last_at.desc())
    )
    return models.all(), destinations.all()


def stages(rows: Iterable[StudyRow]) -> list[dict[str, Any]]:
    """Return each stage's figures in the order of a study's way.

    `waiting` counts studies whose stage before is done and that this one has not taken up;
    `oldest_seconds` is how long the first of them waits.
    """
    studies = [status_of(row) for row in rows]
    return [_figures(name, studies, time.time()) for name in STAGE_ORDER]


def _figures(name: str, studies: Sequence[StudyStatus], now: float) -> dict[str, Any]:
    known = [study.stages[name] for study in studies if name in study.stages]
    done = [
        stage
        for stage in known
        if stage.state == STAGE_STATE_DONE and now - stage.at < _DAY_SECONDS
    ]
    seconds = [stage.handler_seconds for stage in done if stage.handler_seconds]
    waits = [
        now - (before.at or study.received_at)
        for study in studies
        if name not in study.stages
        and (before := study.stages.get(_BEFORE.get(name, ""))) is not None
        and before.state == STAGE_STATE_DONE
    ]
    return {
        "stage": name,
        "in_flight": _count(known, *_AT_WORK),
        "waiting": len(waits),
        "oldest_seconds": round(max(waits, default=0.0), 1),
        "retrying": _count(known, STAGE_STATE_RETRYING),
        "failed": _count(known, STAGE_STATE_FAILED),
        "done_24h": len(done),
        "seconds_p50": round(statistics.median(seconds), 2) if seconds else None,
    }


def _count(stages: Iterable[StageStatus], *states: int) -> int:
    return sum(stage.state in states for stage in stages)
