"""Signing in and out, the session, the user's own settings, and the users for administrators."""

from __future__ import annotations

import json
import re
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute

from lungmesh.console.access import ADMINISTRATORS, ANYONE, USER_PATTERN, Caller, Refusal
from lungmesh.console.audit import Audit, Note
from lungmesh.console.http.guard import (
    COOKIE,
    Body,
    Guard,
    address_of,
    read_json,
    whole_number,
)
from lungmesh.console.oidc import Provider
from lungmesh.console.users import Users
from lungmesh.console.views import iso

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FLOW_COOKIE = "lungmesh_oidc"


class Login(Body):
    """Name and password."""

    user: str
    password: str


class NewPassword(Body):
    """The old password and the new one."""

    old: str
    new: str


class Language(Body):
    """What the user reads."""

    language: Literal["en", "zh"]


class UserBody(Body):
    """What an administrator says of a user."""

    roles: list[str]
    tenants: list[str]
    disabled: bool = False
    password: str | None = None


class SignIn:
    """The endpoints that make, show and end sessions."""

    def __init__(self, guard: Guard, provider: Provider | None) -> None:
        self._guard, self._provider = guard, provider
        self._users: Users = guard.users
        self._trail: Audit = guard.trail

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        guard = self._guard
        made: list[BaseRoute] = [
            guard.open_route("/api/login", self._login, "login", "POST"),
            guard.route("/api/logout", self._logout, ANYONE, "logout", "POST"),
            guard.route("/api/session", self._session, ANYONE, "session", kept=False),
            guard.route("/api/password", self._password, ANYONE, "password", "POST"),
            guard.route("/api/language", self._language, ANYONE, "language", "POST", kept=False),
            guard.route("/api/users", self._list, ADMINISTRATORS, "users"),
            guard.route("/api/users/{name}", self._put, ADMINISTRATORS, "user", "PUT"),
            guard.route("/api/audit", self._audit, ADMINISTRATORS, "audit"),
        ]
        if self._provider is not None:
            doors = ProviderDoors(guard, self._provider)
            made.append(guard.open_route("/auth/oidc", doors.leave, "oidc", "GET"))
            made.append(guard.open_route("/auth/oidc/callback", doors.come_back, "oidc", "GET"))
        return made

    async def _login(self, request: Request, note: Note) -> Response:
        body = await read_json(request, Login)
        # What is typed into the field may be anything: only names of users are kept.
        if await self._users.known(body.user):
            note.object = body.user
        token = await self._users.login(body.user, body.password, address_of(request))
        return _with_cookie(self._guard, Response(status_code=204), token)

    async def _logout(self, request: Request, caller: Caller, note: Note) -> Response:
        await self._users.close(caller)
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path="/")
        return response

    async def _session(self, request: Request, caller: Caller, note: Note) -> Response:
        return JSONResponse(
            {
                "user": caller.user,
                "roles": sorted(caller.roles),
                "tenants": list(caller.tenants),
                "csrf": caller.csrf,
                "language": caller.language,
                "local": caller.local,
                "oidc": self._provider is not None,
                "expires_at": iso(caller.expires),
            }
        )

    async def _password(self, request: Request, caller: Caller, note: Note) -> Response:
        body = await read_json(request, NewPassword)
        await self._users.change_password(caller, body.old, body.new, address_of(request))
        return Response(status_code=204)

    async def _language(self, request: Request, caller: Caller, note: Note) -> Response:
        body = await read_json(request, Language)
        await self._users.choose_language(caller, body.language)
        return Response(status_code=204)

    async def _list(self, request: Request, caller: Caller, note: Note) -> Response:
        users = await self._users.listed()
        return JSONResponse(
            {
                "users": [
                    {
                        "name": user.name,
                        "roles": json.loads(user.roles),
                        "tenants": json.loads(user.tenants),
                        "disabled": user.disabled,
                        "local": user.local,
                    }
                    for user in users
                ]
            }
        )

    async def _put(self, request: Request, caller: Caller, note: Note) -> Response:
        body = await read_json(request, UserBody)
        name = request.path_params["name"]
        if not re.fullmatch(USER_PATTERN, name):
            raise Refusal("bad_request", "The user's name is not valid.")
        note.object = name
        if not all(_TENANT.fullmatch(tenant) for tenant in body.tenants):
            raise Refusal("bad_request", "A tenant's name is not valid.")
        await self._users.put(name, body.roles, body.tenants, body.disabled, body.password)
        return Response(status_code=204)

    async def _audit(self, request: Request, caller: Caller, note: Note) -> Response:
        limit = whole_number(request.query_params.get("limit"), 100, 500)
        before = request.query_params.get("page")
        rows = await self._trail.read(
            whole_number(before, 1, 999_999_999) if before else None, limit
        )
        return JSONResponse(
            {
                "entries": [
                    {
                        "at": iso(row.at),
                        "user": row.user_name,
                        "roles": row.roles,
                        "address": row.address,
                        "action": row.action,
                        "object": row.object,
                        "outcome": row.outcome,
                        "detail": row.detail,
                    }
                    for row in rows
                ],
                "next_page": str(rows[-1].number) if len(rows) == limit else "",
            }
        )


class ProviderDoors:
    """The way to the identity provider and back."""

    def __init__(self, guard: Guard, provider: Provider) -> None:
        self._guard, self._provider = guard, provider

    async def leave(self, request: Request, note: Note) -> Response:
        """Send the browser to the provider."""
        back = request.query_params.get("return", "/")
        fresh = request.query_params.get("fresh") == "1"
        url, flow = await self._provider.start(_local_path(back), fresh)
        response = RedirectResponse(url, 303)
        # Lax: the provider's redirect comes from another site.
        response.set_cookie(
            _FLOW_COOKIE,
            flow,
            max_age=600,
            path="/auth/oidc",
            secure=self._guard.settings.secure,
            httponly=True,
            samesite="lax",
        )
        return response

    async def come_back(self, request: Request, note: Note) -> Response:
        """Open a session for whom the provider has sent back."""
        flow = request.cookies.get(_FLOW_COOKIE, "")
        found = await self._provider.finish(flow, dict(request.query_params))
        await self._guard.users.from_provider(found.name, found.roles, found.tenants)
        note.object = found.name
        # A page of ours, not a redirect: a Strict cookie would not go along with the provider's.
        response = Response(
            f'<!doctype html><meta charset="utf-8"><title>LungMesh</title>'
            f'<meta http-equiv="refresh" content="0;url={_attribute(found.back)}">',
            media_type="text/html",
        )
        response.delete_cookie(_FLOW_COOKIE, path="/auth/oidc")
        token = await self._guard.users.open(found.name, found.authenticated)
        return _with_cookie(self._guard, response, token)


def _with_cookie(guard: Guard, response: Response, token: str) -> Response:
    response.set_cookie(
        COOKIE,
        token,
        path="/",
        secure=guard.settings.secure,
        httponly=True,
        samesite="strict",
    )
    return response


def _local_path(text: str) -> str:
    """Return a path of our own page; anything else becomes the start page."""
    return text if re.fullmatch(r"/(?!/)[A-Za-z0-9/_.#?=&-]{0,200}", text) else "/"


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;")
