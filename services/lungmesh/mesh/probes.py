"""/metrics, /livez and /readyz on one small HTTP server."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lungmesh.mesh.http import HttpServer
from lungmesh.mesh.telemetry import Metrics


class Probes:
    """Answers probes and scrapes on the service's own event loop, so a stuck loop shows."""

    def __init__(self, metrics: Metrics, not_ready: Callable[[], list[str]]) -> None:
        self._metrics = metrics
        self._not_ready = not_ready
        routes = [
            Route("/metrics", self._scrape),
            Route("/livez", self._live),
            Route("/readyz", self._ready),
        ]
        self._server = HttpServer(Starlette(routes=routes), "LUNGMESH_METRICS_PORT")

    async def start(self, host: str, port: int) -> int:
        """Bind and serve; return the port.

        Raises SettingsError when the port is taken.
        """
        return await self._server.start(host, port)

    async def close(self) -> None:
        """Stop answering."""
        await self._server.close()

    async def _scrape(self, request: Request) -> Response:
        # OpenMetrics for a scraper that asks for it: only that format carries exemplars.
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._metrics.registry), media_type=media_type)

    async def _live(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _ready(self, request: Request) -> Response:
        reasons = self._not_ready()
        text = "".join(f"{reason}\n" for reason in reasons) or "ready\n"
        return PlainTextResponse(text, status_code=503 if reasons else 200)
