"""One process of the mesh: settings, database, gRPC, stages, probes, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lungmesh.mesh.bus.kafka import KafkaBus
from lungmesh.mesh.bus.port import Bus
from lungmesh.mesh.chassis import Chassis
from lungmesh.mesh.errors import MeshError, SettingsError
from lungmesh.mesh.lag import watch_lag
from lungmesh.mesh.probes import Probes
from lungmesh.mesh.runner import StageRunner
from lungmesh.mesh.server import GrpcServer
from lungmesh.mesh.service import Mesh, Service
from lungmesh.mesh.settings import MeshSettings, load
from lungmesh.mesh.tasks import finish
from lungmesh.mesh.telemetry import Metrics, start_logging, start_tracing
from lungmesh.mesh.tls import not_after

# By name: as a program this module is called __main__.
log = logging.getLogger("lungmesh.mesh.serve")

_DRAIN_SECONDS = 25.0
_LOOK_SECONDS = 0.1
# A handler that overran its deadline has this long to notice it before the process ends itself.
_OVERDUE_SECONDS = 30.0
# Threads for blobs and blocking library calls; each plain handler has one of its own.
_THREADS = 16


class HandlersOverdue(MeshError):
    """Every worker of a stage is past its deadline: only a new process helps."""


class Process:
    """A service on its chassis, from start to end."""

    def __init__(
        self, build: Callable[[Mesh], Service], name: str, settings: MeshSettings, bus: Bus
    ) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._traces = start_tracing(name, settings.otlp_endpoint)
        tracer = self._traces.get_tracer("lungmesh.mesh")
        self._chassis = Chassis(name, settings, bus, self._metrics, tracer)
        self._service = build(self._chassis)
        self._grpc = GrpcServer(self._metrics, tracer)
        self._probes = Probes(self._metrics, self.not_ready)
        self._runners: list[StageRunner] = []
        self._draining = False
        self._started = False

    def not_ready(self) -> list[str]:
        """Say, a sentence each, why the service takes no work now."""
        if self._draining:
            return ["the service is stopping"]
        if not self._started:
            return ["the service is starting"]
        reasons = [] if self._chassis.bus.healthy else ["the broker is away"]
        return reasons + [reason for runner in self._runners if (reason := runner.not_ready())]

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain.

        Raises HandlersOverdue when a stage has no worker left.
        """
        service, settings, chassis = self._service, self._settings, self._chassis
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._traces.shutdown)
            metrics_port = await self._probes.start(settings.metrics_host, settings.metrics_port)
            stack.push_async_callback(self._probes.close)
            stack.push_async_callback(chassis.close)
            if not await _unless(stop, chassis.open_database(service.migrations)):
                return
            if not await _unless(stop, chassis.bus.start()):
                return
            self._runners = [chassis.runner(stage) for stage in service.stages]
            topics = [topic for runner in self._runners for topic in runner.all_topics()]
            await chassis.bus.ensure_topics(topics)
            for stage in service.stages:
                await stage.open()
                stack.push_async_callback(stage.close)
            address = f"{settings.grpc_host}:{settings.grpc_port}"
            grpc_port = await self._grpc.start(address, service.register, settings.tls)
            stack.push_async_callback(self._grpc.close, _DRAIN_SECONDS)
            if settings.tls:
                ends = not_after(settings.tls.certificate)
                self._metrics.certificate.labels("services").set(ends)
            chassis.start_relay()
            ports: dict[str, int] = {}
            if service.lifespan is not None:
                ports = await stack.enter_async_context(service.lifespan())
            stack.push_async_callback(self._drain)
            for runner in self._runners:
                runner.start()
            lag = asyncio.create_task(watch_lag(chassis.bus, self._runners, self._metrics))
            stack.push_async_callback(finish, {lag}, 0.0)
            self._started = True
            announced = {"service": service.name, "grpc": grpc_port, "metrics": metrics_port}
            await self._watch(stop, {**announced, **ports})

    async def _watch(self, stop: asyncio.Event, announced: dict[str, object]) -> None:
        """Keep health true, and announce the ports once everything is ready."""
        ready = False
        written = False
        whole = time.monotonic()
        while not stop.is_set():
            reasons = self.not_ready()
            if not any(runner.overdue for runner in self._runners):
                whole = time.monotonic()
            elif time.monotonic() - whole > _OVERDUE_SECONDS:
                raise HandlersOverdue("; ".join(reasons))
            self._metrics.broker_up.set(self._chassis.bus.healthy)
            if ready == bool(reasons):
                ready = not reasons
                await self._grpc.set_serving(ready)
                log.info("ready" if ready else "not ready: " + "; ".join(reasons))
            if ready and not written:
                written = True
                self._announce(announced)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)

    def _announce(self, announced: dict[str, object]) -> None:
        path = self._settings.ready_file
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(announced))
            # Readers must never see half a file.
            os.replace(part, path)

    async def _drain(self) -> None:
        self._draining = True
        await self._grpc.set_serving(False)
        await asyncio.gather(*(runner.drain(_DRAIN_SECONDS) for runner in self._runners))


async def _unless(stop: asyncio.Event, work: object) -> bool:
    """Await work, or give it up when the service is told to stop; return whether it was done."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        return False
    await task
    return True


async def serve(build: Callable[[Mesh], Service], name: str) -> None:
    """Run a service until SIGTERM or SIGINT.

    Raises SettingsError when a setting is missing or wrong.
    """
    settings = load(MeshSettings)
    start_logging(name, settings.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bus = KafkaBus(settings.kafka, f"lungmesh-{name}")
    await Process(build, name, settings, bus).run(stop)


def main(name: str) -> None:
    """Run the service of this name: `lungmesh.<name>.service:build`."""
    try:
        module = importlib.import_module(f"lungmesh.{name}.service")
    except ModuleNotFoundError as error:
        if error.name not in (f"lungmesh.{name}", f"lungmesh.{name}.service"):
            raise
        print(f"there is no service {name!r}", file=sys.stderr)
        sys.exit(2)
    run(module.build, name)


def run(build: Callable[[Mesh], Service], name: str) -> None:
    """Run a service as this process; a wrong setting ends it with one line and status 2."""
    try:
        asyncio.run(serve(build, name))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except HandlersOverdue as error:
        log.critical("the process ends itself, to be started again: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python -m lungmesh.mesh.serve SERVICE", file=sys.stderr)
        sys.exit(2)
    main(sys.argv[1])
