"""One process of the mesh: how it is started, how one knows it is ready, how it is stopped."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A process that lived this long has earned a quick restart again.
_STEADY_SECONDS = 60.0
_LAST_WORDS_BYTES = 4000


@dataclass(frozen=True)
class Program:
    """What to run.

    Attributes
    ----------
    environment
        Added to the supervisor's own environment.
    ready
        Returns whether the process answers; must not block for long.
    ready_file
        The file by which it says so, removed before each start; None for other programs.
    stop_order
        Programs of a lower number are stopped first; those of one number together.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_file: Path | None = None
    stop_order: int = 0


def port_answers(port: int) -> Callable[[], bool]:
    """Return a check that a TCP port of 127.0.0.1 takes connections."""

    def check() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            return False
        return True

    return check


def http_answers(port: int, path: str) -> Callable[[], bool]:
    """Return a check that a GET of 127.0.0.1 is answered with 200."""

    def check() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


class Child:
    """A program's process, started again when it dies."""

    def __init__(self, program: Program, announce: Callable[[int, bool], None]) -> None:
        """`announce(pid, alive)` is told of every process group that begins or ends."""
        self.program = program
        self.is_ready = False
        self.deaths = 0
        self.wait_until = 0.0
        self._announce = announce
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._quick_deaths = 0

    @property
    def pid(self) -> int | None:
        """Process id, None while it is not running."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it, with its output going to its log.

        Raises OSError when the program cannot be run.
        """
        if self.program.ready_file is not None:
            self.program.ready_file.unlink(missing_ok=True)
        self.is_ready = False
        with self.program.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.program.environment},
                # A group of its own: Ctrl-C reaches the supervisor alone, which stops in order.
                process_group=0,
            )
        self._announce(self._process.pid, True)
        self._started = time.monotonic()

    def exited(self) -> int | None:
        """Return the exit status when the process has just ended, None otherwise."""
        if self._process is None:
            return None
        status = self._process.poll()
        if status is None:
            return None
        # Helpers of the process (Triton's backends) must not outlive it.
        self._signal(signal.SIGKILL)
        self._announce(self._process.pid, False)
        self._process = None
        self.is_ready = False
        self.deaths += 1
        lived = time.monotonic() - self._started
        self._quick_deaths = 0 if lived > _STEADY_SECONDS else self._quick_deaths
        delay = _BACK_OFF_SECONDS[min(self._quick_deaths, len(_BACK_OFF_SECONDS) - 1)]
        self._quick_deaths += 1
        self.wait_until = time.monotonic() + delay
        return status

    def look(self) -> bool:
        """Return whether it is ready, asking it until it first is."""
        if self._process is not None and not self.is_ready:
            self.is_ready = self.program.ready()
        return self.is_ready

    def terminate(self) -> None:
        """Ask it to stop."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its helpers at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def _signal(self, number: int) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return

    def announced(self) -> dict[str, int]:
        """Return the ports of its ready file, empty without one."""
        path = self.program.ready_file
        if path is None or not path.exists():
            return {}
        content = json.loads(path.read_text())
        return {name: value for name, value in content.items() if isinstance(value, int)}

    def last_words(self) -> str:
        """Return the last line of its log that is not empty."""
        if not self.program.log.exists():
            return ""
        with self.program.log.open("rb") as log:
            log.seek(max(0, self.program.log.stat().st_size - _LAST_WORDS_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        filled = [line.strip() for line in lines if line.strip()]
        return filled[-1] if filled else ""


def why_it_ended(status: int) -> str:
    """Say in words what an exit status means."""
    if status == -signal.SIGKILL:
        return "was killed (signal 9; the kernel does so when memory runs out)"
    if status < 0:
        return f"ended by signal {-status} ({signal.Signals(-status).name})"
    return f"ended with exit status {status}"
