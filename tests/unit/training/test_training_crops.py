"""Crops for training: cut where they say, seen as scanners show, with a truth that fits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.training.crops import AIR_HU, Noise, Piece, Scanner, cut, padded, piece_of, seen, turned
from models.training.grounds import Ground, make_ground
from models.training.samples import Drawer, Wanted
from models.training.simulation.hosts import Host
from models.training.simulation.plant import KINDS, Kind
from models.training.simulation.shapes import Shape

SPACING = (1.25, 0.7, 0.7)
LUNG_HU = -860
CROP = Wanted(size=64, step_mm=0.5, widest=2.5)


def axes(shape: tuple[int, ...], spacing: tuple[float, ...]) -> list[npt.NDArray[np.float64]]:
    """Return mm along each axis, ready for broadcasting."""
    lines = [np.arange(n) * mm for n, mm in zip(shape, spacing, strict=True)]
    return list(np.meshgrid(*lines, indexing="ij", sparse=True))


def ball_host(ignore_at: tuple[int, int, int] | None = None) -> Host:
    """Return a round lung of 50 mm radius in soft tissue, with one vessel spot of 4 mm."""
    shape = (96, 160, 160)
    z, y, x = axes(shape, SPACING)
    middle = [(n - 1) / 2 * mm for n, mm in zip(shape, SPACING, strict=True)]
    away = np.sqrt((z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2)
    hu = np.where(away < 50, LUNG_HU, 40)
    spot = np.sqrt((z - 60.0) ** 2 + (y - 70.0) ** 2 + (x - 35.0) ** 2)
    hu[spot < 2] = 40
    ignore = np.zeros(shape, bool)
    if ignore_at:
        ignore[ignore_at] = True
    return Host("ball", hu.astype(np.int16), away < 50, ignore, SPACING, 1.25, 15.0)


def ball_shape(diameter: float) -> Shape:
    """Return a ball as a nodule's shape."""
    n = int(diameter / 0.5) + 12
    z, y, x = axes((n, n, n), (0.5, 0.5, 0.5))
    middle = (n - 1) / 4
    away = np.sqrt((z - middle) ** 2 + (y - middle) ** 2 + (x - middle) ** 2)
    distance = (away - diameter / 2).astype(np.float16)
    return Shape(f"ball/{diameter}", "ball", "train", distance, diameter, {"spiculation": 1.0})


@pytest.fixture(scope="module")
def ground() -> Ground:
    return make_ground(ball_host(), np.random.default_rng(0))


@pytest.fixture
def drawer(ground: Ground) -> Drawer:
    return Drawer([ground], [ball_shape(d) for d in range(3, 30)], seed=4)


def test_a_crop_shows_a_linear_field_unchanged() -> None:
    z, y, x = axes((40, 60, 60), SPACING)
    field = 2 * z - 3 * y + 5 * x
    crop = cut(field, SPACING, (20.3, 30.6, 29.1), 16, 0.8)
    reach = (np.arange(16) - 7.5) * 0.8
    wanted = (
        2 * (20.3 * 1.25 + reach[:, None, None])
        - 3 * (30.6 * 0.7 + reach[:, None])
        + 5 * (29.1 * 0.7 + reach)
    )
    np.testing.assert_allclose(crop, wanted, atol=1e-3)


def test_a_crop_beyond_the_image_reads_air() -> None:
    image = np.zeros((10, 10, 10), np.int16)
    crop = cut(image, (1.0, 1.0, 1.0), (0.0, 4.5, 4.5), 8, 1.0)
    # Voxel centres along z: -3.5 … 3.5 around index 0.
    np.testing.assert_allclose(crop[:3], AIR_HU)
    np.testing.assert_allclose(crop[3], AIR_HU / 2)
    np.testing.assert_allclose(crop[4:], 0)


@pytest.mark.parametrize("first", [-30, -3, 7, 30])
def test_padding_shows_what_is_inside_and_the_rest_outside(first: int) -> None:
    image = np.arange(10, dtype=np.int16)[:, None, None]
    part = padded(image, [(first, first + 6), (0, 1), (0, 1)], -1.0)[:, 0, 0]
    wanted = [i if 0 <= i < 10 else -1 for i in range(first, first + 6)]
    np.testing.assert_array_equal(part, wanted)


