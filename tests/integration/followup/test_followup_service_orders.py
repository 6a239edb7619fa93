"""Five exams and the words on them in every order: one final state, by the stage and its store.

The layings are put into the store beforehand, for a patient who never moves: no voxel is read.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.message import Message

from lungmesh.followup import store
from lungmesh.followup.keeping import Keeper, laying_key
from lungmesh.followup.service import MIGRATIONS
from lungmesh.followup.settings import FollowupSettings
from lungmesh.followup.stage import FollowupStage
from lungmesh.followup.store import KeptLaying, State
from lungmesh.mesh import Context
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.db import Database
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.stage import run_stage
from lungmesh.v1.followup_pb2 import HandMeasurement, NodulesCorrected
from lungmesh.v1.nodule_pb2 import NODULE_TYPE_PART_SOLID, NodulesAssessed
from tests.support.followup import a_correction, laid, unread_exam
from tests.support.nodules import a_nodule, a_study
from tests.support.preprocess import PSEUDONYM, TENANT

HERE, THERE, APART = (50.0, 80.0, -110.0), (-60.0, 20.0, -60.0), (40.0, 20.0, -60.0)
DATES = ("20180101", "20190101", "20190401", "20200101", "20210101")
SETTINGS = FollowupSettings()


def exams() -> list[NodulesAssessed]:
    """A nodule that grows, one that comes and goes, and one that people call another's."""
    sizes = (6.0, 6.2, 7.0, 9.5, 9.5)
    made = []
    for number, (date, mm) in enumerate(zip(DATES, sizes, strict=True)):
        nodules = [a_nodule(f"grows{number}", HERE, mm)]
        if number in (1, 3):
            nodules.append(a_nodule(f"comes{number}", THERE, 5, number=2))
        nodules.append(a_nodule(f"moves{number}", (APART[0], APART[1] + 30 * (number > 2), -60), 8))
        made.append(unread_exam(a_study(f"orders-{number}"), date, nodules))
    return made


def words(every: Sequence[NodulesAssessed]) -> list[NodulesCorrected]:
    """Every kind of correction, and one that is withdrawn."""
    oldest, second, third, fourth, last = every

    def said(kind: str, at: int, of: NodulesAssessed, which: int, **fields: object) -> Message:
        nodule = of.nodules[which]
        correction = a_correction(f"{kind}{at}", kind, at, of.study.study_id, nodule, **fields)
        return NodulesCorrected(study=of.study, correction=correction)

    def place(of: NodulesAssessed, which: int) -> object:
        return a_correction("place", "CONFIRM", 1, of.study.study_id, of.nodules[which]).nodule

    size = HandMeasurement(long_axis_mm=8.5, volume_mm3=310)
    corrections = [
        said("REMEASURE", 40, third, 0, measurement=size),
        said("REJECT", 10, second, 1),
        said("LINK", 30, fourth, 2, other=place(third, 1)),
        said("UNLINK", 35, last, 0, other=place(oldest, 0)),
        said("RETYPE", 20, last, 1, type=NODULE_TYPE_PART_SOLID),
        said("CONFIRM", 50, oldest, 0),
        said("WITHDRAW", 60, last, 0, withdraws=deterministic_id("correction", "UNLINK35")),
    ]
    return [event for event in corrections if isinstance(event, NodulesCorrected)]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    kept = Database(f"sqlite+aiosqlite:///{tmp_path}/followup.db", "followup")
    await kept.migrate(MIGRATIONS)
    yield kept
    await kept.close()


async def final_state(database: Database, events: Sequence[Message]) -> list[object]:
    """Handle events as the bus brings them; return all that is kept but the editions."""
    state = State(TENANT, PSEUDONYM, 0, (), (), {}, {}, ())
    pairs = itertools.combinations(exams(), 2)
    known = {
        (then.study.study_id, now.study.study_id): KeptLaying(
            laying_key(then, now, SETTINGS.limits), laid(then, now)
        )
        for then, now in pairs
    }
    async with database.sessions() as session, session.begin():
        await store.keep_layings(session, state, known)
    blobs = BlobStore("file:///tmp")
    stage = FollowupStage(Keeper(lambda: database.sessions, blobs, SETTINGS), SETTINGS)
    for event in events:
        context = Context("event", blobs)
        await run_stage(stage, event, context)
        async with database.sessions() as session, session.begin():
            for write in context._writes:
                await write(session)
    async with database.sessions() as session:
        results = await store.results_of(session, TENANT, PSEUDONYM)
        due = await session.get(store.DueRow, (TENANT, PSEUDONYM))
    for result in results:
        result.edition = 0
    assert due is not None
    return [*results, due.due_day, due.category, due.work_up]


async def test_all_120_orders_of_five_exams_with_words_in_between_end_alike(
    database: Database,
) -> None:
    expected: list[object] = []
    for number, order in enumerate(itertools.permutations(range(5))):
        every = exams()
        shuffle = random.Random(number)
        events: list[Message] = [every[place] for place in order]
        for word in words(every):
            events.insert(shuffle.randint(0, len(events)), word)
        # What comes twice counts once.
        events.insert(shuffle.randint(0, len(events)), shuffle.choice(events))
        await _forget(database)
        state = await final_state(database, events)
        expected = expected or state
        assert state == expected
    kinds = {len(item.corrections) for item in expected if hasattr(item, "corrections")}
    assert kinds == {1, 3}


async def _forget(database: Database) -> None:
    async with database.sessions() as session, session.begin():
        for table in reversed(store.FollowupBase.metadata.sorted_tables):
            await session.execute(table.delete())
