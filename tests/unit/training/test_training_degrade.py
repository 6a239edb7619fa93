"""Scanner physics: maps of coordinates, noise, kernels, slabs, each against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from models.training.simulation import degrade
from models.training.simulation.degrade import Degraded, Floats, Hu, Mask, Triple

SPACING = (1.25, 0.7, 0.7)


def phantom(noise_hu: float = 20.0, blur: float = 0.8) -> tuple[Hu, Mask, Floats]:
    """Soft tissue with two lungs that grow denser to the back, its lungs, and it without noise."""
    random = np.random.default_rng(1)
    shape = (30, 160, 200)
    _, y, x = np.indices(shape)
    lungs = ((y - 80) / 60) ** 2 + ((np.abs(x - 100) - 46) / 38) ** 2 < 1
    clean = np.where(lungs, -880 + 0.6 * (y - 80), 40.0)
    noise = ndimage.gaussian_filter(random.standard_normal(shape), (0, blur, blur))
    # As in CT there is little of it at the lowest frequencies.
    noise -= ndimage.gaussian_filter(noise, (0, 2.5, 2.5))
    hu = np.clip(np.rint(clean + noise_hu * noise / noise.std()), -1024, 3071)
    return hu.astype(np.int16), lungs, clean


def blob(at: tuple[int, int, int], shape: tuple[int, int, int] = (24, 40, 48)) -> Hu:
    """A soft ball of 3 voxels' deviation in air."""
    away = sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), at, strict=True))
    hu: Hu = np.rint(-1000 + 1000 * np.exp(-away / 18)).astype(np.int16)
    return hu


def centre(hu: Hu) -> Floats:
    return np.array(ndimage.center_of_mass(hu.astype(float) + 1000))


CHANGES = {
    "head to foot": lambda hu, lungs: degrade.flipped(hu, (1, 1, 1), 0),
    "left to right": lambda hu, lungs: degrade.flipped(hu, (1, 1, 1), 2),
    "prone": lambda hu, lungs: degrade.prone(hu, (1, 1, 1), lungs),
    "2 mm": lambda hu, lungs: degrade.thick_slices(hu, (1, 1, 1), 2),
    "2.5 mm": lambda hu, lungs: degrade.thick_slices(hu, (1, 1, 1), 2.5),
    "field": lambda hu, lungs: degrade.cropped_field(hu, (1, 1, 1), np.ones_like(lungs), 0.9),
    "sharp": lambda hu, lungs: degrade.sharp_kernel(hu, (1, 1, 1), 0.3),
    "soft": lambda hu, lungs: degrade.soft_kernel(hu, (1, 1, 1)),
}


@pytest.mark.parametrize("name", CHANGES)
@settings(max_examples=8, deadline=None)
@given(z=st.integers(11, 12), y=st.integers(16, 24), x=st.integers(16, 32))
def test_the_map_leads_to_where_a_ball_went(name: str, z: int, y: int, x: int) -> None:
    hu = blob((z, y, x))
    out: Degraded = CHANGES[name](hu, np.zeros(hu.shape, bool))
    assert np.abs(out.index(centre(hu)) - centre(out.hu)).max() < 0.12
    assert out.holds((z, y, x))


@pytest.mark.parametrize("name", CHANGES)
def test_a_mask_moves_with_the_voxels(name: str) -> None:
    hu = blob((11, 20, 24))
    ball = hu > -600
    out: Degraded = CHANGES[name](hu, np.zeros(hu.shape, bool))
    moved = out.moved(ball)
    assert moved.shape == out.hu.shape
    away = np.array(ndimage.center_of_mass(moved)) - out.index(ndimage.center_of_mass(ball))
    assert np.abs(away).max() < 0.3
    # The voxels it lies on are the ball's: bright, where the rest is not.
    assert out.hu[moved].mean() > -600 > out.hu[~moved].mean() + 200


def test_a_point_out_of_the_cropped_field_is_not_held() -> None:
    lungs = np.zeros((4, 40, 60), bool)
    lungs[:, 5:35, 10:50] = True
    out = degrade.cropped_field(np.zeros(lungs.shape, np.int16), (1, 1, 1), lungs, 0.8)
    assert out.hu.shape == (4, 24, 32)
    assert out.holds([[0, 8, 14], [0, 7, 14], [0, 31, 45], [0, 31, 46]]).tolist() == [
        True,
        False,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="no lungs"):
        degrade.cropped_field(np.zeros(lungs.shape, np.int16), (1, 1, 1), ~lungs & lungs)


@given(noise_hu=st.floats(8, 45), blur=st.floats(0.5, 1.2))
@settings(max_examples=6, deadline=None)
def test_noise_is_measured_as_it_was_made(noise_hu: float, blur: float) -> None:
    hu, lungs, _ = phantom(noise_hu, blur)
    found = degrade.measured_noise(hu, SPACING, lungs)
    assert found.tissue_hu == pytest.approx(noise_hu, rel=0.1)
    assert found.lung_hu == pytest.approx(noise_hu, rel=0.15)
    assert found.along_z < 0.1


def test_a_quarter_of_the_dose_has_four_times_the_variance_in_lung_and_in_tissue() -> None:
    hu, lungs, clean = phantom()
    out = degrade.quarter_dose(hu, SPACING, lungs, seed=3)
    deep = ndimage.binary_erosion(lungs, iterations=6)
    far = ndimage.binary_erosion(~lungs, iterations=6)
    for part in (deep, far):
        before, after = ((scan - clean)[part].var() for scan in (hu, out.hu))
        assert after / before == pytest.approx(4, rel=0.1)
        assert out.hu[part].mean() == pytest.approx(hu[part].mean(), abs=1)


