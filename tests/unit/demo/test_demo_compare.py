"""The demo's result beside the readers' nodule."""

from __future__ import annotations

from typing import Any

import pytest

from lungmesh.demo.case import CaseTruth
from lungmesh.demo.compare import compare
from lungmesh.v1.nodule_pb2 import LOBE_LEFT_LOWER

TRUTH = CaseTruth(
    center_lps_mm=(50.0, 80.0, -100.0),
    mean_diameter_mm=20.0,
    lobe=LOBE_LEFT_LOWER,
    source="readers",
    citation="paper",
    patient_id="P",
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
)


def nodule(number: int, x: float, score: float, mean_diameter_mm: float = 20.0) -> dict[str, Any]:
    return {
        "number": number,
        "center_lps_mm": [x, 80.0, -100.0],
        "mean_diameter_mm": mean_diameter_mm,
        "lobe": "left_lower",
        "detection_score": score,
    }


def test_the_nearest_nodule_is_compared_and_those_with_a_higher_score_are_false() -> None:
    found = compare([nodule(1, 0, 0.9), nodule(2, 53, 0.5), nodule(3, 90, 0.4)], TRUTH)
    assert (found.number, found.distance_mm, found.candidates, found.above) == (2, 3.0, 3, 1)
    assert found.found
    assert found.lobe == found.readers_lobe


@pytest.mark.parametrize(("x", "found"), [(55.0, True), (55.1, False)])
def test_more_than_5_mm_off_is_a_miss(x: float, found: bool) -> None:
    assert compare([nodule(1, x, 0.9)], TRUTH).found is found


@pytest.mark.parametrize(("mm", "well"), [(15.0, True), (14.9, False), (25.0, True), (25.1, False)])
def test_a_mean_diameter_more_than_a_quarter_off_is_mis_measured(mm: float, well: bool) -> None:
    assert compare([nodule(1, 50, 0.9, mm)], TRUTH).well_measured is well


def test_a_report_without_nodules_is_a_miss() -> None:
    missed = compare([], TRUTH)
    assert not missed.found
    assert (missed.number, missed.candidates, missed.above) == (None, 0, 0)
