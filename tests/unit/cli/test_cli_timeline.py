"""A patient's nodules through all exams as the command line shows them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from lungmesh.cli.correct import find_nodule, type_of
from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.programme import day
from lungmesh.cli.show import JsonLines, Plain, Terminal
from lungmesh.cli.timeline import dated, show_timeline
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import nodule_pb2, volume_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated, NextExam, PriorExam
from lungmesh.v1.nodule_pb2 import Category, Measurement, Nodule, PriorMatch, Tracking

GUIDELINE = volume_pb2.ModelVersion(name="C-Lung-RADS", version="2024")


def exam(date: str, *nodules: Nodule) -> FollowupUpdated:
    made = FollowupUpdated(nodules=nodules, next=NextExam(guideline=GUIDELINE, due_date="20230101"))
    made.study.study_id = deterministic_id("exam", date)
    made.exam.volume.acquisition.study_date = date
    return made


def nodule(number: int, uid: str, volume: float, date: str, *priors: PriorMatch) -> Nodule:
    return Nodule(
        nodule_id=deterministic_id("nodule", uid, date),
        number=number,
        measurement=Measurement(mean_diameter_mm=8.04, volume_mm3=volume),
        type=nodule_pb2.NODULE_TYPE_PART_SOLID,
        lobe=nodule_pb2.LOBE_LEFT_LOWER,
        tracking=Tracking(tracking_uid=uid, growth=nodule_pb2.GROWTH_CLASS_GROWING, priors=priors),
        categories=[Category(guideline=GUIDELINE, category="3")],
    )


def match(date: str, change: float, **more: float) -> PriorMatch:
    return PriorMatch(
        study_id=deterministic_id("exam", date),
        volume_change_percent=change,
        volume_error_percent=25,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def exams() -> list[FollowupUpdated]:
    """Nodule 1.1 grows, then splits; 1.2 is gone in the second exam; 1.3 is new in the third."""
    first = exam("20200101", nodule(1, "1.2", 90, "20200101"), nodule(2, "1.1", 100, "20200101"))
    grown = match(
        "20200101", 100.4, volume_doubling_time_days=365.3, volume_doubling_time_low_days=250,
        volume_doubling_time_high_days=700, growth_probability=0.9996,
    )  # fmt: skip
    second = exam("20210101", nodule(1, "1.1", 200, "20210101", grown))
    second.priors.append(
        PriorExam(
            study_id=first.study.study_id,
            resolved_nodule_ids=[deterministic_id("nodule", "1.2", "20200101")],
            warnings=["slice_thickness"],
        )
    )
    unsure = match(
        "20210101", 5.0, volume_doubling_time_days=5000, volume_doubling_time_low_days=900,
        growth_probability=0.6,
    )  # fmt: skip
    third = exam(
        "20220101",
        nodule(1, "1.3", 50, "20220101"),
        # Against the exam before the last, the last being listed second.
        nodule(2, "1.1", 210, "20220101", match("20200101", 110.0), unsure),
    )
    third.nodules[1].tracking.outcome = nodule_pb2.MATCH_OUTCOME_SPLIT
    return [first, second, third]


def printed(exams: list[FollowupUpdated]) -> list[list[str]]:
    """Return the table's cells, a list a line, on a screen that breaks none of them."""
    screen = io.StringIO()
    show_timeline(exams, Terminal(Console(file=screen, width=200, color_system=None)))
    lines = screen.getvalue().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_each_row_has_the_change_against_the_exam_before(
    exams: list[FollowupUpdated],
) -> None:
    new, *course, _, _ = printed(exams)
    assert new[:3] == ["1", "left lower part solid", "2022-01-01"]
    assert [cells[:2] for cells in course] == [["2", "left lower part solid"], ["", ""], ["", ""]]
    assert [cells[2:] for cells in course] == [
        ["2020-01-01", "8.0", "100", "", "", "", "growing", "3"],
        ["2021-01-01", "8.0", "200", "+100 %", "365 (250 – 700)", "> 99 %", "growing", "3"],
        ["2022-01-01", "8.0", "210", "+5 %", "5000 (900 – ∞)", "60 %", "growing, split", "3"],
    ]


