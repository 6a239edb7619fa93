"""The error of measurement: the published figures that it was made from, and their order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.followup.growth import change
from lungmesh.followup.measurement_error import (
    Measured,
    difference_sd,
    repeat_sd,
    solid_volume_sd,
    volume_sd,
)
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import NoduleType

BALL = math.pi / 6
NON_SOLID = nodule_pb2.NODULE_TYPE_NON_SOLID
PART_SOLID = nodule_pb2.NODULE_TYPE_PART_SOLID
SOLID = nodule_pb2.NODULE_TYPE_SOLID
# So thin against the nodule that sampling adds nothing.
FINE = 0.01


def nodule(
    mm: float, thickness: float = 1.0, kind: NoduleType.ValueType = SOLID, *signs: str
) -> Measured:
    return Measured(
        mean_diameter_mm=mm,
        volume_mm3=BALL * mm**3,
        type=kind,
        slice_thickness_mm=thickness,
        spacing_mm=(min(0.7, thickness),) * 3,
        signs=frozenset(signs),
    )


def error_percent(measured: Measured, *warnings: str) -> float:
    return change(measured, measured, 90, warnings).volume_error_percent


def test_thin_slices_of_a_solid_nodule_repeat_within_25_percent() -> None:
    assert error_percent(nodule(10, FINE)) == pytest.approx(25, abs=0.01)
    assert error_percent(nodule(8)) == pytest.approx(27, abs=1)


def test_subsolid_diameters_repeat_within_14_percent_and_solid_parts_within_27() -> None:
    subsolid = nodule(10, FINE, NON_SOLID)
    limit = (1 + error_percent(subsolid) / 100) ** (1 / 3)
    assert limit == pytest.approx(1.144, abs=0.0005)
    part = replace(nodule(20, FINE, PART_SOLID), solid_mean_diameter_mm=10.0)
    assert solid_volume_sd(part) == pytest.approx(repeat_sd(100 * (1.271**3 - 1)))


@pytest.mark.parametrize(("thickness", "sd_mm"), [(0.75, 0.07), (5.0, 0.99)])
def test_a_ball_of_5_mm_varies_with_its_place_between_slices_as_was_simulated(
    thickness: float, sd_mm: float
) -> None:
    whole, fine = volume_sd(nodule(5, thickness)), volume_sd(nodule(5, FINE))
    assert math.sqrt(whole**2 - fine**2) * 5 / 3 == pytest.approx(sd_mm, rel=0.01)


def test_an_unclear_margin_differs_by_more_than_10_percent_in_16_of_47() -> None:
    clear, unclear = nodule(8, FINE), nodule(8, FINE, SOLID, "spiculation")
    added = math.sqrt(difference_sd(unclear, unclear) ** 2 - difference_sd(clear, clear) ** 2)
    tail = math.erfc(math.log(1.10) / added / math.sqrt(2))
    assert tail == pytest.approx(16 / 47, abs=1e-4)


@pytest.mark.parametrize("code", ["contrast", "kernel", "lung_volume"])
def test_unlike_exams_have_a_wider_error(code: str) -> None:
    assert error_percent(nodule(8), code) > error_percent(nodule(8))
    assert error_percent(nodule(8), code, "slice_thickness") == error_percent(nodule(8), code)


def test_without_a_slice_thickness_the_spacing_speaks() -> None:
    unknown = replace(nodule(6), slice_thickness_mm=None, spacing_mm=(0.7, 0.7, 2.5))
    assert volume_sd(unknown) == volume_sd(nodule(6, 2.5))


@given(
    mm=st.floats(3, 30),
    larger=st.floats(1, 3),
    thickness=st.floats(0.5, 5),
    thicker=st.floats(1, 3),
)
def test_the_error_grows_with_the_slice_and_falls_with_the_size_and_never_is_below_25_percent(
    mm: float, larger: float, thickness: float, thicker: float
) -> None:
    error = error_percent(nodule(mm, thickness))
    assert error >= 25
    assert error_percent(nodule(mm * larger, thickness)) <= error + 1e-9
    assert error_percent(nodule(mm, thickness * thicker)) >= error - 1e-9
    for wider in (
        nodule(mm, thickness, PART_SOLID),
        nodule(mm, thickness, SOLID, "juxtapleural"),
    ):
        assert error_percent(wider) > error
