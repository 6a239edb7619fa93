"""Whether an exam shows something like another exam's nodule at a place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lungmesh.followup.exam import Exam
from lungmesh.followup.shown import shows
from lungmesh.mesh.geometry import Grid

AXES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SHAPE, SPACING = (40, 60, 60), (0.8, 0.8, 1.25)
CENTER = (24.0, 24.0, 25.0)
SOLID, GLASS = 20.0, -650.0


def lung(seed: int, *balls: tuple[tuple[float, ...], float, float]) -> Exam:
    """Aerated lung with noise of its own and balls of (centre, diameter, HU)."""
    z, y, x = np.indices(SHAPE)
    hu = np.random.default_rng(seed).normal(-870, 25, SHAPE)
    for center, diameter, density in balls:
        away = np.sqrt(
            sum(
                ((at * mm - c) ** 2 for at, mm, c in zip((x, y, z), SPACING, center, strict=True)),
                np.zeros(SHAPE),
            )
        )
        share = np.clip((diameter / 2 - away) / 1.0 + 0.5, 0, 1)
        hu += share * (density - hu)
    return _exam(hu)


def vessel(seed: int) -> Exam:
    """Aerated lung with a vessel of 6 mm straight through the place."""
    z, y, _ = np.indices(SHAPE)
    away = np.hypot(y * SPACING[1] - CENTER[1], z * SPACING[2] - CENTER[2])
    hu = np.random.default_rng(seed).normal(-870, 25, SHAPE)
    return _exam(np.where(away < 3, 30.0, hu))


def _exam(hu: npt.NDArray[np.float64]) -> Exam:
    grid = Grid(SHAPE[::-1], SPACING, (0.0, 0.0, 0.0), AXES)
    return Exam(np.clip(hu, -1024, 3071).astype(np.int16), np.zeros(SHAPE, np.uint8), grid)


@pytest.mark.parametrize(
    ("diameter", "density"),
    [(4.0, SOLID), (6.0, SOLID), (20.0, SOLID), (6.0, GLASS), (12.0, GLASS)],
)
def test_the_same_nodule_is_seen_where_a_laid_place_is_off_by_2_mm(
    diameter: float, density: float
) -> None:
    now = lung(1, (CENTER, diameter, density))
    then = lung(2, ((23.0, 25.2, 26.2), diameter, density))
    assert shows(then, CENTER, now, CENTER, diameter)


@pytest.mark.parametrize(("diameter", "density"), [(4.0, SOLID), (20.0, SOLID), (12.0, GLASS)])
def test_empty_lung_shows_nothing(diameter: float, density: float) -> None:
    assert not shows(lung(2), CENTER, lung(1, (CENTER, diameter, density)), CENTER, diameter)


def test_a_vessel_is_no_nodule() -> None:
    assert not shows(vessel(2), CENTER, lung(1, (CENTER, 6.0, SOLID)), CENTER, 6.0)


def test_a_faint_haze_is_no_solid_nodule() -> None:
    now, then = lung(1, (CENTER, 8.0, SOLID)), lung(2, (CENTER, 8.0, GLASS))
    assert not shows(then, CENTER, now, CENTER, 8.0)


def test_without_voxels_or_outside_of_them_nothing_is_shown() -> None:
    now = lung(1, (CENTER, 6.0, SOLID))
    bare = Exam(None, now.lobes, now.grid)
    assert not shows(bare, CENTER, now, CENTER, 6.0)
    assert not shows(now, CENTER, bare, CENTER, 6.0)
    assert not shows(now, (24.0, 24.0, -9.0), now, CENTER, 6.0)


def test_what_hardly_stands_out_of_the_lung_is_not_looked_for() -> None:
    faint = lung(1, (CENTER, 8.0, -845.0))
    assert not shows(faint, CENTER, faint, CENTER, 8.0)
