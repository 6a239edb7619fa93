"""Air inside a nodule, strands to the pleura and the density's probabilities, on made-up lungs."""

from __future__ import annotations

import numpy as np
import pytest

from lungmesh.malignancy.density import density_probabilities
from lungmesh.malignancy.patch import Finding, Patch, cubic
from lungmesh.malignancy.signs import measure_signs
from lungmesh.v1.nodule_pb2 import (
    NODULE_TYPE_NON_SOLID,
    NODULE_TYPE_PART_SOLID,
    NODULE_TYPE_SOLID,
)

SPACING = (1.0, 0.8, 0.8)
EXTENT_MM = 48.0
WALL_MM = 14.0


def places() -> np.ndarray:
    """mm from the middle, (z, y, x, 3)."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for mm in SPACING for n in [round(EXTENT_MM / mm)]]
    grid: np.ndarray = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return grid


P = places()


def ball(radius: float, center: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    inside: np.ndarray = np.linalg.norm(P - center, axis=-1) <= radius
    return inside


def rod(radius: float, low: float, high: float) -> np.ndarray:
    """Along x, between two places."""
    inside: np.ndarray = (
        (np.hypot(P[..., 0], P[..., 1]) <= radius) & (P[..., 2] >= low) & (P[..., 2] <= high)
    )
    return inside


def patch(nodule: np.ndarray, *layers: tuple[np.ndarray, float], noise: float = 20.0) -> Patch:
    """Lung, then layers of HU; the chest wall stands on the right."""
    hu = np.full(nodule.shape, -860.0)
    wall = P[..., 2] > WALL_MM
    for inside, value in ((wall, 40.0), *layers):
        hu[inside] = value
    hu += np.random.default_rng(5).normal(0, noise, hu.shape)
    return Patch(hu.astype(np.float32), nodule, ~wall, SPACING)


def found(patch: Patch) -> dict[str, Finding]:
    return {finding.name: finding for finding in measure_signs(patch)}


def test_a_solid_ball_holds_no_air_and_draws_no_pleura() -> None:
    signs = found(patch(ball(8), (ball(8), 30.0)))
    for name in ("vacuole", "air_bronchogram", "pleural_retraction"):
        assert not signs[name].present
        assert signs[name].score == 0


@pytest.mark.parametrize("in_mask", [True, False])
def test_a_bubble_is_a_vacuole_whether_or_not_the_mask_holds_it(in_mask: bool) -> None:
    bubble = ball(1.8, (1, 1, 2))
    mask = ball(9) if in_mask else ball(9) & ~bubble
    signs = found(patch(mask, (ball(9), 20.0), (bubble, -900.0)))
    assert signs["vacuole"].present
    assert not signs["air_bronchogram"].present


@pytest.mark.parametrize("tissue", [20.0, -350.0])
def test_an_air_filled_tube_is_a_bronchogram(tissue: float) -> None:
    tube = rod(1.3, -6, 6)
    signs = found(patch(ball(10), (ball(10), tissue), (tube, -950.0)))
    assert signs["air_bronchogram"].present
    assert not signs["vacuole"].present


def test_noise_in_ground_glass_is_no_air() -> None:
    signs = found(patch(ball(9), (ball(9), -600.0), noise=80.0))
    assert not signs["vacuole"].present
    assert not signs["air_bronchogram"].present


def test_a_cavity_is_no_vacuole() -> None:
    signs = found(patch(ball(11), (ball(11), 20.0), (ball(6), -950.0)))
    assert not signs["vacuole"].present


def test_lung_in_a_deep_notch_is_no_air_inside() -> None:
    cleft = rod(1.2, 1, 20)
    signs = found(patch(ball(8) & ~cleft, (ball(8), 20.0), (cleft & ball(9), -860.0)))
    assert not signs["vacuole"].present


def test_a_thin_strand_to_the_wall_is_a_pleural_tag() -> None:
    tag = rod(1.2, 6, WALL_MM)
    signs = found(patch(ball(7), (ball(7), 30.0), (tag, 0.0)))
    assert signs["pleural_retraction"].present
    assert not signs["juxtapleural"].present


def test_a_strand_that_ends_half_way_is_not_present_but_scores() -> None:
    tag = rod(1.2, 6, 10.5)
    whole = found(patch(ball(7), (ball(7), 30.0), (rod(1.2, 6, WALL_MM), 0.0)))
    half = found(patch(ball(7), (ball(7), 30.0), (tag, 0.0)))["pleural_retraction"]
    assert not half.present
    assert 0 < half.score < whole["pleural_retraction"].score


def test_a_vessel_through_ground_glass_is_no_tag() -> None:
    vessel = rod(1.2, -14, WALL_MM)
    signs = found(patch(ball(7), (ball(7), -550.0), (vessel, 30.0)))
    assert not signs["pleural_retraction"].present


@pytest.mark.parametrize(
    ("core_mm", "outer_hu", "kind"),
    [
        (0.0, 30.0, NODULE_TYPE_SOLID),
        (0.0, -600.0, NODULE_TYPE_NON_SOLID),
        (4.5, -600.0, NODULE_TYPE_PART_SOLID),
    ],
)
def test_each_density_has_the_largest_probability_of_its_kind(
    core_mm: float, outer_hu: float, kind: int
) -> None:
    nodule = patch(ball(8), (ball(8), outer_hu), (ball(core_mm), 30.0))
    found = density_probabilities(cubic(nodule))
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda each: found[each]) == kind
    assert found[kind] > 0.9  # type: ignore[index]


def test_density_at_the_limit_is_unsure() -> None:
    nodule = patch(ball(8), (ball(8), -300.0))
    solid = density_probabilities(cubic(nodule))[NODULE_TYPE_SOLID]
    clear = density_probabilities(cubic(patch(ball(8), (ball(8), 30.0))))[NODULE_TYPE_SOLID]
    assert solid < 0.5 < clear
