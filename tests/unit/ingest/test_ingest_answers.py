"""The STOW-RS answer, settings, and how a study ends."""

from __future__ import annotations

import json

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.ingest import outcome
from lungmesh.ingest.intake import Answer
from lungmesh.ingest.settings import IngestSettings
from lungmesh.ingest.store import StudyRow
from lungmesh.ingest.stow_answer import body_of, status_of
from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.settings import load
from lungmesh.v1.events_pb2 import StudyFailed
from lungmesh.v1.ingest_pb2 import STUDY_STATE_DONE, STUDY_STATE_FAILED, STUDY_STATE_PROCESSING
from lungmesh.v1.mdt_pb2 import MdtRecommended
from lungmesh.v1.report_pb2 import ReportReady
from tests.support.ingest import IDENTITY_KEY

GOOD = Answer(0, sop_class_uid="1.2", sop_instance_uid="1.2.3")
GEOMETRY = Answer(0xA909, "missing_geometry", "c", "s.", "1.2", "1.2.4")
NO_DICOM = Answer(0xC001, "not_dicom", "c", "s.")
FULL = Answer(0xA700, "storage_full", "c", "s.")


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([GOOD, GOOD], 200),
        ([GOOD, GEOMETRY], 202),
        ([GEOMETRY], 409),
        ([NO_DICOM], 400),
        ([NO_DICOM, GEOMETRY], 409),
        ([FULL, FULL], 503),
        ([Answer(0xA701, "oversized", "c", "s.", "1.2", "1.2.5")], 413),
    ],
)
def test_the_http_status_says_what_the_objects_have_in_common(
    answers: list[Answer], status: int
) -> None:
    assert status_of(answers) == status


def test_the_body_lists_stored_failed_and_nameless_objects_apart() -> None:
    body = json.loads(body_of([GOOD, GEOMETRY, NO_DICOM]))
    [stored], [failed], [nameless] = (
        body[tag]["Value"] for tag in ("00081199", "00081198", "0008119A")
    )
    assert stored["00081155"]["Value"] == ["1.2.3"]
    assert failed["00081155"]["Value"] == ["1.2.4"]
    assert failed["00081197"]["Value"] == [0xA909]
    assert "00081155" not in nameless
    assert "00081198" not in json.loads(body_of([GOOD]))


def study() -> StudyRow:
    """Return a study that is being read."""
    return StudyRow(
        revision=1,
        state=STUDY_STATE_PROCESSING,
        reason="",
        since=0.0,
        reported=False,
        recommended=False,
    )


@given(st.permutations(["report", "mdt", "report", "mdt"]))
def test_report_and_recommendation_in_any_order_end_a_study(order: list[str]) -> None:
    row = study()
    events: dict[str, Message] = {"report": ReportReady(), "mdt": MdtRecommended()}
    for number, word in enumerate(order):
        outcome.apply(row, events[word], float(number))
    assert row.state == STUDY_STATE_DONE
    assert row.since == next(n for n in range(4) if len(set(order[: n + 1])) == 2)


def test_a_failure_stands_with_its_reason_until_a_replay_brings_both_results() -> None:
    row = study()
    outcome.apply(row, StudyFailed(stage="detection", reason="Triton is away."), 5)
    assert (row.state, row.reason, row.since) == (
        STUDY_STATE_FAILED,
        "detection: Triton is away.",
        5,
    )
    outcome.apply(row, ReportReady(), 6)
    assert row.state == STUDY_STATE_FAILED
    outcome.apply(row, MdtRecommended(), 7)
    assert (row.state, row.since) == (STUDY_STATE_DONE, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IDENTITY_KEY", "short"),
        ("TENANTS", '{"LUNGMESH": "No Tenant"}'),
        ("TENANTS", '{"A TITLE THAT IS TOO LONG": "default"}'),
        ("TENANTS", "{}"),
        ("TENANTS", "LUNGMESH=default"),
        ("QUIET_SECONDS", "0"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNGMESH_INGEST__IDENTITY_KEY", IDENTITY_KEY)
    monkeypatch.setenv("LUNGMESH_INGEST__SPOOL", "/tmp/spool")
    assert load(IngestSettings).tenants == {"LUNGMESH": "default"}
    monkeypatch.setenv(f"LUNGMESH_INGEST__{name}", value)
    with pytest.raises(SettingsError, match=f"LUNGMESH_INGEST__{name}") as caught:
        load(IngestSettings)
    assert "\n" not in str(caught.value)
    assert IDENTITY_KEY not in str(caught.value)
