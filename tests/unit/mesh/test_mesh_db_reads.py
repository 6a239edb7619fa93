"""On SQLite a transaction that only reads waits for no writer."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from lungmesh.mesh.db import READS_ONLY, Database


async def test_a_reader_goes_on_while_a_writer_holds_the_database(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/state.db", "reads")
    async with database.sessions() as writer, writer.begin():
        await writer.execute(text("CREATE TABLE kept (n INTEGER)"))
        await writer.execute(text("INSERT INTO kept VALUES (1)"))
    async with database.sessions() as writer, writer.begin():
        await writer.execute(text("INSERT INTO kept VALUES (2)"))
        async with database.sessions() as reader, reader.begin():
            await reader.connection(execution_options=READS_ONLY)
            # A second writer would wait ten seconds here and fail; what is not committed is unseen.
            assert await reader.scalar(text("SELECT count(*) FROM kept")) == 1
    await database.close()
