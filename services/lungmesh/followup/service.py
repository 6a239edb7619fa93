"""The follow-up service: its stage on the bus, its API by gRPC, its counts as metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from lungmesh.followup import figures
from lungmesh.followup.keeping import Keeper
from lungmesh.followup.servicer import FollowupServicer
from lungmesh.followup.settings import FollowupSettings
from lungmesh.followup.stage import FollowupStage
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.settings import load
from lungmesh.mesh.tasks import finish
from lungmesh.v1 import followup_pb2, followup_pb2_grpc

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


class Counts:
    """What is due, overdue and lost, and whom the tenants follow by category, as metrics."""

    def __init__(self, mesh: Mesh, settings: FollowupSettings) -> None:
        self._mesh, self._settings = mesh, settings
        self._late = Gauge(
            "lungmesh_followup_late_exams",
            "Exams that are due, overdue or lost today",
            ("tenant", "escalation"),
            registry=mesh.metrics.registry,
        )
        self._categories = Gauge(
            "lungmesh_followup_patients",
            "Patients to be followed by their category in the programme's guideline",
            ("tenant", "category"),
            registry=mesh.metrics.registry,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, int]]:
        """Count again and again while the service is up; it opens no port."""
        task = asyncio.create_task(self._run())
        try:
            yield {}
        finally:
            task.cancel()
            await finish({task}, 1.0)

    async def _run(self) -> None:
        while True:
            try:
                await self._count()
            except SQLAlchemyError as error:
                log.warning("the due exams could not be counted: %s", type(error).__name__)
            await asyncio.sleep(self._settings.count_seconds)

    async def _count(self) -> None:
        today = datetime.now(UTC).date().toordinal()
        grace, lost = self._settings.grace_days, self._settings.lost_days
        async with self._mesh.sessions() as session:
            late = await figures.late(session, today, grace, lost)
            categories = await figures.due_categories(session)
        # A tenant whose last exam is done must not stand on.
        self._late.clear()
        self._categories.clear()
        for tenant, counts in late.items():
            self._late.labels(tenant, "due").set(counts.due)
            self._late.labels(tenant, "overdue").set(counts.overdue)
            self._late.labels(tenant, "lost").set(counts.lost)
        for (tenant, category), count in categories.items():
            self._categories.labels(tenant, category).set(count)


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_FOLLOWUP__ setting is wrong or no database is set.
    """
    settings = load(FollowupSettings)
    keeper = Keeper(lambda: mesh.sessions, mesh.blobs, settings)
    servicer = FollowupServicer(mesh, keeper, settings)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        followup_pb2_grpc.add_FollowupServiceServicer_to_server(servicer, server)
        return [followup_pb2.DESCRIPTOR.services_by_name["FollowupService"].full_name]

    return Service(
        name="followup",
        stages=[FollowupStage(keeper, settings, mesh.metrics.registry)],
        register=register,
        lifespan=Counts(mesh, settings).running,
        migrations=MIGRATIONS,
    )
