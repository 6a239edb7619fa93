"""The worklist in pages, and live."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from google.protobuf.descriptor import EnumDescriptor
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute

from lungmesh.console import store
from lungmesh.console.access import LISTERS, Caller, Refusal
from lungmesh.console.audit import Note
from lungmesh.console.bell import Bell
from lungmesh.console.http.guard import COOKIE, Guard, tenant_of, whole_number
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.store import Cursor, Filter, StudyRow
from lungmesh.console.views import Json, escalation, number_of, row_view
from lungmesh.v1.console_pb2 import StudyOutcome
from lungmesh.v1.study_pb2 import Priority

_MOST_ROWS = 200
_PING_SECONDS = 15.0
# Clocks of several console processes may differ by this much.
_SLACK_SECONDS = 5.0
# Who was away for longer loads the list anew; changes of so long are sent one by one.
_RESUMED_SECONDS = 3600.0
_CATEGORY = re.compile(r"[A-Za-z0-9]{1,8}")


class Rows:
    """Rows of the worklist as the page gets them."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings

    async def views(self, session: AsyncSession, rows: Sequence[StudyRow]) -> list[Json]:
        """Return the rows with the escalation of each patient's next exam."""
        newest = await store.newest_exams(session, rows)
        today = datetime.now(UTC).date()
        return [
            row_view(
                row,
                escalation(
                    row.due_date,
                    row.study_date,
                    newest[(row.tenant, row.patient)],
                    today,
                    self._settings.grace_days,
                    self._settings.lost_days,
                ),
            )
            for row in rows
        ]


class Worklist:
    """Endpoints of the worklist."""

    def __init__(
        self, guard: Guard, sessions: async_sessionmaker[AsyncSession], bell: Bell, rows: Rows
    ) -> None:
        self._guard, self._sessions, self._bell, self._rows = guard, sessions, bell, rows
        # Set when the server stops: streams without end must not hold it up.
        self.closing = asyncio.Event()

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            self._guard.route("/api/worklist", self._page, LISTERS, "worklist", kept=False),
            self._guard.route("/api/events", self._events, LISTERS, "worklist", kept=False),
        ]

    async def _page(self, request: Request, caller: Caller, note: Note) -> Response:
        query = request.query_params
        tenants = tenant_of(request, caller)
        limit = whole_number(query.get("limit"), 50, _MOST_ROWS)
        wanted = Filter(
            priority=_chosen(Priority.DESCRIPTOR, query.get("priority", "")),
            outcome=_chosen(StudyOutcome.DESCRIPTOR, query.get("outcome", "")),
            category=_matching(_CATEGORY, query.get("category", "")),
            due_before=_matching(re.compile(r"[0-9]{8}"), query.get("due_before", "")),
        )
        after = _cursor(query.get("page", ""), wanted)
        async with self._sessions() as session:
            found = await store.page(session, tenants, wanted, after, limit + 1)
            views = await self._rows.views(session, found[:limit])
        more = len(found) > limit
        page = _sealed(store.cursor_of(found[limit - 1], wanted)) if more else ""
        return JSONResponse({"studies": views, "next_page": page})

    async def _events(self, request: Request, caller: Caller, note: Note) -> Response:
        tenants = tenant_of(request, caller)
        last = request.headers.get("last-event-id", "")
        since = datetime.now(UTC).timestamp()
        if re.fullmatch(r"[0-9]{1,12}\.[0-9]{1,6}", last):
            since = max(float(last), since - _RESUMED_SECONDS)
        return StreamingResponse(
            self._stream(tenants, since, request.cookies.get(COOKIE, "")),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _stream(
        self, tenants: Sequence[str], since: float, token: str
    ) -> AsyncIterator[bytes]:
        """Send each change once, until the server stops or the session ends."""
        sent: dict[str, int] = {}
        since -= _SLACK_SECONDS
        waiter = asyncio.Event()
        loop = asyncio.get_running_loop()
        ping_at = loop.time()
        while not self.closing.is_set():
            if loop.time() >= ping_at:
                # An open page alone does not keep a session from being idle.
                if await self._guard.users.caller(token, used=False) is None:
                    return
                yield b"event: ping\ndata: {}\n\n"
                ping_at = loop.time() + _PING_SECONDS
            waiter.clear()
            fresh: list[StudyRow] = []
            async with self._sessions() as session:
                for tenant in tenants:
                    fresh += [
                        row
                        for row in await store.changed_since(session, tenant, "", since)
                        if sent.get(row.study_id) != row.version
                    ]
                views = await self._rows.views(session, fresh)
            for row, view in zip(fresh, views, strict=True):
                sent[row.study_id] = row.version
                data = json.dumps(view, ensure_ascii=False)
                yield f"id: {row.changed_at:.6f}\nevent: study\ndata: {data}\n\n".encode()
            if fresh:
                since = max(row.changed_at for row in fresh) - _SLACK_SECONDS
            await self._bell.wait(waiter, self._guard.settings.watch_interval_seconds)


def _chosen(kind: EnumDescriptor, name: str) -> int | None:
    if not name:
        return None
    number = number_of(kind, name)
    if number is None:
        raise Refusal("bad_request", "A filter has a word that there is not.")
    return number


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if text and not pattern.fullmatch(text):
        raise Refusal("bad_request", "A filter is not as it should be.")
    return text


def _sealed(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode()


def _cursor(text: str, wanted: Filter) -> Cursor | None:
    if not text:
        return None
    try:
        place, study_id = json.loads(base64.urlsafe_b64decode(text.encode()))
    except (binascii.Error, ValueError, TypeError) as error:
        raise Refusal("bad_request", "The page is none that was given.") from error
    kind = str if wanted.due_before else float
    if not isinstance(place, kind) or not isinstance(study_id, str):
        raise Refusal("bad_request", "The page is none that was given.")
    return place, study_id