def test_a_new_nodule_that_an_earlier_exam_seems_to_show_says_so(
    exams: list[FollowupUpdated],
) -> None:
    exams[2].nodules[0].tracking.shown_earlier = True
    assert printed(exams)[0][8].endswith("? seen earlier")


def test_a_nodule_that_is_gone_says_so_in_the_first_exam_that_tells(
    exams: list[FollowupUpdated],
) -> None:
    last = printed(exams)[-1]
    assert (last[0], last[2], last[8]) == ("", "2021-01-01", "resolved")


def test_unlike_exams_are_named(
    exams: list[FollowupUpdated], capsys: pytest.CaptureFixture[str]
) -> None:
    show_timeline(exams, Plain())
    said = " ".join(capsys.readouterr().out.split())
    assert "2021-01-01 and 2020-01-01 are unlike in slice thickness" in said


def test_machines_get_every_row_with_its_ids(
    exams: list[FollowupUpdated], capsys: pytest.CaptureFixture[str]
) -> None:
    show_timeline(exams, JsonLines())
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[0])
    rows = told["rows"]
    assert [row["tracking_uid"] for row in rows] == ["1.3", "1.1", "1.1", "1.1", "1.2", "1.2"]
    assert rows[3]["volume_change_percent"] == 5.0
    assert rows[3]["volume_doubling_time_high_days"] is None
    assert rows[5]["fate"] == "resolved"


def test_a_patient_without_nodules_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    show_timeline([exam("20200101")], Plain())
    assert capsys.readouterr().out == "no nodule in any exam\n"


@pytest.mark.parametrize("name", ["2021-01-01/1", "20210101/1"])
def test_a_nodule_is_found_by_date_and_number(exams: list[FollowupUpdated], name: str) -> None:
    assert find_nodule(exams, name).nodule_id == exams[1].nodules[0].nodule_id


def test_a_nodule_is_found_by_ids_and_a_rejected_one_too(exams: list[FollowupUpdated]) -> None:
    lost = exams[2].nodules[0]
    exams[2].rejected.append(lost)
    del exams[2].nodules[0]
    found = find_nodule(exams, f"{exams[2].study.study_id}/{exams[2].rejected[0].nodule_id}")
    assert found.nodule_id == exams[2].rejected[0].nodule_id
    assert found.study_id == exams[2].study.study_id


@pytest.mark.parametrize(
    ("name", "reason"),
    [("2021-01-01/7", "the exam has 1"), ("2019-01-01/1", "names no exam"), ("1", "names no exam")],
)
def test_what_names_no_nodule_is_told_with_what_there_is(
    exams: list[FollowupUpdated], name: str, reason: str
) -> None:
    with pytest.raises(CommandError, match=reason) as error:
        find_nodule(exams, name)
    assert error.value.exit_status == Exit.USAGE


def test_a_date_of_two_exams_must_be_told_apart(exams: list[FollowupUpdated]) -> None:
    with pytest.raises(CommandError, match="give its study id"):
        find_nodule([*exams, exam("20210101")], "20210101/1")


def test_types_have_their_usual_names() -> None:
    assert type_of("part-solid") == nodule_pb2.NODULE_TYPE_PART_SOLID
    assert type_of("non_solid") == nodule_pb2.NODULE_TYPE_NON_SOLID
    with pytest.raises(CommandError, match="part-solid"):
        type_of("unspecified")


def test_days_are_read_and_written() -> None:
    assert (day("2026-11-24"), day("20261124")) == ("20261124", "20261124")
    assert (dated("20261124"), dated("")) == ("2026-11-24", "?")
    for wrong in ("2026-13-01", "24.11.2026", ""):
        with pytest.raises(CommandError, match="YYYY-MM-DD"):
            day(wrong)