def test_the_added_noise_is_correlated_as_the_hosts_and_differs_by_seed() -> None:
    hu, lungs, _ = phantom(20.0, 0.8)
    out, again, other = (degrade.quarter_dose(hu, SPACING, lungs, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(out.hu, again.hu)
    added = (out.hu - hu).astype(np.float32)
    assert abs(np.corrcoef(added.ravel(), (other.hu - hu).ravel())[0, 1]) < 0.02
    made = _neighbours(added)
    own = _neighbours(np.where(lungs, 0, hu - 40.0)[:, :, :8])
    assert own == pytest.approx(made, abs=0.1)
    # White noise would have none.
    assert made > 0.4
    power = np.abs(np.fft.rfft2(added)).mean(axis=0)
    assert power[0, 1:3].mean() < 0.5 * power[0, 20:40].mean()


def _neighbours(values: Floats) -> float:
    return float(np.corrcoef(values[..., 1:].ravel(), values[..., :-1].ravel())[0, 1])


def test_noise_shared_by_neighbouring_slices_stays_shared() -> None:
    random = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(random.standard_normal((30, 160, 200)), (0, 0.8, 0.8))
    noise = noise[1:] + 0.5 * noise[:-1]
    hu = np.rint(40 + 20 * noise / noise.std()).astype(np.int16)
    none = np.zeros(hu.shape, bool)
    assert degrade.measured_noise(hu, SPACING, none).along_z == pytest.approx(0.4, abs=0.06)
    added = (degrade.quarter_dose(hu, SPACING, none, 1).hu - hu).astype(float)
    pair = np.corrcoef(added[1:].ravel(), added[:-1].ravel())[0, 1]
    assert pair == pytest.approx(0.4, abs=0.06)


def test_kernels_keep_the_mean_and_change_noise_and_edges_the_right_way() -> None:
    hu, _, _ = phantom()
    soft, sharp = degrade.soft_kernel(hu, SPACING), degrade.sharp_kernel(hu, SPACING)
    # A quarter of the contrast: nothing is clipped at the lowest HU.
    low = hu // 4
    for change in (degrade.soft_kernel, degrade.sharp_kernel):
        assert change(low, SPACING).hu.mean() == pytest.approx(low.mean(), abs=0.5)
    tissue = (slice(None), slice(None), slice(0, 6))
    assert soft.hu[tissue].std() < 0.7 * hu[tissue].std()
    assert 1.5 * hu[tissue].std() < sharp.hu[tissue].std() < 2.6 * hu[tissue].std()


def test_the_soft_kernel_is_a_gaussian_of_the_asked_width() -> None:
    hu = np.full((1, 81, 81), -1000, np.int16)
    hu[0, 40, 40] = 3000
    out = degrade.soft_kernel(hu, (1, 0.5, 0.5), sigma_mm=1.0).hu[0].astype(float) + 1000
    offset = 0.5 * (np.arange(81) - 40)
    variance = (out.sum(axis=0) * offset**2).sum() / out.sum()
    assert variance == pytest.approx(1.0, rel=0.05)


@given(own=st.sampled_from([0.5, 1.0, 1.25]), mm=st.sampled_from([1.25, 2.0, 2.5, 3.0, 5.0]))
@settings(max_examples=15, deadline=None)
def test_slabs_keep_the_mean(own: float, mm: float) -> None:
    random = np.random.default_rng(0)
    count = round(30 / own)
    hu = random.integers(-1000, 1000, (count, 6, 5), np.int16)
    spacing: Triple = (own, 1.0, 1.0)
    out = degrade.thick_slices(hu, spacing, mm)
    assert out.hu.shape[0] == int(30 / mm + 1e-9)
    assert out.spacing == (mm, 1.0, 1.0)
    assert out.hu.mean() == pytest.approx(hu.mean(), abs=0.5)
    np.testing.assert_allclose(out.hu.mean(axis=0), hu.astype(float).mean(axis=0), atol=0.6)


def test_slices_are_not_made_thinner() -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        degrade.thick_slices(np.zeros((4, 2, 2), np.int16), (2.5, 1, 1), 1.0)
    same = degrade.thick_slices(blob((11, 20, 24)), (1, 1, 1), 1.0)
    np.testing.assert_array_equal(same.hu, blob((11, 20, 24)))


def test_on_the_belly_the_front_is_the_dense_part_of_the_lung() -> None:
    hu, lungs, _ = phantom()
    out = degrade.prone(hu, SPACING, lungs)
    moved = out.moved(lungs)
    rows = [float(np.median(out.hu[:, y][moved[:, y]])) for y in range(40, 120)]
    # Rotated by 180°: the front lies at high y, and HU still rise with y, as gravity has it.
    assert np.polyfit(np.arange(80), rows, 1)[0] == pytest.approx(0.6, abs=0.1)
    upright = out.hu[:, ::-1, ::-1]
    tissue = ndimage.binary_erosion(~lungs, iterations=6)
    np.testing.assert_array_equal(upright[tissue], hu[tissue])
    front = np.median(upright[:, 40][lungs[:, 40]]) - np.median(hu[:, 40][lungs[:, 40]])
    assert front == pytest.approx(48, abs=8)
