"""The data directory, ports, state and memory of a one-machine mesh."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from cryptography.fernet import Fernet

from lungmesh.embedded.layout import DataDirectoryInUse, Layout
from lungmesh.embedded.memory import MemorySampler
from lungmesh.embedded.mesh import embedded_mesh, running_mesh
from lungmesh.embedded.ports import PortTaken, free_ports, require_free
from lungmesh.embedded.state import MeshState, started_at
from lungmesh.mesh.errors import MeshError
from tests.support.mesh import wait_for


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "data")
    made.create()
    return made


def test_only_the_owner_may_enter_and_read_keys(layout: Layout) -> None:
    key = layout.secret("identity.key")
    assert stat.S_IMODE(layout.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((layout.secrets / "identity.key").stat().st_mode) == 0o600
    Fernet(key)


def test_a_key_stays_the_same_and_differs_from_others(layout: Layout) -> None:
    assert layout.secret("identity.key") == layout.secret("identity.key")
    assert layout.secret("identity.key") != layout.secret("restore.token")


def test_a_nearly_full_disk_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=300 * 1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(MeshError, match=r"0\.3 GiB free, and the mesh needs 2 GiB.*--data"):
        Layout(tmp_path / "data").create()


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "GiB free"), (errno.EROFS, "choose another with --data")]
)
def test_a_directory_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(MeshError, match=words):
        Layout(tmp_path / "data").create()


def test_too_little_memory_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(available=1024**3)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with (
        pytest.raises(MeshError, match=r"1\.0 GiB of memory are available.*needs 3 GiB"),
        embedded_mesh(tmp_path / "data", "test", print),
    ):
        pytest.fail("the mesh started")


def test_one_directory_holds_one_mesh(layout: Layout) -> None:
    with layout.locked():
        code = (
            "import sys; from pathlib import Path; from lungmesh.embedded.layout import *\n"
            "with Layout(Path(sys.argv[1])).locked(): pass"
        )
        second = subprocess.run(
            [sys.executable, "-c", code, str(layout.root)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "DataDirectoryInUse" in second.stderr
    with layout.locked():
        pass
    assert issubclass(DataDirectoryInUse, MeshError)


def test_a_large_log_is_set_aside(layout: Layout) -> None:
    log = layout.log_file("ingest")
    log.write_bytes(b"x" * 100)
    assert layout.log_file("ingest").stat().st_size == 100
    with log.open("wb") as file:
        file.truncate(21 * 1024**2)
    assert not layout.log_file("ingest").exists()
    assert log.with_suffix(".log.1").exists()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_the_option_that_chooses_another(taken: int) -> None:
    with pytest.raises(PortTaken, match=rf"port {taken} \(DICOM\) is taken.*--dicom-port"):
        require_free(taken, "DICOM", "--dicom-port")


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(30)
    assert len(set(ports)) == 30
    for port in ports:
        require_free(port, "any", "--any")


def write_state(layout: Layout, pid: int, started: float) -> MeshState:
    state = MeshState(
        owner="up",
        pid=pid,
        started=started,
        kafka="127.0.0.1:1",
        ports={"ingest": {"dicom": 11112}},
        pids={"supervisor": pid},
    )
    state.write(layout.state_file)
    return state


def test_a_running_mesh_is_found_by_its_directory(layout: Layout) -> None:
    assert running_mesh(layout.root) is None
    state = write_state(layout, os.getpid(), started_at(os.getpid()))
    assert running_mesh(layout.root) == state
    assert state.address("ingest", "dicom") == "127.0.0.1:11112"
    with pytest.raises(MeshError, match="no grpc port of report"):
        state.address("report")


def test_the_state_of_a_mesh_that_died_is_no_mesh(layout: Layout) -> None:
    """Its process id may belong to another process by now."""
    write_state(layout, os.getpid(), started_at(os.getpid()) - 3600)
    assert running_mesh(layout.root) is None


@pytest.mark.parametrize("content", ["{", json.dumps({"owner": "up"})])
def test_an_unreadable_state_is_named(layout: Layout, content: str) -> None:
    layout.state_file.write_text(content)
    with pytest.raises(MeshError, match=r"mesh\.json is not readable"):
        running_mesh(layout.root)


def test_memory_is_summed_over_descendants_and_its_peak_kept() -> None:
    hold = "x = bytearray(120 * 1024**2); input()"
    parent = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, '-S', '-c', {hold!r}], stdin=sys.stdin)"
    )
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", parent], stdin=subprocess.PIPE, text=True
    )
    sampler = MemorySampler(lambda: [process.pid])
    sampler.start()
    try:
        wait_for(lambda: sampler.peak_pss_bytes > 120 * 1024**2, 10, "the allocation")
    finally:
        process.communicate("\n")
    sampler.stop()
    assert 120 < sampler.peak_pss_bytes / 1024**2 < 200
    assert sampler.peak_rss_bytes >= sampler.peak_pss_bytes
