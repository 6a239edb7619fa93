"""What stands before every endpoint: session, origin, CSRF, role; and the audit after it."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lungmesh.console import audit
from lungmesh.console.access import Caller, Refusal
from lungmesh.console.audit import Audit, Note
from lungmesh.console.metrics import ConsoleMetrics
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.users import Users
from lungmesh.mesh.blobs import BlobMissing
from lungmesh.mesh.errors import BadInput, Refused, Unavailable, told

log = logging.getLogger(__name__)

COOKIE = "lungmesh_session"
MOST_BYTES = 64 * 1024
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Body(BaseModel):
    """A request's JSON: nothing unknown, nothing bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


B = TypeVar("B", bound=BaseModel)
Handler = Callable[[Request, Caller, Note], Awaitable[Response]]
OpenHandler = Callable[[Request, Note], Awaitable[Response]]


@dataclass(frozen=True)
class Guard:
    """Makes routes whose handlers run only for who may call them."""

    settings: ConsoleSettings
    users: Users
    trail: Audit
    metrics: ConsoleMetrics

    def route(
        self,
        path: str,
        handler: Handler,
        roles: frozenset[str],
        action: str,
        method: str = "GET",
        kept: bool = True,
    ) -> Route:
        """Return a route for users with one of the roles.

        Parameters
        ----------
        action
            Its name in the audit trail.
        kept
            Whether each call is in the trail; a refused one always is.
        """

        async def endpoint(request: Request) -> Response:
            note = Note(action)
            caller: Caller | None = None
            begun = time.perf_counter()
            try:
                self._check_origin(request)
                caller = await self.users.caller(request.cookies.get(COOKIE, ""))
                if caller is None:
                    raise Refusal("no_session")
                if request.method in _UNSAFE and not hmac.compare_digest(
                    request.headers.get("x-csrf-token", "").encode(), caller.csrf.encode()
                ):
                    raise Refusal("no_csrf")
                if not caller.roles & roles:
                    raise Refusal("not_allowed")
                response = await handler(request, caller, note)
            except Exception as error:
                response = await self._failed(request, error, note, caller)
            else:
                if kept:
                    await self.trail.write(note, audit.DONE, caller, address_of(request))
            self._count(action, response, begun)
            return response

        return Route(path, endpoint, methods=[method])

    def open_route(self, path: str, handler: OpenHandler, action: str, method: str) -> Route:
        """Return a route that needs no session; it is always in the trail."""

        async def endpoint(request: Request) -> Response:
            note = Note(action)
            begun = time.perf_counter()
            try:
                self._check_origin(request)
                response = await handler(request, note)
            except Exception as error:
                response = await self._failed(request, error, note, None)
            else:
                await self.trail.write(note, audit.DONE, None, address_of(request))
            self._count(action, response, begun)
            return response

        return Route(path, endpoint, methods=[method])

    async def refuse(self, request: Request, refusal: Refusal) -> Response:
        """Answer a request that no route takes; its path may hold anything and is not kept."""
        note, begun = Note("unknown"), time.perf_counter()
        response = await self._failed(request, refusal, note, None)
        self._count(note.action, response, begun)
        return response

    def _count(self, action: str, response: Response, begun: float) -> None:
        self.metrics.answered(action, response.status_code, time.perf_counter() - begun)

    def _check_origin(self, request: Request) -> None:
        if request.method not in _UNSAFE:
            return
        origin = request.headers.get("origin")
        ours = {urlsplit(self.settings.public_url).netloc, request.headers.get("host", "")}
        foreign = origin is not None and urlsplit(origin).netloc not in ours - {""}
        if foreign or request.headers.get("sec-fetch-site") == "cross-site":
            raise Refusal("wrong_origin")

    async def _failed(
        self, request: Request, error: Exception, note: Note, caller: Caller | None
    ) -> Response:
        refusal = _refusal_of(error)
        note.detail = refusal.code
        outcome = audit.FAILED if refusal.status >= 500 else audit.REFUSED
        if refusal.code == "defect":
            log.error("the request %s failed: %s", note.action, told(error))
        # Asking whether one is signed in is what every page does first.
        if (note.action, refusal.code) != ("session", "no_session"):
            await self.trail.write(note, outcome, caller, address_of(request))
        body: dict[str, object] = {**refusal.body()}
        if refusal.code == "no_session":
            # The login page must know where one can sign in.
            body["oidc"] = bool(self.settings.oidc.issuer)
        headers = {"Retry-After": str(refusal.retry_seconds)} if refusal.retry_seconds else {}
        return JSONResponse(body, refusal.status, headers)


def _refusal_of(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, (BadInput, Refused)):
        return Refusal("bad_request", str(error))
    if isinstance(error, BlobMissing):
        return Refusal("not_found")
    if isinstance(error, Unavailable):
        return Refusal("unavailable", retry_seconds=5)
    if isinstance(error, ClientDisconnect):
        return Refusal("bad_request")
    return Refusal("defect")


def address_of(request: Request) -> str:
    """Return the network address of who asks, empty when unknown."""
    return request.client.host if request.client is not None else ""


async def read_json(request: Request, kind: type[B]) -> B:
    """Return the request's body, checked.

    Raises Refusal: too_large, not_json, bad_request that names the field.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal("not_json")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > MOST_BYTES:
        raise Refusal("too_large")
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BYTES:
            raise Refusal("too_large")
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise Refusal("not_json") from error
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        # Names and kinds only: the values, and unknown names, may be anything.
        places = {
            ".".join(str(part) for part in item["loc"])
            for item in error.errors()
            if item["type"] != "extra_forbidden"
        }
        what = f"Wrong or missing: {', '.join(sorted(places))}." if places else "Unknown fields."
        raise Refusal("bad_request", what) from error


def whole_number(text: str | None, default: int, most: int) -> int:
    """Return a number of the query, 1 … most.

    Raises Refusal (bad_request).
    """
    if text is None or not text:
        return default
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise Refusal("bad_request", f"A limit is a number from 1 to {most}.")
    return int(text)


def tenant_of(request: Request, caller: Caller) -> tuple[str, ...]:
    """Return the tenants that are asked for: one by name, else all of the caller's.

    Raises Refusal (wrong_tenant).
    """
    named = request.query_params.get("tenant", "")
    if not named:
        return caller.tenants
    if named not in caller.tenants:
        raise Refusal("wrong_tenant")
    return (named,)
