"""/metrics, /livez and /readyz on one small HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.telemetry import Metrics


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield


class Probes:
    """Answers probes and scrapes on the service's own event loop, so a stuck loop shows."""

    def __init__(self, metrics: Metrics, not_ready: Callable[[], list[str]]) -> None:
        self._metrics = metrics
        self._not_ready = not_ready
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Bind and serve; return the port.

        Raises SettingsError when the port is taken.
        """
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"LUNGMESH_METRICS_PORT: {host}:{port} cannot be bound: {error.strerror}"
            ) from error
        app = Starlette(
            routes=[
                Route("/metrics", self._scrape),
                Route("/livez", self._live),
                Route("/readyz", self._ready),
            ]
        )
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        bound: int = listener.getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop answering."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    async def _scrape(self, request: Request) -> Response:
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _live(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _ready(self, request: Request) -> Response:
        reasons = self._not_ready()
        text = "".join(f"{reason}\n" for reason in reasons) or "ready\n"
        return PlainTextResponse(text, status_code=503 if reasons else 200)