def test_the_volume_of_a_share_stays_in_the_crop() -> None:
    z, y, x = axes((40, 60, 60), SPACING)
    away = np.sqrt((z - 25.3) ** 2 + (y - 21.2) ** 2 + (x - 20.8) ** 2)
    share = np.clip(0.5 - (away - 5.0) / 0.9, 0, 1)
    center = (25.3 / 1.25, 21.2 / 0.7, 20.8 / 0.7)
    crop = cut(share, SPACING, center, 64, 0.5, outside=0.0)
    assert crop.sum() * 0.5**3 == pytest.approx(share.sum() * np.prod(SPACING), rel=0.005)


@pytest.mark.parametrize("slices", [1, 2, 3, 4])
def test_slabs_keep_every_place_where_it_was(slices: int) -> None:
    image = np.broadcast_to(np.arange(60, dtype=np.float32)[:, None, None] * 10, (60, 8, 8))
    piece = Piece(np.ascontiguousarray(image), (1.25, 0.7, 0.7), (30.4, 3.5, 3.5))
    random = np.random.default_rng(1)
    for _ in range(5):
        shown = seen(piece, Scanner(slices=slices), Noise(random, (4, 32, 32)), random)
        assert shown.spacing[0] == pytest.approx(1.25 * slices)
        crop = cut(shown.image, shown.spacing, shown.center, 2, 1.25)
        # The crop's two slices lie half a step of 12.5 HU … 10 HU a slice below and above.
        np.testing.assert_allclose(crop[:, 0, 0], [299, 309], atol=1.0)


def test_scanners_blur_sharpen_shift_and_add_noise_as_asked() -> None:
    random = np.random.default_rng(2)
    noise = Noise(random)
    flat = Piece(np.zeros((20, 80, 80), np.float32), (1.0, 0.7, 0.7), (10, 40, 40))
    noisy = seen(flat, Scanner(noise_hu=30.0), noise, random).image
    assert noisy.std() == pytest.approx(30, rel=0.1)
    shifted = seen(flat, Scanner(shift_hu=12.0), noise, random).image
    np.testing.assert_array_equal(shifted, 12)
    edge = Piece(np.zeros((4, 40, 40), np.float32), (1.0, 0.7, 0.7), (2, 20, 20))
    edge.image[:, :, 20:] = 1000
    steep = {
        kernel: np.diff(seen(edge, Scanner(kernel_mm=kernel), noise, random).image[2, 20]).max()
        for kernel in (-0.7, 0.0, 0.7)
    }
    assert steep[0.7] < 500 < steep[0.0] < steep[-0.7]


def test_noise_is_of_unit_variance_and_independent_between_slices() -> None:
    random = np.random.default_rng(3)
    part = Noise(random).part((40, 300, 100), random)
    assert part.shape == (40, 300, 100)
    assert part.std() == pytest.approx(1, abs=0.1)
    assert abs(np.mean(part[1:] * part[:-1])) < 0.05
    assert np.mean(part[:, :, 1:] * part[:, :, :-1]) > 0.2


def test_turning_names_the_last_three_axes() -> None:
    crop = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    np.testing.assert_array_equal(turned(crop, (0, 2)), crop[::-1, :, ::-1])
    np.testing.assert_array_equal(turned(crop, ()), crop)


def test_a_piece_says_where_its_place_is() -> None:
    image = np.zeros((30, 40, 50), np.int16)
    image[3, 20, 48] = 500
    piece = piece_of(image, (1.0, 1.0, 1.0), (3.0, 20.0, 48.0), 6.0)
    z, y, x = (int(at) for at in piece.center)
    assert piece.image[z, y, x] == 500
    assert piece.image[0, y, x] == AIR_HU
    assert min(n for n in piece.image.shape) >= 13


