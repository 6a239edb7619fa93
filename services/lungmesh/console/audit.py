"""The audit trail: a row and a log line for each action, never with anything of a patient."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from lungmesh.console.access import Caller
from lungmesh.console.store import ConsoleBase

log = logging.getLogger("lungmesh.console.audit")

DONE, REFUSED, FAILED = "done", "refused", "failed"
# DICOM PS3.15 A.5: EventOutcomeIndicator, and event codes (DCM) of the actions that have one.
_INDICATOR = {DONE: 0, REFUSED: 4, FAILED: 8}
_LOGIN, _INSTANCES, _QUERY, _SECURITY = "110114", "110103", "110112", "110113"
_EVENTS = {
    "login": _LOGIN,
    "logout": _LOGIN,
    "oidc": _LOGIN,
    "password": _SECURITY,
    "user": _SECURITY,
    "users": _SECURITY,
    "worklist": _QUERY,
    "dicom_query": _QUERY,
}


class AuditRow(ConsoleBase):
    """Who did what, when, to which study, and how it ended; rows are only ever added."""

    __tablename__ = "console_audit"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    # Seconds since 1970.
    at: Mapped[float]
    # Empty when nobody was signed in.
    user_name: Mapped[str]
    roles: Mapped[str]
    address: Mapped[str]
    action: Mapped[str]
    # A study's id, a user's name or an event's id; empty when there is none.
    object: Mapped[str]
    outcome: Mapped[str]
    # The refusal's code, or what the action was, such as the kind of a correction.
    detail: Mapped[str]


@dataclass
class Note:
    """What an action says of itself while it runs; ids and codes only."""

    action: str
    object: str = ""
    detail: str = ""


class Audit:
    """Writes the trail and reads it."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions

    async def write(self, note: Note, outcome: str, caller: Caller | None, address: str) -> None:
        """Keep what was done or refused, in a transaction of its own."""
        row = AuditRow(
            at=time.time(),
            user_name=caller.user if caller is not None else "",
            roles=",".join(sorted(caller.roles)) if caller is not None else "",
            address=address,
            action=note.action,
            object=note.object,
            outcome=outcome,
            detail=note.detail,
        )
        log.info("%s", json.dumps(message(row)))
        async with self._sessions() as session, session.begin():
            session.add(row)

    async def read(self, before: int | None, limit: int) -> Sequence[AuditRow]:
        """Return rows, the newest first, older than a row's number."""
        query = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.number < before)
        async with self._sessions() as session:
            return (await session.scalars(query)).all()


def message(row: AuditRow) -> dict[str, object]:
    """Return the audit message in the shape of DICOM PS3.15 A.5."""
    return {
        "EventIdentification": {
            "EventID": {"code": _EVENTS.get(row.action, _INSTANCES), "codeSystemName": "DCM"},
            "EventTypeCode": row.action,
            "EventDateTime": datetime.fromtimestamp(row.at, UTC).isoformat(),
            "EventOutcomeIndicator": _INDICATOR[row.outcome],
            "EventOutcomeDescription": row.detail,
        },
        "ActiveParticipant": {
            "UserID": row.user_name,
            "UserIsRequestor": True,
            "RoleIDCode": row.roles,
            "NetworkAccessPointID": row.address,
        },
        "AuditSourceIdentification": {"AuditSourceID": "lungmesh-console"},
        "ParticipantObjectIdentification": {"ParticipantObjectID": row.object},
    }
