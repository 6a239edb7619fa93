"""The three ways to speak: live, plain lines, JSON lines."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from lungmesh.cli.show import JsonLines, Plain, Terminal, choose_show
from lungmesh.v1 import events_pb2
from lungmesh.v1.console_pb2 import StageView, StudyView
from lungmesh.v1.study_pb2 import StudyRef


def stage(name: str, state: int, **figures: Any) -> StageView:
    return StageView(
        stage=name,
        state=state,  # type: ignore[arg-type]
        at=Timestamp(seconds=1),
        **figures,
    )


def view(*stages: StageView) -> StudyView:
    return StudyView(study=StudyRef(study_id="s", revision=1), stages=stages)


def table() -> Table:
    made = Table()
    made.add_column("lobe")
    made.add_row("left lower")
    return made


def test_output_that_is_no_terminal_gets_plain_lines() -> None:
    assert isinstance(choose_show(as_json=False), Plain)
    assert isinstance(choose_show(as_json=True), JsonLines)


def test_json_has_one_object_a_line_each_with_its_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = JsonLines()
    show.note("wall time 3 s", wall_s=3)
    show.sending(1, 2)
    show.study(view(stage("ingest", events_pb2.STAGE_STATE_DONE, fraction=1.0)))
    show.table(table(), "nodules", [{"lobe": "left_lower"}])
    show.error("no", 5)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["note", "stage", "nodules", "error"]
    assert lines[0]["wall_s"] == 3
    assert (lines[1]["stage"], lines[1]["state"]) == ("ingest", "done")
    assert lines[2]["rows"] == [{"lobe": "left_lower"}]
    assert lines[3]["exit_status"] == 5


def test_json_repeats_no_stage_that_did_not_change(capsys: pytest.CaptureFixture[str]) -> None:
    show = JsonLines()
    same = stage("detection", events_pb2.STAGE_STATE_RUNNING, fraction=0.5)
    show.study(view(same))
    show.study(view(same, stage("report", events_pb2.STAGE_STATE_STARTED)))
    told = [json.loads(line)["stage"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["detection", "report"]


def test_plain_prints_a_line_a_change_of_state(capsys: pytest.CaptureFixture[str]) -> None:
    show = Plain()
    show.study(view(stage("detection", events_pb2.STAGE_STATE_STARTED)))
    for fraction in (0.2, 0.8):
        show.study(view(stage("detection", events_pb2.STAGE_STATE_RUNNING, fraction=fraction)))
    show.study(view(stage("detection", events_pb2.STAGE_STATE_DONE, handler_seconds=4.25)))
    assert capsys.readouterr().out.splitlines() == [
        "detection   started",
        "detection   done     4.2 s",
    ]


def test_plain_says_done_together_with_the_time_or_at_the_end_without(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = Plain()
    show.study(view(stage("report", events_pb2.STAGE_STATE_DONE)))
    show.study(view(stage("mdt", events_pb2.STAGE_STATE_DONE)))
    assert capsys.readouterr().out == ""
    show.study(view(stage("report", events_pb2.STAGE_STATE_DONE, handler_seconds=2.0)))
    show.settle()
    show.settle()
    assert capsys.readouterr().out.splitlines() == [
        "report      done     2.0 s",
        "mdt         done",
    ]


def test_plain_errors_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Plain().error("the disk is full", 6)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "lungmesh: the disk is full\n")


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def terminal(screen: io.StringIO) -> Terminal:
    return Terminal(Console(file=screen, force_terminal=True, width=100, color_system=None))


def last_picture(screen: io.StringIO) -> list[str]:
    """Return the stages as they were drawn last, a line each."""
    lines = [line.strip() for line in screen.getvalue().replace("\r", "\n").splitlines()]
    starts = [index for index, line in enumerate(lines) if "ingest " in line]
    return lines[starts[-1] : starts[-1] + 7]


def test_the_live_picture_has_every_stage_also_those_to_come(
    terminal: Terminal, screen: io.StringIO
) -> None:
    terminal.study(
        view(
            stage("ingest", events_pb2.STAGE_STATE_DONE, fraction=1.0, handler_seconds=1.0),
            stage("preprocess", events_pb2.STAGE_STATE_RUNNING, fraction=0.5, detail="lobes"),
        )
    )
    terminal.settle()
    lines = last_picture(screen)
    names = ("ingest", "preprocess", "detection", "malignancy", "followup", "report", "mdt")
    assert all(name in line for name, line in zip(names, lines, strict=True))
    assert "done" in lines[0]
    assert "1.0 s" in lines[0]
    assert "running" in lines[1]
    assert "lobes" in lines[1]
    assert "waiting" in lines[2]


def test_sending_moves_the_bar_of_ingest(terminal: Terminal, screen: io.StringIO) -> None:
    terminal.sending(40, 133)
    terminal.settle()
    assert "40 of 133 instances" in last_picture(screen)[0]


def test_a_settled_picture_is_not_drawn_again_for_the_next_study(
    terminal: Terminal, screen: io.StringIO
) -> None:
    terminal.study(view(stage("report", events_pb2.STAGE_STATE_FAILED, detail="broken")))
    terminal.settle()
    terminal.sending(1, 2)
    terminal.settle()
    assert not any("broken" in line for line in last_picture(screen))
