"""Signs on shapes whose look is known, on any grid."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lungmesh.malignancy.patch import Finding, Patch
from lungmesh.malignancy.signs import measure_signs

GRIDS = [(1.0, 0.7, 0.7), (2.5, 0.7, 0.7), (1.25, 0.9, 0.9)]
EXTENT_MM = 52.0
# mm along [z, y, x], as chest CT has it.
IN_PLANE = st.floats(0.55, 0.9)
# A strand of 2 mm can fall between two slices that lie farther apart, and is lost there.
FINE_SPACINGS = st.tuples(st.floats(0.6, 1.5), IN_PLANE, IN_PLANE)
SPACINGS = st.tuples(st.floats(0.6, 2.5), IN_PLANE, IN_PLANE)


def places(spacing: tuple[float, float, float]) -> np.ndarray:
    """mm from the middle, (z, y, x, 3)."""
    axes = [np.arange(round(EXTENT_MM / mm)) * mm for mm in spacing]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    middle: np.ndarray = grid - grid.reshape(-1, 3).mean(axis=0)
    return middle


def patch(
    dense: np.ndarray,
    spacing: tuple[float, float, float],
    inside_hu: float = 40.0,
    nodule: np.ndarray | None = None,
    lung: np.ndarray | None = None,
) -> Patch:
    """A dense shape in lung; the nodule's mask is the shape unless another is given."""
    hu = np.where(dense, inside_hu, -850.0).astype(np.float32)
    return Patch(
        hu,
        dense if nodule is None else nodule,
        np.ones(dense.shape, bool) if lung is None else lung,
        spacing,
    )


def named(patch: Patch) -> dict[str, Finding]:
    return {finding.name: finding for finding in measure_signs(patch)}


def ball(
    p: np.ndarray, radius: float, center: tuple[float, float, float] = (0, 0, 0)
) -> np.ndarray:
    inside: np.ndarray = np.linalg.norm(p - center, axis=-1) <= radius
    return inside


def spikes(p: np.ndarray, count: int, reach: float) -> np.ndarray:
    """Thin strands from the middle in directions spread over the sphere."""
    out = np.zeros(p.shape[:-1], bool)
    for k in range(count):
        z = 1 - 2 * (k + 0.5) / count
        turn = k * np.pi * (3 - np.sqrt(5))
        axis = np.array([z, np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn)])
        along = p @ axis
        off = np.linalg.norm(p - along[..., None] * axis, axis=-1)
        out |= (along > 0) & (along <= reach) & (off <= 1.0)
    return out


@cache
def drawn(radius: float, strands: int) -> np.ndarray:
    """HU on cubic voxels of 0.5 mm."""
    fine = places((0.5, 0.5, 0.5))
    dense = ball(fine, radius)
    if strands:
        dense = dense | spikes(fine, strands, radius + 8)
    return np.where(dense, 40.0, -850.0).astype(np.float32)


def scanned(spacing: tuple[float, float, float], radius: float, strands: int = 0) -> Patch:
    """A ball with strands as a CT shows it: finely drawn, then averaged over the voxels."""
    fine = drawn(radius, strands)
    # One voxel averages what lies within it.
    hu = ndimage.gaussian_filter(fine, [mm / 0.5 / np.sqrt(12) for mm in spacing])
    index = np.moveaxis(places(spacing) / 0.5 + (np.asarray(fine.shape) - 1) / 2, -1, 0)
    there = ndimage.map_coordinates(hu, index, order=1, mode="nearest").astype(np.float32)
    return Patch(there, ball(places(spacing), radius), np.ones(there.shape, bool), spacing)


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("radius", [4.0, 8.0, 14.0])
def test_a_ball_is_smooth_clear_and_nothing_else(
    spacing: tuple[float, float, float], radius: float
) -> None:
    found = named(patch(ball(places(spacing), radius), spacing))
    assert not found["spiculation"].present
    assert not found["lobulation"].present
    assert found["smooth_margin"].present
    assert found["clear_border"].present
    assert not found["calcification"].present
    assert not found["juxtapleural"].present


@pytest.mark.parametrize("radius", [6.0, 12.0])
def test_a_ball_with_many_thin_strands_is_spiculated(radius: float) -> None:
    found = named(scanned(GRIDS[0], radius, strands=12))
    assert found["spiculation"].present
    assert not found["smooth_margin"].present


@given(spacing=SPACINGS, radius=st.sampled_from([5.0, 8.0, 12.0]))
@settings(max_examples=12, deadline=None)
def test_spacing_makes_no_strand(spacing: tuple[float, float, float], radius: float) -> None:
    assert not named(scanned(spacing, radius))["spiculation"].present


@given(spacing=FINE_SPACINGS, radius=st.sampled_from([5.0, 8.0, 12.0]))
@settings(max_examples=12, deadline=None)
def test_slices_up_to_one_and_a_half_mm_hide_no_strand(
    spacing: tuple[float, float, float], radius: float
) -> None:
    assert named(scanned(spacing, radius, strands=14))["spiculation"].present


