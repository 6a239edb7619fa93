"""One running mesh (`lungmesh up`) for the tests that only talk to it, and small real studies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lungmesh.demo.case import write_small_case
from lungmesh.embedded.state import TENANT
from tests.support.mesh import (
    alive,
    lungmesh,
    mesh_pids,
    require_embedded_wheels,
    running_up,
)
from tests.support.pacs import Orthanc, found, running_orthanc

STUDY_SECONDS = 240
PACS = {
    "kind": "dicom",
    "name": "pacs",
    "tenant": TENANT,
    "host": "127.0.0.1",
    "ae_title": "ORTHANC",
}


@dataclass
class Ended:
    """How a command ended.

    Attributes
    ----------
    events
        The objects of its `--json` output.
    """

    status: int
    events: list[dict[str, Any]]
    stderr: str

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the objects of one kind."""
        return [item for item in self.events if item["event"] == event]


@dataclass
class Up:
    """A running `lungmesh up`."""

    data: Path

    def address(self, service: str, name: str) -> str:
        """Return host:port as mesh.json has it."""
        ports = json.loads((self.data / "mesh.json").read_text())["ports"]
        return f"127.0.0.1:{ports[service][name]}"


def command(*arguments: str | Path, limit_seconds: float = STUDY_SECONDS) -> Ended:
    """Run `lungmesh … --json` to its end."""
    ended = lungmesh(*arguments, "--json", limit_seconds=limit_seconds)
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    return Ended(ended.returncode, events, ended.stderr)


@pytest.fixture(scope="session")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc | None]:
    """The hospital's PACS, to which the mesh sends its results; None where Orthanc is absent."""
    if found("Orthanc") is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("pacs")
    with running_orthanc(folder, DefaultEncoding="Utf8") as server:
        yield server


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory, pacs: Orthanc | None) -> Iterator[Up]:
    """A mesh that runs as long as the session; SIGTERM must leave no process of it."""
    require_embedded_wheels()
    data = tmp_path_factory.mktemp("up") / "data"
    destinations = [] if pacs is None else [{**PACS, "port": pacs.dicom_port}]
    with running_up(data, LUNGMESH_DELIVERY__DESTINATIONS=json.dumps(destinations)):
        pids = mesh_pids(data)
        yield Up(data)
    assert not alive(pids)


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes studies of the real CT at half its pixels: `small_study(name, patient, date)`."""
    require_embedded_wheels()
    root = tmp_path_factory.mktemp("studies")

    def write(name: str, patient: str, study_date: str = "20010101", keep_every: int = 1) -> Path:
        folder = root / name
        if not folder.exists():
            write_small_case(folder, patient, f"e2e-{name}", keep_every, study_date)
        return folder

    return write
