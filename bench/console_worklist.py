"""Pages of a worklist of 100,000 studies through the console's HTTP application.

Prints for SQLite and PostgreSQL the 95th percentile of a page in milliseconds, for each filter that
the page offers, whether it is below the limit, and the CPU time of a page in this process. Studies
are made up: 4 tenants, categories, priorities, outcomes and due dates in shares of a screening
programme.

    python bench/console_worklist.py --studies 100000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.console.store import StudyRow
from lungmesh.v1.console_pb2 import (
    STUDY_OUTCOME_DONE,
    STUDY_OUTCOME_FAILED,
    STUDY_OUTCOME_IN_PROGRESS,
)
from lungmesh.v1.study_pb2 import PRIORITY_BACKFILL, PRIORITY_ROUTINE, PRIORITY_STAT
from tests.support.console import Console, a_console
from tests.support.postgres import postgres
from tests.support.preprocess import TENANT

LIMIT_MS = 200.0
_CATEGORIES = ("1", "2", "3", "4A", "4B", "4X", "0")
_SHARES = (40, 42, 9, 5, 2, 1, 1)
_STAGES = ("ingest", "preprocess", "detection", "malignancy", "followup", "report", "mdt")
_FILTERS = {
    "first page": "",
    "tenth page": "",
    "category 4X": "category=4X",
    "category 1 and stat": "category=1&priority=stat",
    "failed": "outcome=failed",
    "failed and 4B": "outcome=failed&category=4B",
    "due before today": f"due_before={date(2026, 11, 24):%Y%m%d}",
    "due and 4A": f"due_before={date(2026, 11, 24):%Y%m%d}&category=4A",
}


def rows(count: int) -> list[dict[str, Any]]:
    """Return made-up studies of the last two years; most are the test tenant's."""
    dice = random.Random(5)  # noqa: S311
    patients = [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(count // 2)]
    stages = json.dumps(
        [
            {
                "stage": stage,
                "state": 4,
                "fraction": 1.0,
                "detail": "",
                "handler_seconds": 3.0,
                "queue_seconds": 0.1,
                "at": 1.7e9,
            }
            for stage in _STAGES
        ]
    )
    made = []
    for number in range(count):
        day = date(2024, 11, 24) + timedelta(days=dice.randrange(730))
        category = dice.choices(_CATEGORIES, _SHARES)[0]
        months = {"1": 12, "2": 12, "3": 6, "4A": 3, "0": 1}.get(category)
        due = f"{day + timedelta(days=30 * months):%Y%m%d}" if months else ""
        outcome = dice.choices(
            (STUDY_OUTCOME_DONE, STUDY_OUTCOME_IN_PROGRESS, STUDY_OUTCOME_FAILED), (970, 20, 10)
        )[0]
        made.append(
            {
                "tenant": dice.choices((TENANT, "b", "c", "d"), (85, 5, 5, 5))[0],
                "study_id": str(uuid.UUID(int=dice.getrandbits(128), version=4)),
                "patient": dice.choice(patients),
                "revision": 1,
                "priority": dice.choices(
                    (PRIORITY_ROUTINE, PRIORITY_STAT, PRIORITY_BACKFILL), (90, 2, 8)
                )[0],
                "received_at": 1.7e9 + number,
                "finished_at": 1.7e9 + number + 60,
                "category": category,
                "content_sha256": "ab" * 32,
                "recommended": True,
                "study_date": f"{day:%Y%m%d}",
                "due_date": due,
                "work_up": not months,
                "edition": 1,
                "report_edition": 1,
                "outcome": outcome,
                "stages": stages,
                "signed_by": "",
                "signed_at": 0.0,
                "signed_revision": 0,
                "signed_edition": 0,
                "first_seen": 1.7e9 + number,
                "changed_at": 1.7e9 + number,
                "version": 1,
            }
        )
    return made


async def fill(console: Console, made: list[dict[str, Any]]) -> None:
    """Write the studies."""
    for start in range(0, len(made), 2000):
        async with console.chassis.sessions() as session, session.begin():
            await session.execute(insert(StudyRow), made[start : start + 2000])
    async with console.chassis.sessions() as session, session.begin():
        await session.execute(text("ANALYZE"))


async def measure(console: Console, pages: int) -> tuple[dict[str, float], float]:
    """Return the 95th percentile of a page of 50 in ms by filter, and the CPU ms of a page."""
    browser = await console.signed_in()
    found: dict[str, float] = {}
    worked = time.process_time()
    for name, query in _FILTERS.items():
        path = f"/api/worklist?limit=50&{query}"
        if name == "tenth page":
            for _ in range(9):
                answer = (await browser.get(path)).json()
                path = f"/api/worklist?limit=50&page={answer['next_page']}"
        times = []
        for _ in range(pages):
            begun = time.perf_counter()
            answer = await browser.get(path)
            times.append(1000 * (time.perf_counter() - begun))
            assert answer.status_code == 200
            assert answer.json()["studies"], f"{name} shows nothing"
        found[name] = statistics.quantiles(times, n=20)[-1]
    cpu = 1000 * (time.process_time() - worked) / (pages * len(_FILTERS))
    return found, cpu


async def main() -> int:
    """Print the table; return 1 when a page is slower than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=60, help="pages measured a filter")
    chosen = parser.parse_args()
    made = rows(chosen.studies)
    figures: dict[str, dict[str, float]] = {}
    cpu: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, postgres() as url:
        for name, address in (("SQLite", ""), ("PostgreSQL", url)):
            async with a_console(Path(folder) / name, address) as console:
                await fill(console, made)
                figures[name], cpu[name] = await measure(console, chosen.pages)
    print(f"worklist of {chosen.studies} studies, page of 50, p95 in ms over {chosen.pages} pages")
    for name in _FILTERS:
        lite, big = figures["SQLite"][name], figures["PostgreSQL"][name]
        print(f"{name:22} SQLite {lite:7.1f}   PostgreSQL {big:7.1f}   ratio {big / lite:.2f}")
    print(
        f"CPU of a page          SQLite {cpu['SQLite']:7.1f}   PostgreSQL {cpu['PostgreSQL']:7.1f}"
    )
    worst = max(max(times.values()) for times in figures.values())
    print(f"slowest page {worst:.1f} ms, limit {LIMIT_MS:.0f} ms, ratio {worst / LIMIT_MS:.2f}")
    return int(worst > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
