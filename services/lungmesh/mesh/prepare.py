"""Make ready what a service needs before its new version starts: tables and topics.

`python -m lungmesh.mesh.prepare SERVICE` does once, and then ends, what a service also does at
each start. Before an upgrade it shows a wrong setting while the old version still runs.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable

from lungmesh.mesh.bus.kafka import KafkaBus
from lungmesh.mesh.bus.port import Bus
from lungmesh.mesh.chassis import Chassis
from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.service import Mesh, Service
from lungmesh.mesh.settings import MeshSettings, load
from lungmesh.mesh.telemetry import Metrics, start_logging, start_tracing

log = logging.getLogger("lungmesh.mesh.prepare")


async def prepare(
    build: Callable[[Mesh], Service], name: str, settings: MeshSettings, bus: Bus
) -> list[str]:
    """Bring the tables to their newest version and make the topics; return the topics.

    Waits for database and broker without end.

    Raises SettingsError when a setting is missing or wrong.
    """
    tracer = start_tracing(name, None).get_tracer("lungmesh.mesh")
    chassis = Chassis(name, settings, bus, Metrics(), tracer)
    try:
        service = build(chassis)
        await chassis.open_database(service.migrations)
        await bus.start()
        runners = [chassis.runner(stage) for stage in service.stages]
        topics = sorted({topic for runner in runners for topic in runner.all_topics()})
        await bus.ensure_topics(topics)
    finally:
        await chassis.close()
    return topics


async def _prepare(name: str) -> None:
    settings = load(MeshSettings)
    start_logging(name, settings.log_level)
    build = importlib.import_module(f"lungmesh.{name}.service").build
    bus = KafkaBus(settings.kafka, f"lungmesh-{name}")
    topics = await prepare(build, name, settings, bus)
    log.info("tables are at their newest version; %d topics exist", len(topics))


def main(arguments: list[str]) -> int:
    """Return the exit status: 2 for a wrong command or setting, said in one line."""
    if len(arguments) != 1:
        print("usage: python -m lungmesh.mesh.prepare SERVICE", file=sys.stderr)
        return 2
    try:
        asyncio.run(_prepare(arguments[0]))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
