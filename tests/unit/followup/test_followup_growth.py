"""Volume doubling time and growth classes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.followup.growth import (
    Size,
    classify,
    doubled_within_a_year,
    volume_change_percent,
    volume_doubling_time_days,
)
from lungmesh.v1 import nodule_pb2

BALL = 0.5236


def size(mm: float, days: float = 0, solid: float = 0.0) -> Size:
    return Size(mm, BALL * mm**3, solid, days)


@pytest.mark.parametrize(
    ("v1", "v2", "days", "vdt"),
    [
        (100, 200, 100, 100.00),
        (150, 180, 365, 1387.65),
        (300, 250, 180, -684.32),
        (65.45, 113.1, 90, 114.05),
    ],
)
def test_the_vectors_of_the_volume_doubling_time_hold(
    v1: float, v2: float, days: float, vdt: float
) -> None:
    assert volume_doubling_time_days(v1, v2, days) == pytest.approx(vdt, abs=0.005)


def test_equal_volumes_or_no_days_have_no_doubling_time() -> None:
    assert volume_doubling_time_days(100, 100, 90) is None
    assert volume_doubling_time_days(100, 200, 0) is None


def test_a_change_of_20_percent_counts_as_stable() -> None:
    assert volume_change_percent(150, 180) == pytest.approx(20)
    now = Size(7.0, 180.0)
    assert classify(now, [Size(5.0, 150.0, 0, 365)], False) == nodule_pb2.GROWTH_CLASS_STABLE


@pytest.mark.parametrize(
    ("now", "earlier", "expected"),
    [
        (7.6, [(6.0, 300)], nodule_pb2.GROWTH_CLASS_GROWING),
        (7.5, [(6.0, 300)], nodule_pb2.GROWTH_CLASS_STABLE),
        # 2 mm in two years are 1 mm a year: slow, but not stable.
        (8.0, [(6.0, 730)], nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING),
        (7.5, [(6.0, 730)], nodule_pb2.GROWTH_CLASS_STABLE),
        (9.2, [(6.0, 730)], nodule_pb2.GROWTH_CLASS_GROWING),
        # Never more than 1.5 mm in 12 months, but over several exams.
        (8.0, [(7.0, 365), (6.0, 730)], nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING),
        (6.0, [(8.0, 180)], nodule_pb2.GROWTH_CLASS_SHRINKING),
    ],
)
def test_growth_is_more_than_one_and_a_half_mm_in_twelve_months(
    now: float, earlier: list[tuple[float, float]], expected: int
) -> None:
    assert classify(size(now), [size(mm, days) for mm, days in earlier], False) == expected


def test_a_solid_part_that_grows_makes_a_part_solid_nodule_grow() -> None:
    now, then = size(12, solid=6), size(12, 200, solid=3)
    assert classify(now, [then], True) == nodule_pb2.GROWTH_CLASS_GROWING
    assert classify(now, [then], False) == nodule_pb2.GROWTH_CLASS_STABLE


@pytest.mark.parametrize(
    ("now", "then", "days", "doubled"),
    [
        (200.0, 100.0, 365, True),
        (199.0, 100.0, 365, False),
        (200.0, 100.0, 400, False),
        # Four times as large in two years: twice in each of them.
        (400.0, 100.0, 730, True),
        # On the way to doubling is not doubled.
        (150.0, 100.0, 90, False),
    ],
)
def test_doubled_within_a_year_is_measured_not_extrapolated(
    now: float, then: float, days: float, doubled: bool
) -> None:
    assert doubled_within_a_year(Size(9, now), [Size(9, then, 0, days)]) == doubled


@given(v1=st.floats(10, 10_000), v2=st.floats(10, 10_000), days=st.floats(1, 3000))
def test_after_its_doubling_time_the_volume_has_doubled(v1: float, v2: float, days: float) -> None:
    vdt = volume_doubling_time_days(v1, v2, days)
    if vdt is not None:
        assert v1 * 2 ** (days / vdt) == pytest.approx(v2, rel=1e-6)
