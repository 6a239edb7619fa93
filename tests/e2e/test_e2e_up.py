"""What people do with a running mesh: run, send, watch, dead letters."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from lungmesh.cli.exits import Exit
from lungmesh.embedded.state import TENANT
from lungmesh.mesh import ids
from tests.e2e.conftest import Ended, Up, command
from tests.support.mesh import LUNGMESH, lungmesh, wait_for


@pytest.fixture(scope="module")
def with_prior(
    up: Up, small_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ended, dict[str, Any]]:
    out = tmp_path_factory.mktemp("prior") / "out"
    now = small_study("now", "E2E-TWICE", "20010101")
    before = small_study("before", "E2E-TWICE", "20000101")
    ended = command("run", now, "--prior", before, "--out", out, "--data", up.data)
    assert ended.status == Exit.DONE, (ended.events[-5:], ended.stderr)
    return ended, json.loads((out / "summary.json").read_text())


def test_a_nodule_is_matched_with_itself_a_year_earlier(
    with_prior: tuple[Ended, dict[str, Any]],
) -> None:
    _, summary = with_prior
    (prior,) = summary["priors"]
    assert prior["interval_days"] == 366
    matched = [nodule for nodule in summary["nodules"] if nodule["priors"]]
    assert matched
    for nodule in matched:
        assert nodule["growth"] == "stable"
        assert abs(nodule["priors"][0]["volume_change_percent"]) < 25
    assert "prior_ct" not in {question["code"] for question in summary["mdt"]["open_questions"]}


def test_the_prior_is_read_to_its_end_before_the_study_is_sent(
    with_prior: tuple[Ended, dict[str, Any]],
) -> None:
    ended, summary = with_prior
    now = summary["study"]["study_id"]
    first_of_now = next(
        index for index, item in enumerate(ended.events) if item.get("study_id") == now
    )
    before = {
        item["stage"]: item["state"]
        for item in ended.events[:first_of_now]
        if item["event"] == "stage"
    }
    assert before["report"] == "done"
    assert before["followup"] == "done"


def test_the_same_study_again_gives_the_same_report_at_once(
    up: Up,
    with_prior: tuple[Ended, dict[str, Any]],
    small_study: Callable[..., Path],
    tmp_path: Path,
) -> None:
    _, summary = with_prior
    again = command("run", small_study("now", ""), "--out", tmp_path, "--data", up.data)
    assert again.status == Exit.DONE
    repeated = json.loads((tmp_path / "summary.json").read_text())
    assert repeated["content_sha256"] == summary["content_sha256"]
    assert repeated["study"]["revision"] == 1


@pytest.fixture(scope="module")
def refused(
    up: Up, small_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Ended:
    # 17 slices, 20 mm apart, cannot show the lungs.
    study = small_study("gaps", "E2E-GAPS", keep_every=8)
    out = tmp_path_factory.mktemp("gaps") / "out"
    return command("run", study, "--out", out, "--data", up.data)


def test_a_study_that_quality_refuses_ends_the_run_with_the_reason(refused: Ended) -> None:
    assert refused.status == Exit.STAGE_FAILED
    (error,) = refused.of("error")
    assert error["text"].startswith("preprocess: ")
    assert "slices" in error["text"]


def test_the_refused_study_lies_in_the_dead_letters(up: Up, refused: Ended) -> None:
    (listed,) = command("dlq", "list", "--data", up.data).of("dead_letters")
    (letter,) = listed["rows"]
    assert (letter["stage"], letter["kind"]) == ("preprocess", "bad_input")
    (shown,) = command("dlq", "show", letter["event_id"], "--data", up.data).of("note")
    assert shown["reason"] == letter["reason"]
    assert letter["event_id"] in lungmesh("dlq", "list", "--data", up.data, limit_seconds=60).stdout
    assert "study_instance_uid" in shown["message"]


def test_a_replayed_dead_letter_goes_its_way_again(up: Up, refused: Ended) -> None:
    (replayed,) = command("dlq", "replay", "preprocess", "--data", up.data).of("note")
    assert replayed["count"] == 1

    def letters() -> list[dict[str, Any]]:
        (listed,) = command("dlq", "list", "preprocess", "--data", up.data).of("dead_letters")
        rows: list[dict[str, Any]] = listed["rows"]
        return rows

    wait_for(lambda: [row["replayed"] for row in letters()] == [True, False], 30, "the new letter")


def test_an_unknown_dead_letter_is_wrong_usage(up: Up) -> None:
    ended = command("dlq", "show", "00000000-0000-4000-8000-000000000000", "--data", up.data)
    assert ended.status == Exit.USAGE


def test_a_bad_folder_is_told_apart(up: Up, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image" * 50)
    ended = command("run", tmp_path, "--out", tmp_path / "out", "--data", up.data)
    assert ended.status == Exit.BAD_FOLDER


def test_a_sent_study_is_watched_to_its_end(up: Up, small_study: Callable[..., Path]) -> None:
    study = small_study("sent", "E2E-SENT")
    header = pydicom.dcmread(study / "0001.dcm", stop_before_pixels=True)
    with subprocess.Popen(
        [*LUNGMESH, "watch", "--data", str(up.data), "--json"], stdout=subprocess.PIPE, text=True
    ) as watcher:
        try:
            sent = command("send", study, up.address("ingest", "dicom"))
            assert sent.status == Exit.DONE
            assert sent.of("note")[0]["sent"] == 133
            assert watcher.stdout is not None
            told = [{"outcome": "in_progress"}]
            # The release of the association closes it: nobody called CloseStudy.
            while told[-1]["outcome"] == "in_progress":
                line = json.loads(watcher.stdout.readline())
                if line["study_id"] == ids.study_id(TENANT, header.StudyInstanceUID):
                    told.append(line)
        finally:
            watcher.terminate()
    assert told[-1]["outcome"] == "done"
    assert told[-1]["category"]
    assert len(told) > 5


def test_a_listener_of_another_name_takes_nothing(up: Up, small_study: Callable[..., Path]) -> None:
    study = small_study("gaps", "")
    ended = command("send", study, up.address("ingest", "dicom"), "--called", "NOBODY")
    assert ended.status == Exit.REFUSED
    assert "called AE title" in ended.of("error")[0]["text"]


def test_a_second_mesh_over_the_same_directory_is_refused(up: Up) -> None:
    ended = lungmesh("up", "--data", up.data, limit_seconds=30)
    assert ended.returncode == Exit.NO_MESH
    assert "another mesh runs over" in ended.stderr


def test_a_taken_dicom_port_is_named(up: Up, tmp_path: Path) -> None:
    port = up.address("ingest", "dicom").split(":")[1]
    ended = lungmesh("up", "--data", tmp_path / "d", "--dicom-port", port, limit_seconds=30)
    assert ended.returncode == Exit.NO_MESH
    assert f"port {port} (DICOM) is taken" in ended.stderr
