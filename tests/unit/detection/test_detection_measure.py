"""Measurements of balls and ellipsoids whose size is known, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.detection.measure import (
    Border,
    mass_mg,
    measure_axes,
    measure_density,
    sphericity,
)

Triple = tuple[float, float, float]


def ellipsoid(
    radii: Triple, spacing: Triple, shift: Triple = (0, 0, 0)
) -> tuple[np.ndarray, Border]:
    """Return mask and border of an ellipsoid with partial volume, [z, y, x] in mm."""
    half = [int(np.ceil(r / s)) + 3 for r, s in zip(radii, spacing, strict=True)]
    fine = 5
    shares = []
    for n, s in zip(half, spacing, strict=True):
        steps = (np.arange((2 * n + 1) * fine) - (2 * n + 1) * fine / 2 + 0.5) / fine * s
        shares.append(steps)
    z, y, x = np.meshgrid(*shares, indexing="ij")
    inside = (
        ((z - shift[0]) / radii[0]) ** 2
        + ((y - shift[1]) / radii[1]) ** 2
        + ((x - shift[2]) / radii[2]) ** 2
    ) <= 1
    size = [2 * n + 1 for n in half]
    share = inside.reshape(size[0], fine, size[1], fine, size[2], fine).mean(axis=(1, 3, 5))
    return share >= 0.5, Border(share.astype(np.float32), 0.5)


@settings(max_examples=20, deadline=None)
@given(
    radius=st.floats(4, 12),
    dz=st.floats(0.5, 2.5),
    dx=st.floats(0.5, 0.9),
    shift=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
)
def test_a_balls_axes_are_its_diameter_wherever_it_lies_on_the_grid(
    radius: float, dz: float, dx: float, shift: Triple
) -> None:
    spacing = (dz, dx, dx)
    mask, border = ellipsoid((radius, radius, radius), spacing, shift)
    axes = measure_axes(mask, border, spacing)
    # Thick slices blur the border and miss the equator by up to half a slice.
    assert axes.mean_mm == pytest.approx(2 * radius, abs=0.5 * dx + 0.25 * dz)
    assert axes.short_mm <= axes.long_mm + 1e-9


def test_long_and_short_axis_of_an_ellipsoid_are_perpendicular_on_one_slice() -> None:
    spacing = (1.0, 0.6, 0.6)
    mask, border = ellipsoid((6, 5, 10), spacing)
    axes = measure_axes(mask, border, spacing)
    assert axes.long_mm == pytest.approx(20, abs=0.4)
    assert axes.short_mm == pytest.approx(10, abs=0.4)
    (z1, y1, x1), (z2, y2, x2) = axes.long_ends
    (z3, y3, x3), (z4, y4, x4) = axes.short_ends
    assert z1 == z2 == z3 == z4 == axes.z
    assert (y2 - y1) * (y4 - y3) + (x2 - x1) * (x4 - x3) == pytest.approx(0, abs=1e-6)


def test_a_ball_is_rounder_than_a_rod() -> None:
    spacing = (0.8, 0.8, 0.8)
    ball = sphericity(*ellipsoid((8, 8, 8), spacing), spacing)
    rod = sphericity(*ellipsoid((3, 3, 14), spacing), spacing)
    assert ball > 0.95
    assert rod < 0.85


def test_density_and_mass() -> None:
    mask = np.ones((2, 2, 2), bool)
    hu = np.arange(8).reshape(2, 2, 2).astype(np.float32) * 10
    density = measure_density(mask, hu)
    assert density.mean == 35
    assert density.percentiles[2] == 35
    # 100 mm³ of water are 100 mg; air has none.
    assert mass_mg(100, 0) == 100
    assert mass_mg(100, -1000) == 0


def test_an_empty_mask_has_no_axes() -> None:
    mask = np.zeros((3, 3, 3), bool)
    with pytest.raises(ValueError, match="empty mask"):
        measure_axes(mask, Border(np.zeros((3, 3, 3), np.float32), 0.5), (1, 1, 1))
