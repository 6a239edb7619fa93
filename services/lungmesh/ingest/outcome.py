"""How a study ended, from the mesh's events, in whatever order they come."""

from __future__ import annotations

from google.protobuf.message import Message

from lungmesh.ingest.store import StudyRow
from lungmesh.v1.events_pb2 import StudyFailed
from lungmesh.v1.ingest_pb2 import STUDY_STATE_DONE, STUDY_STATE_FAILED
from lungmesh.v1.mdt_pb2 import MdtRecommended
from lungmesh.v1.report_pb2 import ReportReady


def apply(row: StudyRow, event: Message, now: float) -> bool:
    """Note an event of the row's newest revision; return whether it is the first of its end.

    The end is the report, or a failure before it. Done means report and recommendation are there; a
    failure before that stands until both have come after all, by a replay.

    Parameters
    ----------
    now
        Seconds since 1970; becomes `since` when the state changes.
    """
    ended = False
    if isinstance(event, ReportReady):
        ended = not row.reported
        row.reported = True
    elif isinstance(event, MdtRecommended):
        row.recommended = True
    elif isinstance(event, StudyFailed) and not (row.reported and row.recommended):
        ended = not row.reported and row.state != STUDY_STATE_FAILED
        row.reason = f"{event.stage}: {event.reason}"
        _become(row, STUDY_STATE_FAILED, now)
    if row.reported and row.recommended and row.state != STUDY_STATE_DONE:
        row.reason = f"report and recommendation of revision {row.revision} are ready"
        _become(row, STUDY_STATE_DONE, now)
    return ended


def _become(row: StudyRow, state: int, now: float) -> None:
    if row.state != state:
        row.state, row.since = state, now
