"""The tracker's store at a programme's size: a worklist page and one update, PostgreSQL and SQLite.

100,000 patients with some 400,000 exams. The timelines of a few hundred patients are made by the
real fold; the tables are filled with copies of their rows under other ids and days. How many come
back is that of NLST (idc-index-data 25.0.5, 26,254 patients: 7.0 % have no second exam, 8.5 % of
the others no third; taken for later rounds too). Sizes, counts and delays are assumed: SIMULATED.

A page: query, rows and message of 100 exams from anywhere in the list. An update: an exam of a
patient who has others comes, is compared (layings are there: no voxel is read), and all is written
with its outgoing events in one transaction. Beside the wall time stands this process's own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.followup import figures, programme, store, timeline
from lungmesh.followup.keeping import Keeper, laying_key
from lungmesh.followup.service import MIGRATIONS
from lungmesh.followup.settings import FollowupSettings
from lungmesh.followup.store import KeptLaying, State
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.db import Database
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.results import add_to_outbox
from lungmesh.v1 import followup_pb2
from lungmesh.v1.nodule_pb2 import NodulesAssessed
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, StudyRef
from tests.support.followup import laid, unread_exam
from tests.support.nodules import a_nodule
from tests.support.postgres import postgres

TENANTS = 4
TEMPLATES = 150
LIMIT = 100
WARM = 5
MOST_EXAMS = 6
# Of those who were seen so often, so many are seen again.
COMES_AGAIN = (1.0, 0.930, 0.915)
SETTINGS = FollowupSettings()
TABLES: tuple[Any, ...] = (
    store.PatientRow,
    store.ExamRow,
    store.ResultRow,
    store.LayingRow,
    store.DueRow,
)


@dataclass(frozen=True)
class Times:
    """Milliseconds of each run: on the wall, and of this process's processor."""

    wall: list[float]
    own: list[float]

    def __str__(self) -> str:
        return (
            f"median {statistics.median(self.wall):.1f} ms, "
            f"95 % {self.percentile(self.wall):.1f} ms; "
            f"own processor time median {statistics.median(self.own):.1f} ms"
        )

    @staticmethod
    def percentile(times: Sequence[float]) -> float:
        """Return the 95th."""
        return sorted(times)[round(0.95 * (len(times) - 1))]


def assessed(chance: random.Random, number: int) -> list[NodulesAssessed]:
    """Return a patient's exams: nodules that stay, some of which grow, come or go."""
    places = [
        (chance.uniform(-100, 100), chance.uniform(-80, 80), chance.uniform(-250, 0))
        for _ in range(min(8, int(chance.expovariate(1 / 1.6))))
    ]
    sizes = [max(3.0, chance.lognormvariate(1.45, 0.4)) for _ in places]
    growth = [chance.choice((1.0,) * 8 + (1.08, 1.2)) for _ in places]
    day = date(2016, 1, 1) + timedelta(chance.randrange(1500))
    exams: list[NodulesAssessed] = []
    while len(exams) < MOST_EXAMS and chance.random() < COMES_AGAIN[min(len(exams), 2)]:
        seen = [
            a_nodule(f"bench-{number}-{len(exams)}-{n}", place, mm * chance.uniform(0.97, 1.03))
            for n, (place, mm) in enumerate(zip(places, sizes, strict=True))
            if chance.random() > 0.05
        ]
        exams.append(unread_exam(study_of(number, len(exams)), day.strftime("%Y%m%d"), seen))
        months = 6 if max(sizes, default=0) >= 6 else 12
        sizes = [mm * by for mm, by in zip(sizes, growth, strict=True)]
        day += timedelta(int(30.4 * months + chance.gauss(10, 25)))
    return exams


def study_of(number: int, exam: int) -> StudyRef:
    """Return a study of a patient; a copy's ids differ in the first eight digits."""
    return StudyRef(
        tenant=f"tenant-{number % TENANTS}",
        patient=f"00000000-0000-4000-8000-{number:012d}",
        study_id=f"00000000-0000-4000-9{exam:03d}-{number:012d}",
        revision=1,
        priority=PRIORITY_ROUTINE,
    )


async def prepare(
    database: Database, event: NodulesAssessed, known: Sequence[NodulesAssessed]
) -> None:
    """Keep the layings of an exam over those before."""
    study = event.study
    exams = {exam.study.study_id: exam for exam in (*known, event)}
    made = {
        pair: KeptLaying(
            laying_key(exams[pair[0]], exams[pair[1]], SETTINGS.limits),
            laid(exams[pair[0]], exams[pair[1]]),
        )
        for pair in timeline.compared(list(exams.values()), SETTINGS.priors)
    }
    state = State(study.tenant, study.patient, 0, (), (), {}, {}, ())
    async with database.sessions() as session, session.begin():
        await store.keep_layings(session, state, made)


async def update(database: Database, keeper: Keeper, event: NodulesAssessed) -> None:
    """Take an exam as the stage does, its outgoing events with it."""
    done = await keeper.update(event.study.tenant, event.study.patient, event)
    async with database.sessions() as session, session.begin():
        await done.write(session)
        outputs = [(deterministic_id(one.state_id, one.edition), one) for one in done.news]
        await add_to_outbox(session, outputs, "followup")


