"""The supervisor on stand-in programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lungmesh.embedded.program import Program
from lungmesh.embedded.supervisor import StartFailed, Supervisor
from tests.support.mesh import alive, wait_for

WELL = (
    "import pathlib,sys,time; pathlib.Path(sys.argv[1]).write_text('{\"grpc\": 7}');time.sleep(60)"
)
DEAF = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + WELL
SILENT = "import time; time.sleep(60)"
WRONG = "import sys; print('LUNGMESH_BLOBS_URL: Field required'); sys.exit(2)"
WITH_HELPER = "import subprocess,sys; subprocess.Popen(['sleep', '60']);" + WELL


def program(folder: Path, name: str, code: str, stop_order: int = 0) -> Program:
    ready = folder / f"{name}.json"
    return Program(
        name=name,
        command=(sys.executable, "-S", "-c", code, str(ready)),
        log=folder / f"{name}.log",
        ready=ready.exists,
        ready_file=ready,
        stop_order=stop_order,
    )


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def started(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(
        [program(tmp_path, "first", WELL), program(tmp_path, "second", WITH_HELPER, 1)],
        said.append,
    )
    supervisor.start(10)
    yield supervisor
    supervisor.stop(5)


def test_all_are_ready_with_their_ports_after_start(started: Supervisor) -> None:
    assert started.ports() == {"first": {"grpc": 7}, "second": {"grpc": 7}}
    assert sorted(started.pids) == ["first", "second"]


def test_stop_leaves_no_process_behind(started: Supervisor) -> None:
    pids = list(started.pids.values())
    helpers = psutil.Process(started.pids["second"]).children()
    assert helpers
    watchdog = started.watchdog_pid
    assert watchdog is not None
    started.stop(5)
    assert not alive([*pids, watchdog, *(helper.pid for helper in helpers)])


def test_a_killed_program_is_started_again_and_said(started: Supervisor, said: list[str]) -> None:
    before = started.pids["first"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: "first is ready again" in said, 10, "the restart")
    assert started.pids["first"] != before
    assert any("first was killed" in text and "starting again" in text for text in said)


def test_a_program_that_is_never_ready_is_named(tmp_path: Path, said: list[str]) -> None:
    supervisor = Supervisor(
        [program(tmp_path, "well", WELL), program(tmp_path, "silent", SILENT)], said.append
    )
    with pytest.raises(StartFailed, match=r"not ready after 1 s: silent"):
        supervisor.start(1)
    assert not supervisor.pids


def test_wrong_settings_end_the_start_with_the_programs_own_words(
    tmp_path: Path, said: list[str]
) -> None:
    supervisor = Supervisor([program(tmp_path, "ingest", WRONG)], said.append)
    with pytest.raises(StartFailed, match="LUNGMESH_BLOBS_URL: Field required"):
        supervisor.start(10)


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path, said: list[str]) -> None:
    missing = Program("broker", ("/nowhere/tansu",), tmp_path / "broker.log", lambda: True)
    with pytest.raises(StartFailed, match="broker cannot be started"):
        Supervisor([missing], said.append).start(5)


def test_a_program_that_ignores_the_stop_is_killed_after_the_limit(
    tmp_path: Path, said: list[str]
) -> None:
    supervisor = Supervisor([program(tmp_path, "deaf", DEAF)], said.append)
    supervisor.start(10)
    pids = list(supervisor.pids.values())
    supervisor.stop(0.5)
    assert not alive(pids)
    assert said == ["deaf did not stop in time and was killed"]


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from tests.unit.embedded.test_embedded_supervisor import WITH_HELPER, program
from lungmesh.embedded.supervisor import Supervisor
folder = pathlib.Path({str(tmp_path)!r})
programs = [program(folder, name, WITH_HELPER) for name in ("one", "two")]
Supervisor(programs, print).start(10)
(folder / "up").touch()
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_for((tmp_path / "up").exists, 15, "the start")
        family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        # Two programs with a helper each, and the watchdog.
        assert len(family) == 5
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not alive(family), 10, "the end of every process")


def test_abandoned_programs_end_soon_and_without_a_word(tmp_path: Path, said: list[str]) -> None:
    supervisor = Supervisor(
        [program(tmp_path, "well", WELL), program(tmp_path, "deaf", DEAF)], said.append
    )
    supervisor.start(10)
    pids = list(supervisor.pids.values())
    before = time.monotonic()
    supervisor.abandon()
    assert time.monotonic() - before < 6
    assert not alive(pids)
    assert said == []
