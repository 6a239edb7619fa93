"""The console's HTTP server: every route, and what every answer bears."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lungmesh.console.access import Refusal
from lungmesh.console.audit import Audit
from lungmesh.console.bell import Bell
from lungmesh.console.deliveries import Deliveries
from lungmesh.console.http.dicomweb import DicomWeb
from lungmesh.console.http.guard import Guard
from lungmesh.console.http.operations import Operations
from lungmesh.console.http.sign_in import SignIn
from lungmesh.console.http.studies import Correct, Studies
from lungmesh.console.http.worklist import Rows, Worklist
from lungmesh.console.metrics import ConsoleMetrics
from lungmesh.console.oidc import Provider
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.users import Users
from lungmesh.mesh import Mesh
from lungmesh.mesh.http import HttpServer

PAGE = Path(__file__).parents[1] / "web" / "dist"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        # WebAssembly: the decoders of the viewer.
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_HSTS = "max-age=31536000; includeSubDomains"
_ASSET = "public, max-age=31536000, immutable"
# Beside requests in hand, streams of events end by themselves at once.
_DRAIN_SECONDS = 10


class SafeHeaders:
    """Puts the headers of OWASP's list on every answer; nothing is cached but the page's assets.

    An answer that bears a content policy of its own keeps it.
    """

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self._app = app
        self._headers = {**_HEADERS, **({"Strict-Transport-Security": _HSTS} if secure else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with the headers added."""
        cached = scope.get("path", "").startswith("/assets/")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                keep = _ASSET if cached and message["status"] == 200 else "no-store"
                added = {**self._headers, "Cache-Control": keep}
                if any(name == b"content-security-policy" for name, _ in message["headers"]):
                    del added["Content-Security-Policy"]
                names = {name.lower().encode() for name in added}
                message["headers"] = [
                    *((name, value) for name, value in message["headers"] if name not in names),
                    *((name.lower().encode(), value.encode()) for name, value in added.items()),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


class OurHosts:
    """Refuses requests to another host: a page elsewhere whose name was bent to our address."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], guard: Guard) -> None:
        self._app, self._hosts, self._guard = app, hosts, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for a host of ours."""
        if scope["type"] == "http":
            request = Request(scope, receive)
            named = request.headers.get("host", "")
            if urlsplit(f"//{named}").hostname not in self._hosts:
                answer = await self._guard.refuse(request, Refusal("bad_host"))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class ConsoleServer:
    """The listener on the service's own event loop."""

    def __init__(
        self, mesh: Mesh, settings: ConsoleSettings, users: Users, bell: Bell, correct: Correct
    ) -> None:
        self._settings = settings
        metrics = ConsoleMetrics(mesh.metrics.registry)
        guard = Guard(settings, users, Audit(mesh.sessions), metrics)
        rows = Rows(settings)
        self._worklist = Worklist(guard, mesh.sessions, bell, rows)
        provider = Provider(settings) if settings.oidc.issuer else None
        routes: list[BaseRoute] = [
            *SignIn(guard, provider).routes(),
            *self._worklist.routes(),
            *Studies(guard, mesh, bell, rows, correct).routes(),
            *Operations(guard, mesh, Deliveries(settings, mesh.settings.tls)).routes(),
            *DicomWeb(guard, mesh.sessions, mesh.blobs).routes(),
            *_page(PAGE),
        ]
        hosts = [urlsplit(settings.public_url).hostname or "", *settings.hosts]
        app = Starlette(
            routes=routes,
            middleware=[
                Middleware(SafeHeaders, secure=settings.secure),
                Middleware(OurHosts, hosts=frozenset(hosts) - {""}, guard=guard),
            ],
            exception_handlers={HTTPException: _unmatched(guard)},
        )
        self.app = app
        self._server = HttpServer(app, "LUNGMESH_CONSOLE__HTTP_PORT", _DRAIN_SECONDS)

    async def start(self) -> int:
        """Listen; return the port.

        Raises SettingsError when the port is taken.
        """
        return await self._server.start(self._settings.http_host, self._settings.http_port)

    async def stop(self) -> None:
        """End the streams, take no new request and let those in hand finish."""
        self._worklist.closing.set()
        await self._server.close()


def _page(folder: Path) -> Sequence[BaseRoute]:
    """Return the routes of the built page, one document and its assets; none when not built."""
    document = folder / "index.html"
    if not document.is_file():
        return []

    async def shell(request: Request) -> Response:
        return FileResponse(document, media_type="text/html")

    made: list[BaseRoute] = [Route("/", shell)]
    if (folder / "assets").is_dir():
        made.append(Mount("/assets", StaticFiles(directory=folder / "assets")))
    return made


def _unmatched(guard: Guard) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        code = {405: "method_not_allowed", 413: "too_large"}.get(status, "not_found")
        return await guard.refuse(request, Refusal(code))

    return handler
