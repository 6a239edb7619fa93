"""Lungs made by rule: what they hold, in HU and in mm."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.simulation.hosts import Host
from models.training.simulation.procedural import procedural_lung
from models.training.simulation.trees import Tubes, grow, paint

SHAPE = (72, 80, 64)


@pytest.fixture(scope="module")
def lungs() -> list[Host]:
    return [procedural_lung(SHAPE, seed) for seed in range(6)]


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others() -> None:
    one, same, other = (procedural_lung((48, 48, 48), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.hu, same.hu)
    np.testing.assert_array_equal(one.lungs, same.lungs)
    assert (one.hu != other.hu).mean() > 0.5


def test_a_host_holds_arrays_of_the_asked_size_and_nothing_to_ignore(lungs: list[Host]) -> None:
    for host in lungs:
        assert host.hu.shape == host.lungs.shape == host.ignore.shape == SHAPE
        assert host.hu.dtype == np.int16
        assert host.lungs.dtype == bool
        assert not host.ignore.any()
        assert host.spacing == (1.0, 1.0, 1.0)


def test_lung_is_aerated_and_what_surrounds_it_is_body(lungs: list[Host]) -> None:
    for host in lungs:
        assert host.lungs.mean() > 0.25
        assert -980 < np.median(host.hu[host.lungs]) < -700
        outside = host.hu[~host.lungs & (host.hu > -950)]
        assert -110 < np.median(outside) < 300


def test_vessels_are_bright_and_few(lungs: list[Host]) -> None:
    for host in lungs:
        bright = (host.hu > -400)[host.lungs].mean()
        assert 0.001 < bright < 0.12


def test_a_painted_tube_has_the_volume_of_a_cylinder() -> None:
    start = np.array([[10.0, 20.0, 19.6]], np.float32)
    end = np.array([[30.0, 20.0, 26.3]], np.float32)
    for radius, spacing, within in ((3.0, 1.0, 0.03), (1.0, 0.5, 0.06), (0.4, 1.0, 0.35)):
        size = round(40 / spacing)
        cover = np.zeros((size, size, size), np.float32)
        tubes = Tubes(start, end, np.array([radius], np.float32))
        paint(cover, tubes, np.zeros(3, np.float32), spacing)
        length = float(np.linalg.norm(end - start))
        expected = np.pi * radius**2 * (length + 4 / 3 * radius)
        assert cover.max() <= 1
        assert float(cover.sum()) * spacing**3 == pytest.approx(expected, rel=within)


def test_tubes_painted_twice_do_not_add_up() -> None:
    tubes = Tubes(
        np.full((2, 3), 8, np.float32), np.full((2, 3), 12, np.float32), np.full(2, 2, np.float32)
    )
    once, twice = np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.float32)
    paint(once, Tubes(tubes.start[:1], tubes.end[:1], tubes.radius[:1]), np.zeros(3), 1.0)
    paint(twice, tubes, np.zeros(3), 1.0)
    np.testing.assert_array_equal(once, twice)


def test_a_tree_reaches_its_ends_and_keeps_murrays_law() -> None:
    random = np.random.default_rng(5)
    ends = random.uniform(-40, 40, (64, 3)).astype(np.float32)
    wide = (np.full(3, -500, np.float32), np.full(3, 500, np.float32))
    tubes = grow(np.array([0, 0, -60], np.float32), ends, wide, 0.4, random)
    assert tubes.radius.max() == pytest.approx(0.4 * 64 ** (1 / 3), rel=1e-5)
    assert tubes.radius.min() == pytest.approx(0.4, rel=1e-5)
    away = np.linalg.norm(ends[:, None] - tubes.end[None], axis=-1).min(axis=1)
    assert away.max() < 1e-3
    # Cubes of the radii of the tubes that leave a fork add up to that of the one that enters it.
    fork = tubes.end[np.flatnonzero(np.diff(tubes.radius))[0]]
    leaving = tubes.radius[np.linalg.norm(tubes.start - fork, axis=1) < 1e-4]
    entering = tubes.radius[np.linalg.norm(tubes.end - fork, axis=1) < 1e-4]
    assert len(leaving) == 2
    assert (leaving**3).sum() == pytest.approx(float(entering[0]) ** 3, rel=1e-4)


def test_branches_out_of_the_window_are_left_out() -> None:
    random = np.random.default_rng(5)
    ends = random.uniform(-40, 40, (200, 3)).astype(np.float32)
    window = (np.full(3, 20, np.float32), np.full(3, 40, np.float32))
    root = np.array([0, 0, -60], np.float32)
    some = grow(root, ends, window, 0.4, np.random.default_rng(1))
    every = grow(root, ends, (window[0] - 500, window[1] + 500), 0.4, np.random.default_rng(1))
    assert 0 < len(some.radius) < 0.5 * len(every.radius)


def test_a_bronchus_runs_beside_its_artery_without_touching_it() -> None:
    artery = Tubes(
        np.zeros((1, 3), np.float32), np.array([[20, 0, 0]], np.float32), np.full(1, 2, np.float32)
    )
    bronchus = artery.beside(np.array([0, 1, 0], np.float32), np.full(1, 1.5, np.float32), 1.0)
    assert bronchus.start[0, 1] > 2 + 1.5
    assert len(artery.beside(np.array([0, 1, 0], np.float32), artery.radius, 3.0).radius) == 0
