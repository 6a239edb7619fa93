"""Pages of the worklist: every study once, in order, by an index."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from lungmesh.console import store
from lungmesh.console.store import Filter, StudyRow
from lungmesh.v1.console_pb2 import STUDY_OUTCOME_DONE, STUDY_OUTCOME_FAILED
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, PRIORITY_STAT
from tests.support.console import Console, a_console
from tests.support.postgres import postgres
from tests.support.preprocess import TENANT

COUNT = 230
FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "": lambda row: True,
    "priority=stat": lambda row: row["priority"] == PRIORITY_STAT,
    "category=4B": lambda row: row["category"] == "4B",
    "outcome=failed": lambda row: row["outcome"] == STUDY_OUTCOME_FAILED,
    "outcome=failed&category=2": lambda row: (
        row["outcome"] == STUDY_OUTCOME_FAILED and row["category"] == "2"
    ),
    "due_before=20260630": lambda row: "" < row["due_date"] <= "20260630",
    "due_before=20260630&priority=stat": lambda row: (
        "" < row["due_date"] <= "20260630" and row["priority"] == PRIORITY_STAT
    ),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database of the test's own; empty for a file of SQLite."""
    if request.param == "sqlite":
        yield ""
    else:
        with postgres() as url:
            yield url


def rows() -> list[dict[str, Any]]:
    """Return studies of two tenants; many came in one second, and due dates are shared."""
    dice = random.Random(3)
    return [
        {
            "tenant": dice.choice((TENANT, TENANT, "second", "hidden")),
            "study_id": str(uuid.UUID(int=dice.getrandbits(128), version=4)),
            "patient": f"p{dice.randrange(90)}",
            "revision": 1,
            "priority": dice.choice((PRIORITY_ROUTINE, PRIORITY_STAT)),
            "received_at": 1.0,
            "finished_at": 0.0,
            "category": dice.choice(("2", "4B")),
            "content_sha256": "",
            "recommended": False,
            "study_date": f"2025{dice.randrange(1, 13):02}01",
            "due_date": dice.choice(("", "20260101", "20260630", "20260701")),
            "work_up": False,
            "edition": 1,
            "report_edition": 0,
            "outcome": dice.choice((STUDY_OUTCOME_DONE, STUDY_OUTCOME_FAILED)),
            "stages": "[]",
            "signed_by": "",
            "signed_at": 0.0,
            "signed_revision": 0,
            "signed_edition": 0,
            "first_seen": 1000.0 + dice.randrange(20),
            "changed_at": 1000.0,
            "version": 1,
        }
        for _ in range(COUNT)
    ]


async def fill(console: Console) -> list[dict[str, Any]]:
    made = rows()
    async with console.chassis.sessions() as session, session.begin():
        await session.execute(insert(StudyRow), made)
    return made


async def test_the_pages_together_are_every_study_once_in_order(
    tmp_path: Path, database: str
) -> None:
    async with a_console(tmp_path, database) as console:
        made = await fill(console)
        await console.users.put("rana", ["radiologist"], [TENANT, "second"], False, "long enough!")
        browser = await console.signed_in("rana", "long enough!")
        for query, wanted in FILTERS.items():
            for tenants, named in (
                ((TENANT, "second"), ""),
                ((TENANT,), f"&tenant={TENANT}"),
            ):
                chosen = [row for row in made if row["tenant"] in tenants and wanted(row)]
                if query.startswith("due"):
                    chosen.sort(key=lambda row: (row["due_date"], row["study_id"]))
                else:
                    chosen.sort(key=lambda row: (row["first_seen"], row["study_id"]), reverse=True)
                found: list[str] = []
                page = ""
                while True:
                    answer = await browser.get(f"/api/worklist?limit=7&page={page}{named}&{query}")
                    assert answer.status_code == 200, answer.text
                    shown = answer.json()
                    found += [row["study_id"] for row in shown["studies"]]
                    page = shown["next_page"]
                    if not page:
                        break
                assert found == [row["study_id"] for row in chosen], (query, tenants)


@pytest.mark.parametrize("after", [False, True])
async def test_a_page_walks_an_index_and_sorts_nothing(tmp_path: Path, after: bool) -> None:
    places: dict[str, store.Cursor] = {"seen": (1010.0, "5"), "due": ("20260101", "5")}
    async with a_console(tmp_path) as console:
        await fill(console)
        assert console.chassis.database is not None
        engine = console.chassis.database.engine.sync_engine
        asked: list[tuple[str, Any]] = []

        @event.listens_for(engine, "before_cursor_execute")
        def note(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "console_study" in statement:
                asked.append((statement, parameters))

        for wanted in (
            Filter(),
            Filter(priority=PRIORITY_STAT),
            Filter(category="4B"),
            Filter(outcome=STUDY_OUTCOME_FAILED),
            Filter(due_before="20260630"),
        ):
            place = places["due" if wanted.due_before else "seen"] if after else None
            async with console.chassis.sessions() as session:
                await store.page(session, [TENANT], wanted, place, 50)
                statement, parameters = asked[-1]
                connection = await session.connection()
                plan = await connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
                told = " ".join(str(step) for step in plan)
            assert "USING INDEX console_study_" in told, (wanted, told)
            assert "TEMP B-TREE" not in told, (wanted, told)
