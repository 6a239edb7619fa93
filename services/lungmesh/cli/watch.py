"""`lungmesh watch`: the worklist, live."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lungmesh.cli.client import MeshClient
from lungmesh.cli.show import STATE_WORDS, JsonLines
from lungmesh.cli.up import the_running_mesh
from lungmesh.mesh.contract import name_of
from lungmesh.v1 import events_pb2
from lungmesh.v1.console_pb2 import StudyOutcome, StudyView

_ROWS = 40


def watch_studies(data: Path, as_json: bool) -> None:
    """Show each study of the running mesh and every change, until Ctrl-C."""
    views = MeshClient(the_running_mesh(data)).watch()
    console = Console()
    if as_json:
        lines = JsonLines()
        for view in views:
            lines.write("study", **_facts(view))
        return
    if not console.is_terminal:
        for view in views:
            print(_line(view), flush=True)
        return
    known: dict[str, StudyView] = {}
    with Live(console=console, refresh_per_second=4) as live:
        for view in views:
            known[view.study.study_id] = view
            live.update(_worklist(list(known.values())[-_ROWS:]))


def _worklist(views: list[StudyView]) -> Table:
    table = Table(title="studies", title_justify="left")
    for name in ("study", "revision", "outcome", "now", "category", "reason"):
        table.add_column(name)
    for view in views:
        table.add_row(
            view.study.study_id[:8],
            str(view.study.revision),
            _outcome(view).replace("_", " "),
            _now(view),
            view.category,
            view.reason,
        )
    return table


def _line(view: StudyView) -> str:
    words = (view.study.study_id, f"r{view.study.revision}", _outcome(view), _now(view))
    return "  ".join(word for word in (*words, view.category, view.reason) if word)


def _facts(view: StudyView) -> dict[str, object]:
    return {
        "study_id": view.study.study_id,
        "revision": view.study.revision,
        "outcome": _outcome(view),
        "category": view.category,
        "reason": view.reason,
        "stages": {stage.stage: STATE_WORDS[stage.state] for stage in view.stages},
    }


def _outcome(view: StudyView) -> str:
    return name_of(StudyOutcome.DESCRIPTOR, view.outcome)


def _now(view: StudyView) -> str:
    return ", ".join(
        f"{stage.stage} {STATE_WORDS[stage.state]}"
        + (f" {stage.fraction:.0%}" if stage.state == events_pb2.STAGE_STATE_RUNNING else "")
        for stage in view.stages
        if stage.state != events_pb2.STAGE_STATE_DONE
    )
