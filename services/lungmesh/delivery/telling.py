"""What the mesh is told of a report on its way out."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.delivery.tables import ItemRow
from lungmesh.mesh import Mesh, Refused, Unavailable
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1.events_pb2 import (
    FAILURE_KIND_REFUSED,
    FAILURE_KIND_UNAVAILABLE,
    STAGE_STATE_DONE,
    STAGE_STATE_RETRYING,
    StageProgress,
    StudyFailed,
)
from lungmesh.v1.report_pb2 import ReportDelivered

_STAGE = "delivery"


class Teller:
    """Puts events into the outbox of the transaction that changes an item."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def delivered(
        self, session: AsyncSession, row: ItemRow, count: int, seconds: float
    ) -> None:
        """Say that the destination has confirmed every object."""
        study = row.report().study
        event = ReportDelivered(study=study, destination=row.destination, object_count=count)
        await self._mesh.emit(session, event, _id(row, "delivered", row.since))
        progress = StageProgress(
            study=study, stage=_STAGE, state=STAGE_STATE_DONE, fraction=1, handler_seconds=seconds
        )
        progress.at.FromMicroseconds(round(row.sent_at * 1e6))
        await self._mesh.emit(session, progress, _id(row, "done", row.since))

    async def waits(
        self, session: AsyncSession, row: ItemRow, error: Unavailable | Refused
    ) -> None:
        """Say that the destination did not take it, and that it is tried again."""
        study = row.report().study
        progress = StageProgress(
            study=study,
            stage=_STAGE,
            state=STAGE_STATE_RETRYING,
            detail=f"{row.destination}: {error}",
        )
        progress.at.GetCurrentTime()
        await self._mesh.emit(session, progress, _id(row, "waits", row.since))

    async def refused(
        self, session: AsyncSession, row: ItemRow, error: Unavailable | Refused
    ) -> None:
        """Say that it is a dead letter."""
        refused = isinstance(error, Refused)
        event = StudyFailed(
            study=row.report().study,
            stage=_STAGE,
            kind=FAILURE_KIND_REFUSED if refused else FAILURE_KIND_UNAVAILABLE,
            error_class=type(error).__name__,
            reason=f"{row.destination}: {error}",
            event_id=delivery_id(row),
        )
        event.at.GetCurrentTime()
        await self._mesh.emit(session, event, _id(row, "refused", row.since))


def delivery_id(row: ItemRow) -> str:
    """Return the name of a delivery, by which operators speak of it."""
    return _id(row, "item")


def _id(row: ItemRow, *what: object) -> str:
    return deterministic_id(_STAGE, *row.key, *what)
