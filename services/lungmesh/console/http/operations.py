"""The operators' page: what waits, what failed, and sending it on its way again."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from lungmesh.console import operations
from lungmesh.console.access import OPERATORS, Caller, Refusal
from lungmesh.console.audit import Note
from lungmesh.console.deliveries import Deliveries
from lungmesh.console.http.guard import Guard, tenant_of
from lungmesh.console.results import DestinationRow
from lungmesh.console.views import iso
from lungmesh.mesh import Mesh
from lungmesh.mesh.contract import name_of
from lungmesh.mesh.deadletter import DeadLetter, list_dead_letters, replay
from lungmesh.v1.delivery_pb2 import Delivery, Destination, DestinationKind

_EVENT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


class Operations:
    """Endpoints of the operators' page."""

    def __init__(self, guard: Guard, mesh: Mesh, deliveries: Deliveries) -> None:
        self._guard, self._mesh, self._deliveries = guard, mesh, deliveries

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
        found = [letter for letter in await self._letters() if letter.tenant in tenants]
        dead = await self._deliveries.dead(tenants)
        letters = [*map(_delivery, dead), *map(_letter, reversed(found))]
        destinations = await self._deliveries.destinations(tenants)
        async with self._mesh.sessions() as session:
            rows = await operations.recent(session, tenants)
            models, confirmed = await operations.seen(session, tenants)
        stages = operations.stages(rows)
        for stage in stages:
            stage["dead_letters"] = sum(
                letter["stage"] == stage["stage"] and not letter["replayed"] for letter in letters
            )
        return JSONResponse(
            {
                "stages": stages,
                "dead_letters": letters,
                "models": [
                    {"name": row.name, "version": row.version, "last_seen": iso(row.last_seen)}
                    for row in models
                ],
                "destinations": [_confirmed(row) for row in confirmed]
                if destinations is None
                else [_destination(one) for one in destinations],
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
        note.object = event_id
        if not found:
            dead = await self._deliveries.dead(caller.tenants)
            waiting = [letter for letter in dead if letter.delivery_id == event_id]
            if not waiting:
                raise Refusal("not_found")
            return JSONResponse({"replayed": await self._deliveries.replay(waiting[0])})
        stage = found[-1].stage
        kafka = self._mesh.settings.kafka
        count = await asyncio.to_thread(replay, kafka, stage, [event_id])
        return JSONResponse({"replayed": count})

    async def _letters(self) -> list[DeadLetter]:
        return await asyncio.to_thread(list_dead_letters, self._mesh.settings.kafka, None)


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "event_id": letter.event_id,
        "stage": letter.stage,
        "kind": letter.kind,
        "reason": letter.reason,
        "error_class": letter.error_class,
        "tenant": letter.tenant,
        "time": letter.time,
        "replayed": letter.replayed,
    }


def _delivery(letter: Delivery) -> dict[str, Any]:
    return {
        "event_id": letter.delivery_id,
        "stage": "delivery",
        "kind": "refused",
        "reason": f"{letter.destination}: {letter.last_error}",
        "error_class": "",
        "tenant": letter.tenant,
        "time": iso(letter.since.seconds),
        "replayed": False,
    }


def _destination(one: Destination) -> dict[str, Any]:
    waits = one.oldest_waiting_since.seconds
    return {
        "tenant": one.tenant,
        "name": one.name,
        "kind": name_of(DestinationKind.DESCRIPTOR, one.kind),
        "waiting": one.waiting,
        "oldest_seconds": round(time.time() - waits) if waits else 0,
        "delivered": one.sent,
        "dead_letters": one.refused,
        "last_at": iso(one.last_sent_at.seconds),
        # Why it takes nothing now, or refused what came last.
        "reason": one.last_error,
    }


def _confirmed(row: DestinationRow) -> dict[str, Any]:
    """Return what the console itself has seen of a destination."""
    return {"name": row.name, "delivered": row.delivered, "last_at": iso(row.last_at)}