@given(
    order=st.permutations([0, 1, 2]),
    flipped=st.sets(st.sampled_from([0, 1, 2])),
    strands=st.sampled_from([0, 12]),
)
@settings(max_examples=10, deadline=None)
def test_the_array_may_lie_any_way_round(order: list[int], flipped: set[int], strands: int) -> None:
    straight = scanned((1.5, 0.8, 0.7), 8.0, strands)

    def turn(array: np.ndarray) -> np.ndarray:
        turned: np.ndarray = np.flip(np.transpose(array, order), tuple(flipped))
        return turned

    z, y, x = (straight.spacing[axis] for axis in order)
    turned = Patch(turn(straight.hu), turn(straight.nodule), turn(straight.lung), (z, y, x))
    there = named(turned)
    for name, finding in named(straight).items():
        assert there[name].present == finding.present
        assert there[name].score == pytest.approx(finding.score, abs=0.11)


def test_two_vessels_do_not_make_a_nodule_spiculated() -> None:
    p = places(GRIDS[0])
    nodule = ball(p, 8)
    found = named(patch(nodule | spikes(p, 2, 20), GRIDS[0], nodule=nodule))
    assert not found["spiculation"].present


@pytest.mark.parametrize("spacing", GRIDS)
def test_a_bunch_of_balls_is_lobulated(spacing: tuple[float, float, float]) -> None:
    p = places(spacing)
    bunch = np.zeros(p.shape[:-1], bool)
    for x in (-7.0, 7.0):
        for y in (-7.0, 7.0):
            bunch |= ball(p, 7.5, (0, y, x))
    found = named(patch(bunch, spacing))
    assert found["lobulation"].present
    assert not found["smooth_margin"].present


def test_calcium_and_fat_are_read_from_the_core() -> None:
    shape = ball(places(GRIDS[0]), 8)
    assert named(patch(shape, GRIDS[0], inside_hu=600))["calcification"].present
    enhanced = {f.name: f for f in measure_signs(patch(shape, GRIDS[0], inside_hu=320), True)}
    assert not enhanced["calcification"].present
    fat = named(patch(shape, GRIDS[0], inside_hu=-70))
    assert fat["fat"].present
    assert not fat["calcification"].present


def test_the_blurred_edge_of_a_small_solid_nodule_is_not_fat() -> None:
    for radius in (2.0, 3.0, 5.0):
        found = named(scanned((2.5, 0.7, 0.7), radius))
        assert found["fat"].score == 0


def test_dense_ground_glass_is_not_fat() -> None:
    p = places(GRIDS[0])
    away = np.linalg.norm(p, axis=-1)
    # Denser towards its middle, as ground glass often is.
    hu = np.where(away <= 9, -60 - 60 * away, -850).astype(np.float32)
    glass = Patch(hu, away <= 9, np.ones(away.shape, bool), GRIDS[0])
    assert not named(glass)["fat"].present


def test_vessels_through_ground_glass_do_not_make_it_spiculated() -> None:
    p = places(GRIDS[0])
    nodule, vessels = ball(p, 10), spikes(p, 12, 18)
    hu = np.where(vessels, 0.0, np.where(nodule, -600.0, -850.0)).astype(np.float32)
    glass = Patch(hu, nodule, np.ones(nodule.shape, bool), GRIDS[0])
    assert not named(glass)["spiculation"].present


def test_noise_around_faint_ground_glass_is_no_strand() -> None:
    p = places(GRIDS[0])
    nodule = ball(p, 10)
    noise = np.random.default_rng(7).normal(0, 80, nodule.shape)
    hu = (np.where(nodule, -650.0, -850.0) + noise).astype(np.float32)
    glass = Patch(hu, nodule, np.ones(nodule.shape, bool), GRIDS[0])
    assert not named(glass)["spiculation"].present


def test_the_border_of_faint_ground_glass_is_not_clear() -> None:
    shape = ball(places(GRIDS[0]), 10)
    assert not named(patch(shape, GRIDS[0], inside_hu=-720))["clear_border"].present


@given(gap=st.floats(0, 12))
@settings(max_examples=12, deadline=None)
def test_a_nodule_is_juxtapleural_when_the_pleura_is_near(gap: float) -> None:
    spacing = GRIDS[0]
    p = places(spacing)
    lung = p[..., 2] <= 6 + gap
    found = named(patch(ball(p, 6) & lung, spacing, lung=lung))["juxtapleural"]
    if gap <= 0.5:
        assert found.present
    if gap >= 3.5:
        assert not found.present


def test_a_blurred_border_is_not_clear() -> None:
    spacing = GRIDS[0]
    p = places(spacing)
    away = np.linalg.norm(p, axis=-1)
    hu = (-850 + 890 / (1 + np.exp((away - 9) / 3))).astype(np.float32)
    blurred = Patch(hu, away <= 9, np.ones(away.shape, bool), spacing)
    assert not named(blurred)["clear_border"].present


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        measure_signs(patch(np.zeros((5, 5, 5), bool), (1.0, 1.0, 1.0)))
