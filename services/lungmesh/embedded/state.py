"""`mesh.json`: where a running one-machine mesh is, for the commands that talk to it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from lungmesh.mesh.errors import MeshError

TENANT = "default"


@dataclass(frozen=True)
class MeshState:
    """Addresses and process ids of a running mesh.

    Attributes
    ----------
    owner
        The command that runs it: `up`, `run` or `demo`.
    pid, started
        The supervisor's process id and its start, seconds since 1970, which tell it from a later
        process of the same id.
    kafka
        host:port of the broker.
    ports
        Ports of 127.0.0.1 by service and name: `ports["ingest"]["dicom"]`.
    pids
        Process ids by program.
    """

    owner: str
    pid: int
    started: float
    kafka: str
    ports: dict[str, dict[str, int]]
    pids: dict[str, int]

    def address(self, service: str, name: str = "grpc") -> str:
        """Return host:port of a service.

        Raises MeshError when this mesh does not run it.
        """
        port = self.ports.get(service, {}).get(name)
        if port is None:
            raise MeshError(f"the running mesh has no {name} port of {service}: start it again")
        return f"127.0.0.1:{port}"

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n")
        os.replace(part, path)


def started_at(pid: int) -> float:
    """Return when a process started, seconds since 1970."""
    return float(psutil.Process(pid).create_time())


def read_state(path: Path) -> MeshState | None:
    """Return the state of the mesh that runs now, None when none does."""
    try:
        state = MeshState(**json.loads(path.read_text()))
        alive = abs(started_at(state.pid) - state.started) < 1.0
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    except (json.JSONDecodeError, TypeError) as error:
        raise MeshError(f"{path} is not readable as a mesh's state: remove it") from error
    return state if alive else None
