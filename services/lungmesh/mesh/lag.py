"""How far behind each stage's consumer group is, told as a metric while the process runs."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from lungmesh.mesh.bus.port import Bus
from lungmesh.mesh.contract import LANES
from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.runner import StageRunner
from lungmesh.mesh.telemetry import Metrics

log = logging.getLogger(__name__)

_EVERY_SECONDS = 15.0


async def watch_lag(bus: Bus, runners: Sequence[StageRunner], metrics: Metrics) -> None:
    """Measure again and again until cancelled; a broker that is away leaves the last figures."""
    while True:
        for runner in runners:
            try:
                await _measure(bus, runner, metrics)
            except Unavailable:
                # The bus itself says that the broker is away.
                continue
            except Exception:
                log.exception("the lag of %s could not be measured", runner.stage.name)
        await asyncio.sleep(_EVERY_SECONDS)


async def _measure(bus: Bus, runner: StageRunner, metrics: Metrics) -> None:
    by_lane: Counter[str] = Counter()
    for topic, behind in (await bus.lag(runner.group, runner.topics())).items():
        lane = topic.rpartition(".")[2]
        by_lane[lane if lane in LANES else "retry"] += behind
    for lane in (*LANES, "retry"):
        metrics.lag.labels(runner.stage.name, lane).set(by_lane[lane])
