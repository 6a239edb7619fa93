"""Keys whose events wait in the dead letters behind one that failed for good."""

from __future__ import annotations

from lungmesh.mesh.db import Database, ParkedRow


class ParkedKeys:
    """Kept in the service's database; without one, only as long as the process lives."""

    def __init__(self, stage: str, database: Database | None) -> None:
        self._stage = stage
        self._database = database
        self._behind: dict[str, str] = {}

    async def head(self, key: bytes) -> str | None:
        """Return the id of the failed event that the key's events wait behind, None when free."""
        name = key.decode(errors="replace")
        if self._database is None:
            return self._behind.get(name)
        # Asked each time: another process of the group may have parked or freed the key.
        async with self._database.sessions() as session:
            row = await session.get(ParkedRow, (self._stage, name))
        return None if row is None else row.event_id

    async def park(self, key: bytes, event_id: str) -> None:
        """Let later events of the key wait behind this one."""
        name = key.decode(errors="replace")
        if self._database is None:
            self._behind.setdefault(name, event_id)
            return
        async with self._database.sessions() as session, session.begin():
            await session.merge(ParkedRow(stage=self._stage, key=name, event_id=event_id))

    async def clear(self, key: bytes) -> None:
        """The event in front went through: the key moves again."""
        name = key.decode(errors="replace")
        self._behind.pop(name, None)
        if self._database is not None:
            async with self._database.sessions() as session, session.begin():
                row = await session.get(ParkedRow, (self._stage, name))
                if row is not None:
                    await session.delete(row)
