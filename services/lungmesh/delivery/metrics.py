"""What waits and what went, by destination; never by patient."""

from __future__ import annotations

import asyncio
import logging
import time

from prometheus_client import Counter, Gauge
from sqlalchemy.exc import SQLAlchemyError

from lungmesh.delivery import figures
from lungmesh.delivery.store import Rule
from lungmesh.mesh import Mesh
from lungmesh.mesh.db import READS_ONLY

log = logging.getLogger(__name__)
_LABELS = ("tenant", "destination")


class Counts:
    """The service's metrics."""

    def __init__(self, mesh: Mesh, every_seconds: float) -> None:
        self._mesh, self._every = mesh, every_seconds
        registry = mesh.metrics.registry
        self._waiting = Gauge(
            "lungmesh_delivery_waiting",
            "Reports that wait for a destination",
            _LABELS,
            registry=registry,
        )
        self._oldest = Gauge(
            "lungmesh_delivery_oldest_seconds",
            "How long the first of them waits",
            _LABELS,
            registry=registry,
        )
        self._dead = Gauge(
            "lungmesh_delivery_dead_letters",
            "Reports that a destination refused, or did not take before the age limit",
            _LABELS,
            registry=registry,
        )
        self._away = Gauge(
            "lungmesh_delivery_destination_down",
            "1 while a destination takes nothing",
            _LABELS,
            registry=registry,
        )
        self._sent = Counter(
            "lungmesh_delivery_sent",
            "Reports that a destination confirmed",
            _LABELS,
            registry=registry,
        )
        self._refused = Counter(
            "lungmesh_delivery_refused",
            "Reports that became dead letters",
            _LABELS,
            registry=registry,
        )

    def sent(self, rule: Rule) -> None:
        """Count a report that a destination confirmed."""
        self._sent.labels(rule.tenant, rule.name).inc()

    def refused(self, rule: Rule) -> None:
        """Count a dead letter."""
        self._refused.labels(rule.tenant, rule.name).inc()

    async def run(self) -> None:
        """Count what waits again and again."""
        while True:
            try:
                await self._count()
            except SQLAlchemyError as error:
                log.warning("what waits could not be counted: %s", type(error).__name__)
            await asyncio.sleep(self._every)

    async def _count(self) -> None:
        async with self._mesh.sessions() as session:
            await session.connection(execution_options=READS_ONLY)
            found = await figures.destinations(session, None)
        now = time.time()
        for one in found:
            labels = (one.tenant, one.name)
            # Counts begin at 0: an increase from nothing to 1 would not show.
            self._sent.labels(*labels)
            self._refused.labels(*labels)
            self._waiting.labels(*labels).set(one.waiting)
            self._oldest.labels(*labels).set(now - one.oldest if one.oldest else 0.0)
            self._dead.labels(*labels).set(one.refused)
            self._away.labels(*labels).set(bool(one.down_since))
