"""How the commands speak: live on a terminal, plain lines when piped, JSON lines for machines."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lungmesh.v1 import events_pb2
from lungmesh.v1.console_pb2 import StageView, StudyView

STATE_WORDS = {
    events_pb2.STAGE_STATE_UNSPECIFIED: "waiting",
    events_pb2.STAGE_STATE_STARTED: "started",
    events_pb2.STAGE_STATE_RUNNING: "running",
    events_pb2.STAGE_STATE_RETRYING: "retrying",
    events_pb2.STAGE_STATE_DONE: "done",
    events_pb2.STAGE_STATE_FAILED: "failed",
}
_COLOURS = {"done": "green", "failed": "red", "retrying": "yellow", "waiting": "dim"}
_WORKING = ("started", "running")
# The way of a study; a row each, also before it is reached.
_SHOWN = ("ingest", "preprocess", "detection", "malignancy", "followup", "report", "mdt")
_PIPED_WIDTH = 120


class Show(Protocol):
    """Where a command's words go."""

    def note(self, text: str, **facts: Any) -> None:
        """Say a sentence; `facts` are its figures for machines."""

    def sending(self, done: int, total: int) -> None:
        """Show how many instances the listener has answered for."""

    def study(self, view: StudyView) -> None:
        """Show where a study is now."""

    def table(self, table: Table, kind: str, rows: list[dict[str, Any]]) -> None:
        """Show a table to people, its rows to machines."""

    def error(self, text: str, exit_status: int) -> None:
        """Say why the command fails."""

    def settle(self) -> None:
        """End live output, so that what follows stands below it."""


def choose_show(as_json: bool) -> Show:
    """Return the way to speak that fits standard output."""
    if as_json:
        return JsonLines()
    return Terminal() if sys.stdout.isatty() else Plain()


class JsonLines:
    """One JSON object a line, each with `event`."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], dict[str, Any]] = {}

    def write(self, event: str, **facts: Any) -> None:
        """Write one object."""
        print(json.dumps({"event": event, **facts}, ensure_ascii=False), flush=True)

    def note(self, text: str, **facts: Any) -> None:
        """Write `note`."""
        self.write("note", text=text, **facts)

    def sending(self, done: int, total: int) -> None:
        """Machines get the sum at the end."""

    def study(self, view: StudyView) -> None:
        """Write `stage` for each stage that changed."""
        for stage in view.stages:
            facts = {
                "study_id": view.study.study_id,
                "revision": view.study.revision,
                "stage": stage.stage,
                "state": STATE_WORDS[stage.state],
                "fraction": round(stage.fraction, 3),
                "detail": stage.detail,
                "handler_s": round(stage.handler_seconds, 3),
                "queue_s": round(stage.queue_seconds, 3),
            }
            key = (view.study.study_id, stage.stage)
            if self._told.get(key) != facts:
                self._told[key] = facts
                self.write("stage", **facts)

    def table(self, table: Table, kind: str, rows: list[dict[str, Any]]) -> None:
        """Write the rows in one object."""
        self.write(kind, rows=rows)

    def error(self, text: str, exit_status: int) -> None:
        """Write `error`."""
        self.write("error", text=text, exit_status=int(exit_status))

    def settle(self) -> None:
        """Nothing is live."""


class Plain:
    """A line for each change of a stage's state."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], str] = {}
        # Stages that are done and have not told their time yet.
        self._untimed: dict[tuple[str, str], StageView] = {}

    def note(self, text: str, **facts: Any) -> None:
        """Print it."""
        print(text, flush=True)

    def sending(self, done: int, total: int) -> None:
        """A line at the end says it all."""

    def study(self, view: StudyView) -> None:
        """Print stages whose state changed; the end of one together with its time."""
        for stage in view.stages:
            word = STATE_WORDS[stage.state]
            key = (view.study.study_id, stage.stage)
            if self._told.get(key) == word or word == "running":
                continue
            if word == "done" and not stage.handler_seconds:
                self._untimed[key] = stage
                continue
            self._untimed.pop(key, None)
            self._told[key] = word
            self._print(stage)

    def table(self, table: Table, kind: str, rows: list[dict[str, Any]]) -> None:
        """Print it."""
        Console(width=_PIPED_WIDTH).print(table)
        sys.stdout.flush()

    def error(self, text: str, exit_status: int) -> None:
        """Print it to standard error."""
        print(f"lungmesh: {text}", file=sys.stderr, flush=True)

    def settle(self) -> None:
        """Print the stages that never told their time."""
        for key, stage in self._untimed.items():
            self._told[key] = STATE_WORDS[stage.state]
            self._print(stage)
        self._untimed.clear()

    @staticmethod
    def _print(stage: StageView) -> None:
        word = STATE_WORDS[stage.state]
        figures = "  ".join(part for part in (_seconds(stage), stage.detail) if part)
        print(f"{stage.stage:<11} {word:<9}{figures}".rstrip(), flush=True)


class Terminal:
    """The stages of the study at hand, moving while they work."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live: Live | None = None
        self._forget()

    def note(self, text: str, **facts: Any) -> None:
        """Print it above the moving table."""
        self._console.print(Text(text))

    def sending(self, done: int, total: int) -> None:
        """Move the bar of ingest."""
        state = events_pb2.STAGE_STATE_RUNNING
        self._sending = StageView(
            stage="ingest",
            state=state,
            fraction=done / total,
            detail=f"{done} of {total} instances",
        )
        self._move()

    def study(self, view: StudyView) -> None:
        """Move the bars of the stages."""
        self._view = view
        self._move()

    def table(self, table: Table, kind: str, rows: list[dict[str, Any]]) -> None:
        """Print it."""
        self.settle()
        self._console.print(table)

    def error(self, text: str, exit_status: int) -> None:
        """Print it to standard error, in red."""
        self.settle()
        Console(stderr=True).print(Text(f"lungmesh: {text}", style="red"))

    def settle(self) -> None:
        """Leave the last picture standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._forget()

    def _forget(self) -> None:
        self._view = StudyView()
        self._sending = StageView(stage="ingest")
        self._began: dict[str, float] = {}

    def _move(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console, get_renderable=self._picture, refresh_per_second=8
            )
            self._live.start()

    def _picture(self) -> Table:
        """Draw the stages, those that have not begun too."""
        known = {"ingest": self._sending, **{stage.stage: stage for stage in self._view.stages}}
        names = [*_SHOWN, *(name for name in known if name not in _SHOWN)]
        table = Table(box=None, show_header=False, pad_edge=False)
        for name in names:
            stage = known.get(name, StageView(stage=name))
            word = STATE_WORDS[stage.state]
            table.add_row(
                name,
                ProgressBar(total=1.0, completed=stage.fraction, width=24),
                Text(word, style=_COLOURS.get(word, "cyan")),
                Text(self._seconds(stage, word), justify="right"),
                Text(stage.detail, style="red" if word == "failed" else "dim"),
            )
        return table

    def _seconds(self, stage: StageView, word: str) -> str:
        """Return the handler's seconds; while it works, those since we first saw it work."""
        if stage.handler_seconds or word not in _WORKING:
            return _seconds(stage)
        began = self._began.setdefault(stage.stage, time.monotonic())
        return f"{time.monotonic() - began:.1f} s"


def _seconds(stage: StageView) -> str:
    if not stage.handler_seconds:
        return ""
    return f"{stage.handler_seconds:.1f} s" if stage.handler_seconds >= 0.1 else "< 0.1 s"


def words(name: str) -> str:
    """Return a name of the summary, such as left_lower, as people write it."""
    return name.replace("_", " ")