async def fill(database: Database, copies: int) -> int:
    """Copy every row so many times under other ids and days; return how many exams there are."""
    postgres_ = database.postgres
    numbers = (
        "SELECT CAST(n AS bigint) AS n FROM generate_series(1, CAST(:copies AS integer)) AS n"
        if postgres_
        else "WITH RECURSIVE s(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM s WHERE n < :copies) "
        "SELECT n FROM s"
    )
    # Ids lie anywhere in an index, as random ones do.
    spread = "(n * 2654435761) % 4294967296"
    start = f"lpad(to_hex({spread}), 8, '0')" if postgres_ else f"printf('%08x', {spread})"
    async with database.engine.connect() as connection:
        for table in TABLES:
            names = [column.name for column in table.__table__.columns]
            values = [
                f"{start} || substr({name}, 9)"
                if name in ("patient", "study_id", "earlier_id", "current_id")
                else f"{name} + n * 7919 % 1400"
                if name.endswith("_day")
                else name
                for name in names
            ]
            name = table.__tablename__
            copied = (
                f"INSERT INTO {name} ({', '.join(names)}) SELECT {', '.join(values)} FROM {name}"  # noqa: S608
            )
            statement = text(f"{copied}, ({numbers}) AS numbers")
            await connection.execute(statement, {"copies": copies})
            await connection.commit()
        if postgres_:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("ANALYZE")
        count = await connection.exec_driver_sql("SELECT count(*) FROM followup_exam")
        return int(count.scalar_one())


async def page(database: Database, chance: random.Random) -> int:
    """Read a page of a worklist as the servicer does; return how many exams it has."""
    tenant = f"tenant-{chance.randrange(TENANTS)}"
    today = date(2023, 1, 1).toordinal()
    days = programme.due_days(
        followup_pb2.ESCALATION_UNSPECIFIED, today, SETTINGS.grace_days, SETTINGS.lost_days
    )
    after = (chance.randrange(today - 900, today - 60), deterministic_id(chance.random()))
    category = chance.choice(("", "", "2", "4A"))
    query = figures.due_page(tenant, days, category, after, LIMIT + 1)
    async with database.sessions() as session:
        rows = (await session.scalars(query)).all()
    answer = followup_pb2.ListDueResponse(
        exams=[
            followup_pb2.DueExam(
                patient=row.patient, study_id=row.study_id, days_late=today - row.due_day
            )
            for row in rows
        ]
    )
    return len(answer.exams)


async def timed(count: int, work: Callable[[], Awaitable[object]]) -> Times:
    """Return what each of many runs took, after a few that warm up."""
    for _ in range(WARM):
        await work()
    wall, own = [], []
    for _ in range(count):
        started, used = time.perf_counter(), time.process_time()
        await work()
        wall.append(1000 * (time.perf_counter() - started))
        own.append(1000 * (time.process_time() - used))
    return Times(wall, own)


async def measure(name: str, url: str, patients: int, count: int) -> dict[str, Times]:
    """Fill a database, and print and return what a page and an update take."""
    chance = random.Random(1)  # noqa: S311
    database = Database(url, "followup")
    await database.migrate(MIGRATIONS)
    keeper = Keeper(lambda: database.sessions, BlobStore("file:///tmp"), SETTINGS)
    started = time.perf_counter()
    made = [assessed(chance, number) for number in range(TEMPLATES)]
    # The last exam of some is kept back: it is the update that is timed.
    waiting: list[NodulesAssessed] = []
    for exams in made:
        held = exams.pop() if len(exams) > 1 and len(waiting) < count + WARM else None
        for number, event in enumerate(exams):
            await prepare(database, event, exams[:number])
            await update(database, keeper, event)
        if held is not None:
            waiting.append(held)
            await prepare(database, held, exams)
    exams_there = await fill(database, max(0, patients // TEMPLATES - 1))
    print(
        f"{name}: {patients:,} patients, {exams_there:,} exams, filled in "
        f"{time.perf_counter() - started:.0f} s",
        flush=True,
    )
    found = {"page": await timed(count, lambda: page(database, chance))}
    found["update"] = await timed(
        len(waiting) - WARM, lambda: update(database, keeper, waiting.pop())
    )
    await database.close()
    for what, times in found.items():
        print(f"{name}: {what} {times}", flush=True)
    return found


async def main() -> None:
    """Print pages and updates of both databases, and their ratio."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--patients", type=int, default=100_000)
    asked.add_argument("--count", type=int, default=100)
    options = asked.parse_args()
    with postgres() as url:
        large = await measure("PostgreSQL", url, options.patients, options.count)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{folder}/followup.db"
        small = await measure("SQLite", url, options.patients, options.count)
    for what, limit in (("page", 100), ("update", 20)):
        ratio = large[what].percentile(large[what].wall) / small[what].percentile(small[what].wall)
        print(
            f"{what}: 95 % {large[what].percentile(large[what].wall):.1f} ms on PostgreSQL "
            f"(limit {limit}), {ratio:.2f} x SQLite; load of the machine {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    asyncio.run(main())
