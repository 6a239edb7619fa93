"""`lungmesh run` on a mesh of its own: a study in, every promised file out, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pydicom
import pytest

from lungmesh.cli.exits import Exit
from tests.e2e.conftest import Ended, command
from tests.support.mesh import LUNGMESH, alive, processes_over, wait_for

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest", "preprocess", "detection", "malignancy", "followup", "report", "mdt")
# DESIGN section 7.
FILES = {
    "summary.json",
    "report.zh.txt",
    "report.en.txt",
    "report.pdf",
    "report.zh.html",
    "report.en.html",
    "sr.dcm",
    "seg.dcm",
    "gsps.dcm",
    "pdf.dcm",
    "fhir.json",
    "oru.hl7",
}
READERS_CENTRE = (56.2, 86.2, -115.9)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "out"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run-data")


@pytest.fixture(scope="module")
def ended(out: Path, data: Path, small_study: Callable[..., Path]) -> Ended:
    study = small_study("run", "E2E-RUN")
    ended = command("run", study, "--out", out, "--data", data, "--age", "61", "--sex", "male")
    assert ended.status == Exit.DONE, (ended.events[-5:], ended.stderr)
    return ended


@pytest.fixture(scope="module")
def summary(ended: Ended, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def test_every_promised_file_is_there_and_nothing_else(
    ended: Ended, out: Path, summary: dict[str, Any]
) -> None:
    has_parts = any(
        nodule["type"] in ("part_solid", "non_solid") and nodule["solid_mean_diameter_mm"] > 0
        for nodule in summary["nodules"]
    )
    names = {path.name for path in out.iterdir()}
    pictures = {name for name in names if name.startswith("key_")}
    assert pictures
    assert names - pictures == FILES | ({"seg_solid.dcm"} if has_parts else set())


def test_the_summary_keeps_its_schema(summary: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "docs" / "summary.schema.json").read_text())
    jsonschema.validate(summary, schema)


def test_every_stage_is_done_and_timed(ended: Ended, summary: dict[str, Any]) -> None:
    last = {item["stage"]: item["state"] for item in ended.of("stage")}
    assert {stage: last.get(stage) for stage in STAGES} == dict.fromkeys(STAGES, "done")
    timed = summary["timings_s"]["stages"]
    assert all(timed[stage]["handler"] >= 0 for stage in STAGES)
    assert timed["detection"]["handler"] > 0
    assert 0 < summary["timings_s"]["send"] < summary["timings_s"]["wall"]


def test_the_readers_nodule_is_among_the_nodules(summary: dict[str, Any]) -> None:
    near = [
        nodule
        for nodule in summary["nodules"]
        if sum((a - b) ** 2 for a, b in zip(nodule["center_lps_mm"], READERS_CENTRE, strict=True))
        <= 25
    ]
    assert near


def test_the_recommendation_is_in_the_summary(summary: dict[str, Any]) -> None:
    assert summary["mdt"]["options"]
    assert {item["name"] for item in summary["mdt"]["models"]} >= {"TNM", "BTS"}


def test_what_was_said_of_the_patient_reached_the_report(summary: dict[str, Any]) -> None:
    assert summary["study"]["clinical"] == {"age_years": 61.0, "sex": "male"}


def test_the_objects_are_those_of_the_study_under_a_pseudonym(
    ended: Ended, out: Path, summary: dict[str, Any]
) -> None:
    for name in ("sr.dcm", "seg.dcm"):
        dataset = pydicom.dcmread(out / name)
        assert dataset.StudyInstanceUID == summary["study"]["study_instance_uid"]
        assert dataset.PatientID == summary["study"]["patient"]


def test_machines_get_nodules_timings_and_memory(ended: Ended, summary: dict[str, Any]) -> None:
    (nodules,) = ended.of("nodules")
    assert len(nodules["rows"]) == len(summary["nodules"])
    (timings,) = ended.of("timings")
    assert {row["stage"] for row in timings["rows"]} >= set(STAGES)
    (memory,) = (item for item in ended.of("note") if "peak_pss_bytes" in item)
    assert 0.5 < memory["peak_pss_bytes"] / 2**30 < 6


def test_no_process_is_left(ended: Ended, data: Path) -> None:
    assert (data / "logs" / "detection.log").exists()
    assert not processes_over(data)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_ended_in_the_middle_leaves_no_process(
    number: signal.Signals, small_study: Callable[..., Path], tmp_path: Path
) -> None:
    study = small_study("run", "E2E-RUN")
    data = tmp_path / "data"
    process = subprocess.Popen(
        [*LUNGMESH, "run", str(study), "--out", str(tmp_path / "out"), "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # Kill in the start, Ctrl-C once the mesh is ready and works.
        marker = data / ("mesh.json" if number == signal.SIGINT else "ready")
        wait_for(lambda: marker.exists() or process.poll() is not None, 120, "the start")
        time.sleep(2)
        assert process.poll() is None
        family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        # Broker, Triton, the services and the watchdog.
        assert len(family) >= 10
        process.send_signal(number)
        # Work in hand is not waited for.
        _, errors = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    if number == signal.SIGINT:
        assert (process.returncode, errors) == (Exit.INTERRUPTED, "lungmesh: interrupted\n")
    wait_for(lambda: not alive(family), 10, "the end of every process")
    assert not processes_over(data)
