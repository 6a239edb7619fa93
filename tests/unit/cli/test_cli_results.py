"""What `lungmesh run` says at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from lungmesh.cli.job import Result
from lungmesh.cli.results import show_results
from lungmesh.cli.show import Plain
from lungmesh.cli.summary import complete_summary
from lungmesh.mesh.headers import read_headers
from lungmesh.report.facts import from_event
from lungmesh.report.summary import summary
from lungmesh.v1.console_pb2 import StudyView
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.mdt_pb2 import MdtRecommended
from tests.support.report import followup, made_up_case
from tests.support.report_course import followed


def say(root: Path, *exams: FollowupUpdated) -> None:
    """Say the result of the last exam."""
    case = made_up_case(root)
    headers = read_headers(case.blobs, case.ready.volume.headers)
    (root / "summary.json").write_bytes(summary(from_event(exams[-1], headers), "ab" * 32))
    view = StudyView(study=exams[-1].study)
    complete_summary(root, view, MdtRecommended(), {"wall": 1.0})
    result = Result(
        view=view,
        timeline=exams,
        files=["summary.json"],
        wall_seconds=1.0,
        send_seconds=0.5,
        start_seconds=0.0,
        peak_pss_bytes=1,
        peak_rss_bytes=1,
    )
    show_results(result, root, Plain())


def test_a_run_with_priors_shows_the_timeline_the_row_and_the_next_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = made_up_case(tmp_path)
    now = followed(case, 2, 2)
    now.next.work_up, now.next.due_date = False, "20000701"
    before = FollowupUpdated()
    before.CopyFrom(now)
    before.study.study_id = now.priors[0].study_id
    before.exam.volume.acquisition.study_date = "19990101"
    for nodule in before.nodules:
        del nodule.tracking.priors[:]
    say(tmp_path, before, now)
    said = " ".join(capsys.readouterr().out.split())
    assert "timeline (change against the exam before)" in said
    assert said.count("1999-01-01") >= 2
    assert "Lung-RADS v2022: 4B (solid, 15 mm or more at baseline). Diagnostic CT" in said
    assert "next CT by Lung-RADS v2022: 2000-07-01" in said


def test_a_first_exam_has_no_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(tmp_path, followup(made_up_case(tmp_path), 2, prior=False))
    said = capsys.readouterr().out
    assert "timeline" not in said
    assert "next" not in said
    assert "Lung-RADS v2022: 4B" in said
