"""A revision ends once in the counts, however its events come."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from lungmesh.ingest import outcome
from lungmesh.ingest.store import StudyRow
from lungmesh.v1.events_pb2 import StudyFailed
from lungmesh.v1.ingest_pb2 import STUDY_STATE_PROCESSING
from lungmesh.v1.mdt_pb2 import MdtRecommended
from lungmesh.v1.report_pb2 import ReportReady

REPORT, TEAM = ReportReady(), MdtRecommended()
FAILED = StudyFailed(stage="detection", reason="broken")


@pytest.mark.parametrize(
    ("events", "ended"),
    [
        ([REPORT, TEAM], [True, False]),
        ([TEAM, REPORT], [False, True]),
        ([REPORT, REPORT], [True, False]),
        ([FAILED, FAILED], [True, False]),
        # A replay brings the report after all: the study ended well, later.
        ([FAILED, REPORT], [True, True]),
        # The report is there: the team's failure is no loss of the study.
        ([REPORT, FAILED], [True, False]),
    ],
)
def test_an_end_is_told_once(events: list[Message], ended: list[bool]) -> None:
    row = StudyRow(state=STUDY_STATE_PROCESSING, reported=False, recommended=False, revision=1)
    assert [outcome.apply(row, event, 1.0) for event in events] == ended
