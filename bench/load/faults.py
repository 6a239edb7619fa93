"""What goes wrong while studies arrive."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.load.hospitals import Running
from lungmesh.embedded.services import SERVICES

AWAY_SECONDS = 15.0
DISK_SECONDS = 20.0
_BLOCK = bytes(1024**2)


@dataclass(frozen=True)
class Fault:
    """A fault and when it comes: after this share of the studies was sent."""

    after: float
    name: str
    begin: Callable[[Running], None]


def plan() -> list[Fault]:
    """Return every fault once, evenly over the studies: each process killed, broker and disk."""
    found: list[tuple[str, Callable[[Running], None]]] = [
        (f"kill {name}", _killer(name)) for name in (*SERVICES, "triton", "broker")
    ]
    found.insert(3, ("broker away", broker_away))
    found.insert(6, ("slow disk", slow_disk))
    return [
        Fault((number + 1) / (len(found) + 1), name, begin)
        for number, (name, begin) in enumerate(found)
    ]


def _killer(name: str) -> Callable[[Running], None]:
    def kill(mesh: Running) -> None:
        pid = mesh.supervisor.pids.get(name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    return kill


def broker_away(mesh: Running) -> None:
    """Have the broker not answer for a while; it keeps what it has."""
    pid = mesh.supervisor.pids["broker"]
    os.kill(pid, signal.SIGSTOP)

    def back() -> None:
        time.sleep(AWAY_SECONDS)
        os.kill(pid, signal.SIGCONT)

    threading.Thread(target=back, daemon=True).start()


def slow_disk(mesh: Running) -> None:
    """Keep the disk busy with writes that are each waited for."""
    threading.Thread(target=_write, args=(mesh.layout.root / "busy",), daemon=True).start()


def _write(path: Path) -> None:
    limit = time.monotonic() + DISK_SECONDS
    with path.open("wb") as file:
        while time.monotonic() < limit:
            file.seek(0)
            file.write(_BLOCK)
            file.flush()
            os.fsync(file.fileno())
    path.unlink()


@contextmanager
def watched(mesh: Running, seconds: float = 5.0) -> Iterator[list[tuple[float, dict[str, int]]]]:
    """Note the memory of each process while the block lasts, bytes, by seconds since its start."""
    notes: list[tuple[float, dict[str, int]]] = []
    ended = threading.Event()
    began = time.monotonic()

    def look() -> None:
        while not ended.wait(seconds):
            found = {}
            for name, pid in mesh.supervisor.pids.items():
                try:
                    found[name] = psutil.Process(pid).memory_info().rss
                except psutil.Error:
                    continue
            notes.append((time.monotonic() - began, found))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield notes
    finally:
        ended.set()
        thread.join()


def names(faults: Sequence[Fault]) -> str:
    """Return the faults for a person."""
    return ", ".join(fault.name for fault in faults)
