"""The one-machine mesh as one thing: start it, know where it is, stop it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from lungmesh.embedded import broker, services, triton
from lungmesh.embedded.layout import Layout
from lungmesh.embedded.ports import require_free
from lungmesh.embedded.state import MeshState, read_state, started_at
from lungmesh.embedded.supervisor import Supervisor
from lungmesh.mesh.errors import MeshError

START_LIMIT_SECONDS = 90.0
# A service drains for up to 25 s; then it is killed.
STOP_LIMIT_SECONDS = 40.0
_LEAST_MEMORY_BYTES = 3 * 1024**3


@contextmanager
def embedded_mesh(
    data: Path,
    owner: str,
    say: Callable[[str], None],
    dicom_port: int | None = None,
    names: Sequence[str] = services.SERVICES,
) -> Iterator[MeshState]:
    """Run a mesh over a data directory while the block lasts.

    At its end the services finish what they have begun; a KeyboardInterrupt out of the block ends
    them at once.

    Parameters
    ----------
    owner
        The command that runs it, for others to read in `mesh.json`.
    say
        Takes a sentence for a person when a process dies or comes back.
    dicom_port
        Port of the DICOM listener; None takes a free one.
    names
        The services to run; Triton runs only when detection does.

    Raises DataDirectoryInUse, PortTaken, StartFailed, or MeshError for a full disk, too little
    memory or a missing wheel.
    """
    layout = Layout(data.resolve())
    layout.create()
    with layout.locked():
        if dicom_port is not None:
            require_free(dicom_port, "DICOM", "--dicom-port")
        _require_memory()
        ports = services.choose_ports(names, dicom_port)
        programs = [broker.program(layout, ports.broker)]
        if "detection" in names:
            programs.append(triton.program(layout, ports))
        programs += [services.program(name, layout, ports) for name in names]
        supervisor = Supervisor(programs, say)
        layout.state_file.unlink(missing_ok=True)
        supervisor.start(START_LIMIT_SECONDS)
        try:
            state = MeshState(
                owner=owner,
                pid=os.getpid(),
                started=started_at(os.getpid()),
                kafka=f"127.0.0.1:{ports.broker}",
                ports={name: found for name, found in supervisor.ports().items() if found},
                pids={**supervisor.pids, "supervisor": os.getpid()},
            )
            state.write(layout.state_file)
            yield state
        except KeyboardInterrupt:
            # Whoever interrupts the block does not want its work finished.
            say("stopping the mesh")
            layout.state_file.unlink(missing_ok=True)
            supervisor.abandon()
            raise
        finally:
            layout.state_file.unlink(missing_ok=True)
            supervisor.stop(STOP_LIMIT_SECONDS)


def running_mesh(data: Path, wait_seconds: float = 0.0) -> MeshState | None:
    """Return the mesh that runs over a data directory, None when none does.

    Parameters
    ----------
    wait_seconds
        How long to wait for a mesh that is just starting.
    """
    layout = Layout(data.resolve())
    limit = time.monotonic() + wait_seconds
    while (state := read_state(layout.state_file)) is None and time.monotonic() < limit:
        time.sleep(0.1)
    return state


def _require_memory() -> None:
    available = psutil.virtual_memory().available
    if available < _LEAST_MEMORY_BYTES:
        raise MeshError(
            f"{available / 1024**3:.1f} GiB of memory are available, and the mesh needs "
            f"{_LEAST_MEMORY_BYTES / 1024**3:.0f} GiB: close other programs"
        )
