"""Starts the programs of a mesh together, keeps them running, and ends them all."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from lungmesh.embedded import watchdog
from lungmesh.embedded.program import Child, Program, why_it_ended
from lungmesh.mesh.errors import MeshError

_LOOK_SECONDS = 0.05
_START_DEATHS = 3
_ABANDON_SECONDS = 3.0
# Exit status of a service whose settings are wrong: another start would not help.
_WRONG_SETTINGS = 2


class StartFailed(MeshError):
    """A program did not become ready; its log says more."""


class Supervisor:
    """Runs programs from `start` to `stop`.

    Parameters
    ----------
    programs
        What to run.
    say
        Takes a sentence for a person whenever a program dies or comes back.
    """

    def __init__(self, programs: Sequence[Program], say: Callable[[str], None]) -> None:
        self._say = say
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._watchdog: subprocess.Popen[str] | None = None
        self._children = [Child(program, self._announce) for program in programs]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running programs by name."""
        return {child.program.name: child.pid for child in self._children if child.pid is not None}

    @property
    def watchdog_pid(self) -> int | None:
        """Process id of the watchdog."""
        return self._watchdog.pid if self._watchdog is not None else None

    def ports(self) -> dict[str, dict[str, int]]:
        """Ports that the programs announced in their ready files, by program and name."""
        return {child.program.name: child.announced() for child in self._children}

    def start(self, limit_seconds: float) -> None:
        """Start everything at once and return when all are ready.

        Raises StartFailed naming what is not ready in time, or what died and its last words;
        whatever had started is stopped again.
        """
        try:
            self._start_watchdog()
            for child in self._children:
                self._launch(child)
            self._await_ready(time.monotonic() + limit_seconds, limit_seconds)
        except BaseException:
            self.abandon()
            raise
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def abandon(self) -> None:
        """Stop everything together and soon, work unfinished."""
        self._end_watch()
        self._stop_together(self._children, time.monotonic() + _ABANDON_SECONDS, told=False)
        self.stop(0.0)

    def stop(self, limit_seconds: float) -> None:
        """Stop everything in order; what is still there after the limit is killed.

        Harmless when called again.
        """
        self._end_watch()
        limit = time.monotonic() + limit_seconds
        ordered = sorted(self._children, key=lambda child: child.program.stop_order)
        for _, group in groupby(ordered, key=lambda child: child.program.stop_order):
            self._stop_together(list(group), limit)
        if self._watchdog is not None:
            assert self._watchdog.stdin is not None  # noqa: S101
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None

    # --- parts ---

    def _end_watch(self) -> None:
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None

    def _start_watchdog(self) -> None:
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(watchdog.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )

    def _announce(self, pid: int, alive: bool) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            try:
                self._watchdog.stdin.write(f"{'+' if alive else '-'}{pid}\n")
                self._watchdog.stdin.flush()
            except BrokenPipeError:
                self._say("the watchdog is gone: processes may outlive a killed supervisor")
                self._watchdog = None

    def _launch(self, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            name = child.program.name
            if error.errno == errno.ENOMEM:
                raise StartFailed(
                    f"there is not enough memory to start {name}: close other programs"
                ) from error
            if error.errno == errno.ENOSPC:
                raise StartFailed(
                    f"the disk is full, so {name} has no log: free some space"
                ) from error
            raise StartFailed(f"{name} cannot be started: {error}") from error

    def _await_ready(self, limit: float, limit_seconds: float) -> None:
        while True:
            for child in self._children:
                status = child.exited()
                if status is None:
                    continue
                if status == _WRONG_SETTINGS or child.deaths >= _START_DEATHS:
                    raise StartFailed(self._obituary(child, status))
            self._restart_due()
            # Every child is asked at each look, so that none is first asked late.
            waiting = [child for child in self._children if not child.look()]
            if not waiting:
                return
            if time.monotonic() > limit:
                names = ", ".join(child.program.name for child in waiting)
                raise StartFailed(
                    f"not ready after {limit_seconds:.0f} s: {names}; see the logs in "
                    f"{waiting[0].program.log.parent}"
                )
            time.sleep(_LOOK_SECONDS)

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS * 4):
            for child in self._children:
                status = child.exited()
                if status is not None:
                    delay = max(0.0, child.wait_until - time.monotonic())
                    self._say(f"{self._obituary(child, status)}; starting again in {delay:.1f} s")
                elif not child.is_ready and child.look():
                    self._say(f"{child.program.name} is ready again")
            try:
                self._restart_due()
            except StartFailed as error:
                self._say(str(error))

    def _restart_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.pid is None and now >= child.wait_until:
                # Should the start itself fail, the next try waits too.
                child.wait_until = now + 1.0
                self._launch(child)

    def _obituary(self, child: Child, status: int) -> str:
        words = child.last_words()
        told = f": {words}" if words else ""
        return f"{child.program.name} {why_it_ended(status)}{told} (log: {child.program.log})"

    def _stop_together(self, group: list[Child], limit: float, told: bool = True) -> None:
        for child in group:
            child.terminate()
        left = [child for child in group if child.pid is not None]
        while left and time.monotonic() < limit:
            time.sleep(_LOOK_SECONDS)
            left = [child for child in left if child.exited() is None]
        for child in left:
            if told:
                self._say(f"{child.program.name} did not stop in time and was killed")
            child.kill()
            child.exited()
