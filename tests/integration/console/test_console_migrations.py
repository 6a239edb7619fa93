"""A worklist of the first version comes along into the one of the page."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from lungmesh.console.service import MIGRATIONS
from lungmesh.mesh.db import Database
from lungmesh.v1.console_pb2 import (
    STUDY_OUTCOME_DONE,
    STUDY_OUTCOME_FAILED,
    STUDY_OUTCOME_IN_PROGRESS,
)
from lungmesh.v1.events_pb2 import STAGE_STATE_DONE, STAGE_STATE_FAILED
from tests.support.postgres import postgres

_INSERT = text(
    "INSERT INTO console_study (tenant, study_id, patient, revision, priority, received_at, "
    "finished_at, category, content_sha256, recommended, stages, first_seen, changed_at, version) "
    "VALUES ('t', :study_id, 'p', 1, 2, 1, 0, '2', :content, :recommended, :stages, 5, 5, 1)"
)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_rows_of_the_first_version_get_their_outcome(tmp_path: Path, kind: str) -> None:
    first = tmp_path / "first"
    first.mkdir()
    shutil.copy(MIGRATIONS / "0001_studies.py", first)
    with ExitStack() as stack:
        url = f"sqlite+aiosqlite:///{tmp_path}/c.db"
        if kind == "postgresql":
            url = stack.enter_context(postgres())
        database = Database(url, "console")
        await database.migrate(first)
        studies = {
            "done": ("ab", True, STAGE_STATE_DONE, STUDY_OUTCOME_DONE),
            "waits": ("ab", False, STAGE_STATE_DONE, STUDY_OUTCOME_IN_PROGRESS),
            "failed": ("", False, STAGE_STATE_FAILED, STUDY_OUTCOME_FAILED),
        }
        async with database.sessions() as session, session.begin():
            for name, (content, recommended, state, _) in studies.items():
                stages = json.dumps([{"stage": "detection", "state": int(state)}])
                await session.execute(
                    _INSERT,
                    {
                        "study_id": name,
                        "content": content,
                        "recommended": recommended,
                        "stages": stages,
                    },
                )
        await database.migrate(MIGRATIONS)
        async with database.sessions() as session:
            found = await session.execute(text("SELECT study_id, outcome FROM console_study"))
            told = {name: outcome for name, outcome in found}
        await database.close()
        assert told == {name: outcome for name, (*_, outcome) in studies.items()}
