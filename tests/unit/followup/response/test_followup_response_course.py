"""The worked patients of `patients.yaml`, and what holds for every patient."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.followup.response import ExamLesions, Lesion, assess
from lungmesh.followup.response.lesions import choose

PATIENTS = yaml.safe_load(Path(__file__).with_name("patients.yaml").read_text(encoding="utf-8"))
BALL = 0.5236
START = date(2026, 1, 5)


def lesion(name: str, size: Any) -> Lesion:
    uid, _, related = name.partition(">")
    organ, _, _ = uid.rpartition("/")
    long, short, *volume = size if isinstance(size, list) else (size, size)
    return Lesion(
        tracking_uid=uid,
        long_axis_mm=long,
        short_axis_mm=short,
        volume_mm3=volume[0] if volume else BALL * (long or 4.0) ** 3,
        organ=organ or "lung",
        node=organ == "node",
        related_uids=(related,) if related else (),
    )


def exam(day: int, lesions: dict[str, Any], missing: Any = (), slices: float = 1.0) -> ExamLesions:
    return ExamLesions(
        study_id=f"study-{day}",
        study_date=(START + timedelta(days=day)).strftime("%Y%m%d"),
        lesions=tuple(lesion(name, size) for name, size in lesions.items()),
        not_evaluated=frozenset(missing),
        slice_thickness_mm=slices,
    )


@pytest.mark.parametrize("patient", PATIENTS, ids=lambda patient: patient["name"])
def test_worked_patient(patient: dict[str, Any]) -> None:
    exams = [
        exam(row["day"], row["lesions"], row.get("missing", ()), patient.get("slices", 1.0))
        for row in patient["exams"]
    ]
    assert patient["source"]
    results = assess(exams)
    assert [size.tracking_uid for size in results[0].targets] == patient["targets"]
    for row, result in zip(patient["exams"], results, strict=True):
        assert result.sum_mm == pytest.approx(row["sum"])
        assert result.recist == row.get("recist", "BASELINE"), result.row
        assert result.irecist == row.get("irecist", "BASELINE"), result.row
        for key, value in (
            ("new", result.new_lesions),
            ("best", result.best),
            ("smallest", result.smallest_sum_mm),
        ):
            assert row.get(key, value) == value


def test_changes_are_told_from_the_baseline_and_from_the_smallest_sum_with_the_volume_beside() -> (
    None
):
    *_, last = assess(
        [
            exam(0, {"a": [40, 40, 1000.0], "b": [20, 20, 500.0]}),
            exam(60, {"a": [20, 20, 300.0], "b": [10, 10, 100.0]}),
            exam(120, {"a": [24, 24, 450.0], "b": [9, 9, 75.0]}),
        ]
    )
    assert last.from_baseline_percent == pytest.approx(-45)
    assert last.from_smallest_percent == pytest.approx(10)
    assert last.volume_from_baseline_percent == pytest.approx(-65)
    assert [(size.tracking_uid, size.long_axis_mm) for size in last.targets] == [
        ("a", 24),
        ("b", 9),
    ]


def test_the_row_names_the_table_and_the_reason_of_irecist() -> None:
    *_, last = assess([exam(0, {"a": 50}), exam(60, {"a": 62}), exam(95, {"a": 67})])
    assert last.row == (
        "RECIST 1.1: progression stands; iRECIST: confirmed by targets (sum +5.0 mm)"
    )
    *_, late = assess([exam(0, {"a": 50}), exam(60, {"a": 62}), exam(160, {"a": 67})])
    assert late.row.endswith("(sum +5.0 mm), 100 days after it was first seen")


def test_at_most_five_targets_every_organ_s_largest_first() -> None:
    sizes = {
        **{f"lung/{name}": 60 - i for i, name in enumerate("abc")},
        **{f"liver/{name}": 40 - i for i, name in enumerate("abc")},
        "bone/a": 12,
        "adrenal/a": 11,
    }
    chosen = choose(exam(0, sizes))
    assert chosen.targets == ("lung/a", "lung/b", "liver/a", "bone/a", "adrenal/a")
    assert chosen.non_targets == ("lung/c", "liver/b", "liver/c")


@pytest.mark.parametrize(
    ("node", "slices", "size", "is_target"),
    [
        (False, 1.0, 10.0, True),
        (False, 1.0, 9.9, False),
        (False, 5.0, 10.0, True),
        (False, 6.0, 11.9, False),
        (False, 6.0, 12.0, True),
        (True, 1.0, 15.0, True),
        (True, 1.0, 14.9, False),
    ],
)
def test_what_is_measurable(node: bool, slices: float, size: float, is_target: bool) -> None:
    name = "node/n" if node else "a"
    chosen = choose(exam(0, {name: [size, size]}, slices=slices))
    assert (name in chosen.targets) == is_target
    assert (name in chosen.non_targets) != is_target


@pytest.mark.parametrize("dates", [("20260101", ""), ("20260101", "20260101")])
def test_exams_without_order_are_refused(dates: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="date"):
        assess([ExamLesions(f"s{i}", day, ()) for i, day in enumerate(dates)])


def test_no_lesions_at_all_cannot_be_evaluated() -> None:
    assert [r.recist for r in assess([exam(0, {}), exam(60, {})])] == ["BASELINE", "NE"]
    assert assess([]) == []


sizes = st.dictionaries(
    st.sampled_from("abcd"), st.one_of(st.none(), st.floats(2, 80)), min_size=0, max_size=4
)


@given(st.lists(sizes, min_size=2, max_size=6), st.integers(20, 90))
def test_every_course_has_an_answer_and_progression_is_final(
    courses: list[dict[str, float | None]], wait: int
) -> None:
    results = assess([exam(wait * i, lesions) for i, lesions in enumerate(courses)])
    recist = [result.recist for result in results[1:]]
    assert set(recist) <= {"CR", "PR", "SD", "PD", "NE", "non-CR/non-PD"}
    if "PD" in recist:
        first = recist.index("PD")
        assert set(recist[first:]) == {"PD"}
        assert results[1 + first].irecist in ("iUPD", "iCPD")
        assert not any(r.irecist in ("iUPD", "iCPD") for r in results[1 : 1 + first])
    confirmed = [i for i, result in enumerate(results) if result.irecist == "iCPD"]
    if confirmed:
        assert "iUPD" in [result.irecist for result in results[: confirmed[0]]]
        assert confirmed == list(range(confirmed[0], len(results)))


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(10, 80), min_size=1), st.floats(1, 3))
def test_shrinking_is_never_progression_and_growing_never_response(
    lesions: dict[str, float], factor: float
) -> None:
    smaller = {name: mm / factor for name, mm in lesions.items()}
    down = assess([exam(0, lesions), exam(60, smaller)])[1]
    up = assess([exam(0, smaller), exam(60, lesions)])[1]
    assert down.recist != "PD"
    assert up.recist not in ("CR", "PR")
