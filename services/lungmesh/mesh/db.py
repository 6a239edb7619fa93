"""The database of a stateful service: engine, migrations, and the chassis' own tables."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, LargeBinary, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lungmesh.mesh.errors import SettingsError

_CHASSIS = Path(__file__).parent / "migrations"
# Execution options of a session's connection for a transaction that only reads: on SQLite it then
# waits for no writer. `await session.connection(execution_options=READS_ONLY)` comes first in it.
READS_ONLY = {"lungmesh_reads_only": True}


def after_commit(session: AsyncSession, then: Callable[[], None]) -> None:
    """Call back once the session's transaction is committed; not when it is rolled back."""
    event.listen(session.sync_session, "after_commit", lambda _: then(), once=True)


class ChassisBase(DeclarativeBase):
    """Tables that the chassis keeps beside a service's own."""


class HandledRow(ChassisBase):
    """An event that was handled, with the outputs that it gave (HandledResult, serialized)."""

    __tablename__ = "mesh_handled"
    stage: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    result: Mapped[bytes] = mapped_column(LargeBinary)


class OutboxRow(ChassisBase):
    """An event to publish after the commit; kept once sent, so that it can be sent again."""

    __tablename__ = "mesh_outbox"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    event_id: Mapped[str] = mapped_column(unique=True)
    topic: Mapped[str]
    key: Mapped[bytes] = mapped_column(LargeBinary)
    value: Mapped[bytes] = mapped_column(LargeBinary)
    # JSON object of text headers.
    headers: Mapped[str]
    # How often it was asked for, and for which of these the broker has acknowledged it.
    wanted: Mapped[int] = mapped_column(default=1)
    sent: Mapped[int] = mapped_column(default=0)


class ParkedRow(ChassisBase):
    """A key whose events wait behind one that failed for good."""

    __tablename__ = "mesh_parked"
    stage: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str]


class Database:
    """The service's own database: a file of SQLite, or a schema of its own in PostgreSQL."""

    def __init__(self, url: str, service: str) -> None:
        try:
            parsed = make_url(url)
        except SQLAlchemyError as error:
            raise SettingsError(f"LUNGMESH_DATABASE_URL is no database URL: {error}") from error
        self.service = service
        self.postgres = parsed.get_backend_name() == "postgresql"
        arguments: dict[str, Any] = {}
        if self.postgres:
            # Every unqualified name is then the service's own.
            arguments = {"options": f"-csearch_path={service}"}
        elif parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine: AsyncEngine = create_async_engine(parsed, connect_args=arguments)
        if not self.postgres:
            _set_up_sqlite(self.engine)
        self.sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(
            self.engine, expire_on_commit=False
        )

    async def migrate(self, folder: Path | None) -> None:
        """Bring the chassis' tables and the service's to their newest version.

        Several processes may start at once: on PostgreSQL they take turns by an advisory lock.
        """
        async with self.engine.connect() as connection:
            await connection.run_sync(self._migrate, folder)
            await connection.commit()

    def _migrate(self, connection: Connection, folder: Path | None) -> None:
        if self.postgres:
            lock = zlib.crc32(f"lungmesh.{self.service}".encode())
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.service}"'))
        _upgrade(connection, _CHASSIS, "mesh_version")
        if folder is not None:
            _upgrade(connection, folder, "alembic_version")

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _upgrade(connection: Connection, versions: Path, version_table: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(versions).replace("%", "%%"))
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, context: Any) -> Any:
        return script._upgrade_revs("heads", revision)

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(
            connection=connection, version_table=version_table, render_as_batch=True
        )
        environment.run_migrations()


def _set_up_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        # The driver's own BEGIN comes too late: a read that turns into a write would find the
        # database locked. We begin each transaction ourselves, as a writer.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA busy_timeout=10000")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        reads = connection.get_execution_options().get("lungmesh_reads_only")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
