"""Shape numbers on bodies whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from lungmesh.malignancy.shape import Shape, measure_shape

GRIDS = [(1.0, 0.7, 0.7), (2.5, 0.8, 0.8), (0.6, 0.6, 0.6)]
EXTENT_MM = 40.0


def places(spacing: tuple[float, float, float]) -> np.ndarray:
    """mm from the middle, (z, y, x, 3)."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for mm in spacing for n in [round(EXTENT_MM / mm)]]
    grid: np.ndarray = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return grid


def ellipsoid(spacing: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    inside: np.ndarray = np.linalg.norm(places(spacing) / radii, axis=-1) <= 1
    return inside


def star(spacing: tuple[float, float, float], waves: int, depth: float) -> Shape:
    """A body of 9 mm whose axial radius swings so many times a turn."""
    z, y, x = np.moveaxis(places(spacing), -1, 0)
    radius = 9 * (1 + depth * np.cos(waves * np.arctan2(y, x)))
    inside = (np.hypot(x, y) / radius) ** 2 + (z / 9) ** 2 <= 1
    return measure_shape(inside, spacing)


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("radius", [4.0, 8.0, 14.0])
def test_a_ball_is_round_and_smooth(spacing: tuple[float, float, float], radius: float) -> None:
    ball = measure_shape(ellipsoid(spacing, (radius, radius, radius)), spacing)
    # Slices of 2.5 mm say no better how long a small ball is.
    assert ball.diameter_mm == pytest.approx(2 * radius, rel=0.13)
    assert ball.flatness > 0.85
    assert ball.notches < 0.02
    assert ball.protrusions < 0.16
    assert ball.outline_lobes < 0.05
    assert ball.outline_spikes < 0.03


def test_principal_axes_of_an_ellipsoid() -> None:
    spacing = (0.6, 0.6, 0.6)
    found = measure_shape(ellipsoid(spacing, (6.0, 9.0, 15.0)), spacing)
    assert found.elongation == pytest.approx(9 / 15, abs=0.02)
    assert found.flatness == pytest.approx(6 / 15, abs=0.02)


def test_a_flat_body_is_flat_whichever_way_it_lies() -> None:
    spacing = (0.7, 0.7, 0.7)
    flat = [
        measure_shape(ellipsoid(spacing, radii), spacing).flatness
        for radii in ((4.0, 10.0, 10.0), (10.0, 4.0, 10.0), (10.0, 10.0, 4.0))
    ]
    assert flat == pytest.approx([flat[0]] * 3, abs=0.02)


@pytest.mark.parametrize("spacing", [(1.0, 0.7, 0.7), (0.6, 0.6, 0.6)])
def test_lobes_and_spikes_are_told_apart(spacing: tuple[float, float, float]) -> None:
    lobed, spiked = star(spacing, 4, 0.15), star(spacing, 11, 0.15)
    # A wave of 15 % of the radius has half of that in its harmonic.
    assert lobed.outline_lobes == pytest.approx(0.075, abs=0.02)
    assert lobed.outline_spikes < 0.03
    # Smoothing takes part of the narrow ones.
    assert 0.03 < spiked.outline_spikes < 0.075
    assert spiked.outline_lobes < 0.02
    assert spiked.outline_fill < star(spacing, 11, 0.0).outline_fill - 0.05


def test_two_balls_in_contact_have_a_notch_between_them() -> None:
    spacing = (1.0, 0.7, 0.7)
    p = places(spacing)
    single = ellipsoid(spacing, (6.0, 6.0, 6.0))
    pair = sum(np.linalg.norm(p - (0, 0, side), axis=-1) <= 6.0 for side in (-5.0, 5.0)) > 0
    assert measure_shape(pair, spacing).notches > 0.02 > measure_shape(single, spacing).notches


def test_a_rod_on_a_ball_protrudes() -> None:
    spacing = (0.7, 0.7, 0.7)
    p = places(spacing)
    ball = ellipsoid(spacing, (7.0, 7.0, 7.0))
    rod = (np.hypot(p[..., 0], p[..., 1]) <= 1.5) & (p[..., 2] > 0) & (p[..., 2] < 16)
    with_rod = measure_shape(ball | rod, spacing)
    assert with_rod.protrusions > measure_shape(ball, spacing).protrusions + 0.02


def test_the_box_around_the_nodule_does_not_matter() -> None:
    spacing = (1.0, 0.7, 0.7)
    mask = ellipsoid(spacing, (5.0, 6.0, 7.0))
    low, high = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0) + 1
    tight = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    assert measure_shape(tight, spacing) == measure_shape(mask, spacing)


def test_one_voxel_has_a_shape_and_none_has_not() -> None:
    mask = np.zeros((3, 3, 3), bool)
    with pytest.raises(ValueError, match="empty"):
        measure_shape(mask, (2.5, 0.7, 0.7))
    mask[1, 1, 1] = True
    assert 0.5 < measure_shape(mask, (2.5, 0.7, 0.7)).diameter_mm < 3
