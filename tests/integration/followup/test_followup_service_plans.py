"""What the store asks is answered from indexes, on SQLite and PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, insert, select, text

from lungmesh.followup import figures, store
from lungmesh.followup.service import MIGRATIONS
from lungmesh.mesh.db import Database

PATIENTS = 4000
TODAY = 738000


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path}/followup.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    kept = Database(url, "followup")
    await kept.migrate(MIGRATIONS)
    await _fill(kept)
    yield kept
    await kept.close()


async def _fill(database: Database) -> None:
    """Write many patients of two tenants, one exam each: enough for an index to pay."""
    due, results, exams = [], [], []
    for number in range(PATIENTS):
        who = {"tenant": f"t{number % 2}", "patient": str(uuid.UUID(int=number))}
        study = {**who, "study_id": str(uuid.UUID(int=number + 10**9))}
        day = TODAY - number % 1000
        category = ("1", "2", "3", "4A")[number % 4]
        exams.append({**study, "revision": 1, "event": b""})
        results.append(
            {
                **study,
                "category": category,
                "positive": False,
                "baseline": True,
                "study_day": day - 365,
                "due_day": day,
                "event": b"",
            }
        )
        due.append(
            {
                **study,
                "study_date": "",
                "due_day": day,
                "due_date": "",
                "work_up": False,
                "category": category,
                "described": b"",
            }
        )
    async with database.sessions() as session, session.begin():
        for table in reversed(store.FollowupBase.metadata.sorted_tables):
            await session.execute(table.delete())
        for kind, rows in (
            (store.ExamRow, exams),
            (store.ResultRow, results),
            (store.DueRow, due),
        ):
            await session.execute(insert(kind), rows)
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("ANALYZE")
        await connection.commit()


async def plan(database: Database, query: Select[Any]) -> str:
    """Return how the database would answer a query."""
    dialect = database.engine.dialect
    asked = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN" if database.postgres else "EXPLAIN QUERY PLAN"
    async with database.engine.connect() as connection:
        rows = await connection.execute(text(f"{explain} {asked}".replace(":", r"\:")))
        return "\n".join(str(row[-1]) for row in rows)


def reads_all(told: str) -> bool:
    """Return whether the plan reads a whole table."""
    return any(word in told for word in ("Seq Scan", "SCAN"))


def sorts(told: str) -> bool:
    """Return whether the plan sorts what it has read."""
    return any(word in told for word in ("Sort", "TEMP B-TREE"))


@pytest.mark.parametrize("category", ["", "3"])
@pytest.mark.parametrize("after", [None, (TODAY - 300, str(uuid.UUID(int=2000)))])
async def test_a_page_of_a_worklist_is_read_from_its_index_in_order(
    database: Database, category: str, after: figures.Place | None
) -> None:
    query = figures.due_page("t0", (None, TODAY), category, after, 51)
    told = await plan(database, query)
    wanted = "followup_due_category" if category else "followup_due_day"
    assert wanted in told, told
    assert not reads_all(told), told
    assert not sorts(told), told
    async with database.sessions() as session:
        rows = (await session.scalars(query)).all()
    days = [(row.due_day, row.patient) for row in rows]
    assert days == sorted(days)
    assert len(days) == 51
    assert after is None or min(days) > after


@pytest.mark.parametrize("kind", [store.ExamRow, store.ResultRow])
async def test_a_patients_rows_are_found_by_an_index(database: Database, kind: Any) -> None:
    query = select(kind).where(kind.tenant == "t0", kind.patient == str(uuid.UUID(int=2000)))
    told = await plan(database, query)
    assert f"{kind.__tablename__}_patient" in told, told
    assert not reads_all(told), told


async def test_a_page_of_the_registry_is_read_from_its_index(database: Database) -> None:
    query = figures.registry_query("t0", (TODAY - 700, ""), TODAY - 600)
    told = await plan(database, query)
    assert "followup_result_study_day" in told, told
    assert not reads_all(told), told
