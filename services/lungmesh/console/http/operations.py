"""The operators' page: what waits, what failed, and sending it on its way again."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from lungmesh.console import operations
from lungmesh.console.access import OPERATORS, Caller, Refusal
from lungmesh.console.audit import Note
from lungmesh.console.http.guard import Guard, tenant_of
from lungmesh.console.views import iso
from lungmesh.mesh import Mesh
from lungmesh.mesh.deadletter import DeadLetter, list_dead_letters, replay

_EVENT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


class Operations:
    """Endpoints of the operators' page."""

    def __init__(self, guard: Guard, mesh: Mesh) -> None:
        self._guard, self._mesh = guard, mesh

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        path = "/api/operations"
        again = f"{path}/dead-letters/{{event_id}}/replay"
        return [
            self._guard.route(path, self._page, OPERATORS, "operations", kept=False),
            self._guard.route(again, self._replay, OPERATORS, "replay", "POST"),
        ]

    async def _page(self, request: Request, caller: Caller, note: Note) -> Response:
        tenants = tenant_of(request, caller)
        letters = [letter for letter in await self._letters() if letter.tenant in tenants]
        async with self._mesh.sessions() as session:
            rows = await operations.recent(session, tenants)
            models, destinations = await operations.seen(session, tenants)
        stages = operations.stages(rows)
        for stage in stages:
            stage["dead_letters"] = sum(
                letter.stage == stage["stage"] and not letter.replayed for letter in letters
            )
        return JSONResponse(
            {
                "stages": stages,
                "dead_letters": [
                    {
                        "event_id": letter.event_id,
                        "stage": letter.stage,
                        "kind": letter.kind,
                        "reason": letter.reason,
                        "error_class": letter.error_class,
                        "tenant": letter.tenant,
                        "time": letter.time,
                        "replayed": letter.replayed,
                    }
                    for letter in reversed(letters)
                ],
                "models": [
                    {"name": row.name, "version": row.version, "last_seen": iso(row.last_seen)}
                    for row in models
                ],
                "destinations": [
                    {"name": row.name, "delivered": row.delivered, "last_at": iso(row.last_at)}
                    for row in destinations
                ],
            }
        )

    async def _replay(self, request: Request, caller: Caller, note: Note) -> Response:
        event_id = request.path_params["event_id"]
        if not _EVENT_ID.fullmatch(event_id):
            raise Refusal("not_found")
        found = [
            letter
            for letter in await self._letters()
            if letter.event_id == event_id and letter.tenant in caller.tenants
        ]
        if not found:
            raise Refusal("not_found")
        note.object = event_id
        stage = found[-1].stage
        kafka = self._mesh.settings.kafka
        count = await asyncio.to_thread(replay, kafka, stage, [event_id])
        return JSONResponse({"replayed": count})

    async def _letters(self) -> list[DeadLetter]:
        return await asyncio.to_thread(list_dead_letters, self._mesh.settings.kafka, None)
