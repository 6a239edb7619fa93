"""Doubling times, growth classes, and growth through several exams."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.followup.growth import (
    MEASUREMENT_ERROR_PERCENT,
    TREND_PROBABILITY,
    Earlier,
    change,
    classify,
    doubled_within_a_year,
    solid_trend,
    trend,
    volume_change_percent,
    volume_doubling_time_days,
)
from lungmesh.followup.measurement_error import Measured, volume_sd
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import NoduleType

BALL = math.pi / 6
THIN = (0.7, 0.7, 0.7)
PART_SOLID = nodule_pb2.NODULE_TYPE_PART_SOLID
RANK = {
    nodule_pb2.GROWTH_CLASS_SHRINKING: 0,
    nodule_pb2.GROWTH_CLASS_STABLE: 1,
    nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING: 2,
    nodule_pb2.GROWTH_CLASS_GROWING: 3,
}
diameters = st.floats(3, 30)


def size(
    mm: float,
    solid: float = 0.0,
    kind: NoduleType.ValueType = nodule_pb2.NODULE_TYPE_SOLID,
    mean_hu: float = 0.0,
) -> Measured:
    volume = BALL * mm**3
    return Measured(
        mean_diameter_mm=mm,
        volume_mm3=volume,
        mass_mg=volume * (mean_hu + 1000) / 1000,
        solid_mean_diameter_mm=solid,
        solid_volume_mm3=BALL * solid**3,
        type=kind,
        slice_thickness_mm=0.7,
        spacing_mm=THIN,
    )


def of_volume(mm3: float) -> Measured:
    return size((mm3 / BALL) ** (1 / 3))


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
    told = change(of_volume(v1), of_volume(v2), days).volume_doubling_time_days
    assert told == pytest.approx(vdt, abs=0.005)


def test_equal_volumes_or_no_days_have_no_doubling_time() -> None:
    assert volume_doubling_time_days(100, 100, 90) is None
    assert volume_doubling_time_days(100, 200, 0) is None
    same = change(size(8), size(8), 90)
    assert same.volume_doubling_time_days is None
    assert same.volume_doubling_time_low_days is None
    assert same.volume_doubling_time_high_days is None
    assert same.growth_probability == 0.5
    at_once = change(size(6), size(8), 0)
    assert at_once.volume_doubling_time_days is None
    assert at_once.volume_doubling_time_low_days is None


def test_a_change_of_20_percent_counts_as_stable() -> None:
    assert volume_change_percent(150, 180) == pytest.approx(20)
    now, then = Measured(7.0, 180.0), Measured(5.0, 150.0)
    assert classify(now, [(365, then)]) == nodule_pb2.GROWTH_CLASS_STABLE


@pytest.mark.parametrize(
    ("now", "earlier", "expected"),
    [
        (7.6, [(300, 6.0)], nodule_pb2.GROWTH_CLASS_GROWING),
        (7.5, [(300, 6.0)], nodule_pb2.GROWTH_CLASS_STABLE),
        # 2 mm in two years are 1 mm a year: slow, but not stable.
        (8.0, [(730, 6.0)], nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING),
        (7.5, [(730, 6.0)], nodule_pb2.GROWTH_CLASS_STABLE),
        (9.2, [(730, 6.0)], nodule_pb2.GROWTH_CLASS_GROWING),
        # Never more than 1.5 mm in 12 months, but over several exams.
        (8.0, [(365, 7.0), (730, 6.0)], nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING),
        # 1.2 mm in three years: no two exams tell it, all four together do.
        (7.2, [(365, 6.8), (730, 6.4), (1095, 6.0)], nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING),
        # The same sizes in no order are none.
        (6.4, [(365, 7.2), (730, 6.0), (1095, 6.8)], nodule_pb2.GROWTH_CLASS_STABLE),
        # A steady rise below 25 % is within the error, however many exams there are.
        (10.3, [(100 * i, 10.3 - 0.06 * i) for i in range(1, 12)], nodule_pb2.GROWTH_CLASS_STABLE),
        (6.0, [(180, 8.0)], nodule_pb2.GROWTH_CLASS_SHRINKING),
    ],
)
def test_growth_is_more_than_one_and_a_half_mm_in_twelve_months(
    now: float, earlier: list[tuple[float, float]], expected: int
) -> None:
    assert classify(size(now), [(days, size(mm)) for days, mm in earlier]) == expected


def test_a_solid_part_that_grows_makes_a_part_solid_nodule_grow() -> None:
    now, then = size(12, 6, PART_SOLID), size(12, 3, PART_SOLID)
    assert classify(now, [(200, then)]) == nodule_pb2.GROWTH_CLASS_GROWING
    assert classify(size(12, 6), [(200, size(12, 3))]) == nodule_pb2.GROWTH_CLASS_STABLE


def test_a_solid_part_that_rises_steadily_is_slow_growth() -> None:
    solids = (6.4, 6.0, 5.6, 5.2, 4.8)
    now, *earlier = (size(14, solid, PART_SOLID) for solid in solids)
    past = [(365.0 * (i + 1), item) for i, item in enumerate(earlier)]
    line = solid_trend(now, past)
    assert line is not None
    assert line.exams == 5
    assert line.probability > TREND_PROBABILITY
    assert classify(now, past) == nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING


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
    assert doubled_within_a_year(Measured(9, now), [(days, Measured(9, then))]) == doubled


def test_a_change_tells_every_size() -> None:
    then, now = size(10, 4, PART_SOLID, -600), size(11, 6, PART_SOLID, -500)
    told = change(then, now, 200, ("kernel", "contrast"))
    assert told.diameter_change_mm == pytest.approx(1)
    assert told.solid_diameter_change_mm == pytest.approx(2)
    assert told.volume_change_percent == pytest.approx(33.1)
    assert told.mass_change_percent == pytest.approx(100 * (1.331 * 5 / 4 - 1))
    assert told.mass_doubling_time_days == pytest.approx(
        200 * math.log(2) / math.log(1.331 * 5 / 4)
    )
    assert told.warnings == ("contrast", "kernel")
    massless = change(Measured(5, 60.0), now, 200)
    assert massless.mass_change_percent is None
    assert massless.mass_doubling_time_days is None


def test_growth_beyond_the_error_has_a_closed_interval_and_growth_within_it_an_open_one() -> None:
    clear = change(size(10), size(12), 180)
    assert clear.growth_probability > 0.999
    assert clear.volume_doubling_time_low_days is not None
    assert clear.volume_doubling_time_high_days is not None
    unclear = change(size(10), size(10.4), 180)
    assert 0.5 < unclear.growth_probability < 0.975
    assert unclear.volume_doubling_time_low_days is not None
    assert unclear.volume_doubling_time_high_days is None
    shrunk = change(size(12), size(10), 180)
    assert shrunk.growth_probability < 0.001
    assert shrunk.volume_doubling_time_low_days == pytest.approx(
        -clear.volume_doubling_time_high_days
    )


@given(v1=st.floats(10, 10_000), v2=st.floats(10, 10_000), days=st.floats(1, 3000))
def test_after_its_doubling_time_the_volume_has_doubled(v1: float, v2: float, days: float) -> None:
    vdt = volume_doubling_time_days(v1, v2, days)
    if vdt is not None:
        assert v1 * 2 ** (days / vdt) == pytest.approx(v2, rel=1e-6)


@given(one=diameters, other=diameters, days=st.floats(1, 3000))
def test_a_change_told_backwards_is_its_mirror(one: float, other: float, days: float) -> None:
    there, back = change(size(one), size(other), days), change(size(other), size(one), days)
    assert there.growth_probability + back.growth_probability == pytest.approx(1)
    assert there.volume_error_percent == pytest.approx(back.volume_error_percent)
    for low, vdt, high in (
        (
            told.volume_doubling_time_low_days,
            told.volume_doubling_time_days,
            told.volume_doubling_time_high_days,
        )
        for told in (there, back)
    ):
        assert vdt is None or low is None or low <= vdt
        assert vdt is None or high is None or vdt <= high


@given(one=diameters, other=diameters)
def test_the_error_and_the_probability_say_the_same(one: float, other: float) -> None:
    told = change(size(one), size(other), 365)
    beyond = told.volume_change_percent > told.volume_error_percent
    assert beyond == (told.growth_probability > 0.975)


@given(
    past=st.lists(st.tuples(st.floats(30, 3000), diameters), min_size=1, max_size=5),
    now=diameters,
    more=st.floats(0, 10),
)
def test_a_larger_nodule_never_grows_less(
    past: list[tuple[float, float]], now: float, more: float
) -> None:
    earlier = [(days, size(mm)) for days, mm in sorted(past)]
    assert RANK[classify(size(now + more), earlier)] >= RANK[classify(size(now), earlier)]


@given(
    first=st.floats(4, 12),
    vdt=st.floats(100, 2000),
    gaps=st.lists(st.floats(60, 700), min_size=2, max_size=6),
)
def test_a_trend_finds_the_doubling_time_of_steady_growth(
    first: float, vdt: float, gaps: list[float]
) -> None:
    whole = sum(gaps)
    times = [sum(gaps[:i]) for i in range(len(gaps) + 1)]
    *then, now = (size(first * 2 ** (t / vdt / 3)) for t in times)
    earlier: list[Earlier] = [(whole - t, m) for t, m in zip(times, then, strict=False)]
    line = trend(now, earlier)
    assert line is not None
    assert line.doubling_time_days == pytest.approx(vdt)
    assert line.days == pytest.approx(whole)
    assert line.change_percent == pytest.approx(100 * (2 ** (whole / vdt) - 1))
    shuffled = trend(now, earlier[::-1])
    assert shuffled is not None
    assert shuffled.probability == pytest.approx(line.probability)


def test_two_exams_or_a_single_day_have_no_trend() -> None:
    assert trend(size(8), [(100, size(6))]) is None
    assert trend(size(8), [(0, size(6)), (0, size(7))]) is None


@pytest.mark.parametrize("exams", [3, 4, 6])
def test_a_stable_nodule_is_seldom_called_growing_by_its_trend(exams: int) -> None:
    """Simulated: a 7 mm nodule that never changes, measured with the modelled error."""
    noise = np.random.default_rng(7).normal(0, volume_sd(size(7)), (5000, exams))
    called = 0
    for errors in noise:
        *then, now = (size(7 * math.exp(error / 3)) for error in errors)
        line = trend(now, [(365.0 * (i + 1), m) for i, m in enumerate(reversed(then))])
        assert line is not None
        called += (
            line.probability >= TREND_PROBABILITY
            and line.change_percent >= MEASUREMENT_ERROR_PERCENT
        )
    assert called <= 0.015 * len(noise)
