"""The referee's measure of outlines, on shapes whose sizes are known."""

from __future__ import annotations

from math import pi

import numpy as np
import numpy.typing as npt
import pytest

from bench.referee.measures import Errors, Sizes, compare, dice, summary, true_sizes

SPACING = (1.25, 0.7, 0.7)
Share = npt.NDArray[np.float32]


def ball(mm: float, fine: int = 5) -> Share:
    """Return how much of each voxel a ball fills, by counting 125 points in each."""
    counts = [int(2 * np.ceil((mm / 2 + 2) / step) + 1) for step in SPACING]
    axes = [
        ((np.arange(n * fine) + 0.5) / fine - n / 2) * step
        for n, step in zip(counts, SPACING, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    blocks = [part for n in counts for part in (n, fine)]
    inside = z**2 + y**2 + x**2 <= (mm / 2) ** 2
    share: Share = inside.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    return share


def test_dice_of_two_bars_that_share_a_voxel() -> None:
    one = np.array([[[True, True, False, False]]])
    other = np.array([[[False, True, True, True]]])
    assert dice(one, other) == pytest.approx(2 * 1 / (2 + 3))
    assert dice(one, one) == 1.0
    assert dice(one & False, other & False) is None


@pytest.mark.parametrize("mm", [5.0, 8.0, 14.0])
def test_the_truth_of_a_ball_is_the_balls_volume_and_diameter(mm: float) -> None:
    sizes = true_sizes(ball(mm), 0 * ball(mm), SPACING)
    assert sizes.volume_mm3 == pytest.approx(pi / 6 * mm**3, rel=0.02)
    assert sizes.diameter_mm == pytest.approx(mm, rel=0.03)
    assert (sizes.solid_volume_mm3, sizes.solid_diameter_mm) == (0.0, 0.0)


def test_errors_are_relative_to_the_truth_and_the_solid_parts_to_the_whole() -> None:
    total, solid = ball(14.0), np.zeros_like(ball(14.0))
    core = ball(6.0)
    inner = tuple(
        slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(total.shape, core.shape, strict=True)
    )
    solid[inner] = core
    true = true_sizes(total, solid, SPACING)
    measured = Sizes(
        volume_mm3=true.volume_mm3 * 1.1,
        diameter_mm=true.diameter_mm * 0.95,
        solid_volume_mm3=true.solid_volume_mm3 + 0.2 * true.volume_mm3,
        solid_diameter_mm=true.solid_diameter_mm - 1.5,
    )
    errors = compare("part_solid", 14.0, total, solid, total >= 0.5, measured, True, SPACING)
    assert errors is not None
    assert errors.dice == 1.0
    assert errors.volume == pytest.approx(0.1)
    assert errors.diameter == pytest.approx(-0.05)
    assert errors.solid_volume == pytest.approx(0.2)
    assert errors.solid_diameter_mm == pytest.approx(-1.5)


def test_only_a_part_solid_nodule_has_a_solid_error() -> None:
    total = ball(8.0)
    errors = compare("solid", 8.0, total, total, total >= 0.5, Sizes(270, 8), True, SPACING)
    assert errors is not None
    assert (errors.solid_volume, errors.solid_diameter_mm) == (None, None)


def test_a_nodule_too_thin_to_fill_a_voxel_by_half_is_not_measured() -> None:
    thin = np.full((3, 3, 3), 0.4, np.float32)
    assert compare("solid", 3.0, thin, thin, thin > 1, Sizes(1, 1), True, SPACING) is None


def test_the_summary_takes_medians_of_sizes_means_of_dice_and_the_signed_bias() -> None:
    rows = [
        Errors("solid", 8.0, 0.9, volume, diameter, None, None, typed)
        for volume, diameter, typed in [(-0.1, -0.02, True), (0.3, 0.04, True), (0.1, 0.06, False)]
    ]
    figures = summary([*rows, Errors("part_solid", 9.0, 0.6, -0.7, -0.3, 0.05, -2.0, True)])
    assert figures["nodules"] == 4
    assert figures["dice"] == pytest.approx((0.9 * 3 + 0.6) / 4)
    assert figures["diameter_error"] == pytest.approx(0.05)
    assert figures["volume_error"] == pytest.approx(0.2)
    assert figures["volume_bias"] == pytest.approx(-0.1)
    assert figures["volume_bias_median"] == pytest.approx(0.0)
    assert figures["solid_diameter_error_mm"] == pytest.approx(2.0)
    assert figures["typed"] == pytest.approx(0.75)


def test_a_summary_of_nothing_says_nothing() -> None:
    figures = summary([])
    assert figures["nodules"] == 0
    assert {value for name, value in figures.items() if name != "nodules"} == {None}