def test_a_ground_knows_depth_spots_and_what_to_leave_alone() -> None:
    made = make_ground(ball_host(ignore_at=(48, 80, 80)), np.random.default_rng(0))
    mm = (made.places[:, :3] + made.start) * SPACING
    middle = np.array([59.375, 55.65, 55.65])
    from_middle = np.linalg.norm(mm - middle, axis=1)
    assert np.abs(made.places[:, 3] - (50 - from_middle)).max() < 2.0
    assert np.abs(made.places[:, 4] - from_middle).max() < 1.5
    spots = (made.spots[:, :3] + made.start) * SPACING
    inner = spots[np.linalg.norm(spots - middle, axis=1) < 40]
    assert len(inner) == 1
    assert np.linalg.norm(inner[0] - (60, 70, 35)) < 1.5


def test_a_host_without_lungs_is_refused() -> None:
    bare = ball_host()
    bare.lungs[:] = False
    with pytest.raises(ValueError, match="no lung"):
        make_ground(bare, np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_of_a_sample_has_the_planted_volume(drawer: Drawer, kind: Kind) -> None:
    for _ in range(3):
        sample = drawer.sample(drawer.planted(CROP, kind), CROP)
        volume = float(sample.total.sum()) * sample.step_mm**3
        assert volume == pytest.approx(sample.volume_mm3, rel=0.03)
        assert sample.step_mm == pytest.approx(max(0.5, 2.5 * sample.diameter_mm / 64))
        assert np.all(sample.solid <= sample.total + 1e-5)
        solid = float(sample.solid.sum())
        assert (solid == 0) == (kind == "ground_glass")
        if kind in ("solid", "calcified"):
            np.testing.assert_array_equal(sample.solid, sample.total)


def test_the_nodule_lies_in_the_middle_and_is_seen_there(drawer: Drawer) -> None:
    for _ in range(6):
        sample = drawer.sample(drawer.planted(CROP, "solid"), CROP)
        places = np.argwhere(sample.total > 0.5)
        np.testing.assert_allclose(places.mean(axis=0), 31.5, atol=2.5)
        assert np.median(sample.hu[sample.total > 0.8]) > LUNG_HU + 200


def test_the_centre_is_off_by_as_much_as_asked(drawer: Drawer) -> None:
    wanted = Wanted(size=64, step_mm=0.5, widest=2.5, shift_share=0.25, spread=0.15)
    off, sizes = [], []
    for _ in range(20):
        sample = drawer.sample(drawer.planted(wanted), wanted)
        weights = np.argwhere(sample.total > 0.3)
        off.append(
            float(np.linalg.norm(weights.mean(axis=0) - 31.5)) * sample.step_mm / sample.diameter_mm
        )
        sizes.append(sample.step_mm * 64 / 2.5 / sample.diameter_mm)
    assert 0.08 < np.mean(off) < 0.25
    assert max(off) < 0.35
    assert np.std([size for size in sizes if size < 1.5]) > 0.02


def test_the_same_seed_gives_the_same_samples(ground: Ground) -> None:
    shapes = [ball_shape(d) for d in range(3, 30)]
    first, second = (Drawer([ground], shapes, seed=9).stream(CROP, uses=2, held=2) for _ in "ab")
    for _ in range(4):
        one, other = next(first), next(second)
        np.testing.assert_array_equal(one.hu, other.hu)
        np.testing.assert_array_equal(one.total, other.total)


def test_a_stream_shows_a_nodule_as_often_as_asked(drawer: Drawer) -> None:
    stream = drawer.stream(CROP, uses=3, held=1)
    diameters = [next(stream).diameter_mm for _ in range(6)]
    assert diameters[0] == diameters[1] == diameters[2]
    assert diameters[3] == diameters[4] == diameters[5] != diameters[0]


def test_what_a_host_shows_is_cut_without_a_nodule(ground: Ground, drawer: Drawer) -> None:
    wanted = Wanted(size=40, step_mm=0.8)
    deep = ground.places[np.argmax(ground.places[:, 3])]
    crop = drawer.bare(ground, deep[:3], wanted)
    assert crop.shape == (40, 40, 40)
    assert np.median(crop[15:25, 15:25, 15:25]) == pytest.approx(LUNG_HU, abs=60)
