"""The working grid keeps places and HU; tiles cover the lungs and nothing twice within one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lungmesh.detection.crops import crop
from lungmesh.detection.grid import AIR_HU, WorkingGrid, cut, tiles, working_grid
from lungmesh.detection.heatmap import Heatmap

Triple = tuple[float, float, float]
FAMILY = Heatmap((1.0, 1.0, 1.0), (64, 64, 64), 16, 2, 0.1)
EDGE_MM = 60.0


def blob(spacing: Triple, at: Triple) -> npt.NDArray[np.int16]:
    """Return air with a blurred ball at a place in mm from the middle."""
    shape = [int(EDGE_MM / mm) for mm in spacing]
    away = np.zeros(shape)
    for axis, (n, mm, place) in enumerate(zip(shape, spacing, at, strict=True)):
        line = ((np.arange(n) - (n - 1) / 2) * mm - place) ** 2
        away = away + line.reshape([-1 if a == axis else 1 for a in range(3)])
    hu: npt.NDArray[np.int16] = np.rint(AIR_HU + 1000 * np.exp(-away / 18)).astype(np.int16)
    return hu


@settings(max_examples=15, deadline=None)
@given(
    spacing=st.tuples(st.floats(0.6, 2.5), st.floats(0.5, 1.0), st.floats(0.5, 1.0)),
    mm=st.tuples(*[st.floats(0.7, 1.5)] * 3),
    at=st.tuples(*[st.floats(-12, 12)] * 3),
)
def test_a_place_on_the_working_grid_is_the_same_place_on_the_ct(
    spacing: Triple, mm: Triple, at: Triple
) -> None:
    hu = blob(spacing, at)
    grid = working_grid(hu, np.ones(hu.shape, np.uint8), spacing, mm)
    assert grid is not None
    seen = grid.to_full(ndimage.center_of_mass(grid.hu.astype(float) - AIR_HU))
    middle = (np.array(hu.shape) - 1) / 2
    assert np.abs((seen - middle) * spacing - at).max() < 0.25


def test_the_grid_shows_what_lies_around_the_lungs_as_it_is() -> None:
    hu = np.full((40, 60, 60), 55, np.int16)
    lobes = np.zeros(hu.shape, np.uint8)
    hu[15:25, 25:35, 25:35], lobes[15:25, 25:35, 25:35] = -860, 4
    grid = working_grid(hu, lobes, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    assert grid is not None
    assert grid.shape[0] == 40
    assert grid.hu.max() == 55
    assert (grid.hu[grid.sides == 2] == -860).all()
    assert (grid.sides == 2).sum() == 1000


def test_without_lungs_there_is_no_grid() -> None:
    hu = np.zeros((8, 8, 8), np.int16)
    assert working_grid(hu, np.zeros(hu.shape, np.uint8), (1, 1, 1), (1, 1, 1)) is None


def two_lungs(shape: tuple[int, int, int] = (75, 90, 130)) -> WorkingGrid:
    """Return two ellipsoids, one reaching the edge of the grid."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    sides = np.zeros(shape, np.uint8)
    for number, centre in ((1, 30), (2, 98)):
        inside = ((z - 20) / 34) ** 2 + ((y - 45) / 40) ** 2 + ((x - centre) / 28) ** 2 <= 1
        sides[inside] = number
    hu = np.random.default_rng(0).integers(-1000, 100, shape, np.int16)
    return WorkingGrid(hu, sides, (1, 1, 1), (1, 1, 1), (0, 0, 0))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("edge", [64, 96, 160])
def test_each_lung_voxel_and_its_margin_lie_in_a_core_and_cores_of_a_lung_do_not_overlap(
    edge: int, fixed: bool
) -> None:
    grid = two_lungs()
    family = replace(FAMILY, tile=(edge, edge, edge), fixed=fixed)
    covered = np.zeros([n + 160 for n in grid.shape], int)
    for tile in tiles(grid, family):
        assert all(size <= edge and size % 8 == 0 for size in tile.hu.shape)
        assert not fixed or tile.hu.shape == (edge, edge, edge)
        place = tuple(
            slice(at + side.start, at + side.stop)
            for at, side in zip(tile.start, tile.core, strict=True)
        )
        assert all(side.start % 8 == 0 and side.start >= 0 for side in place)
        covered[place] += 1
        assert np.array_equal(tile.hu, cut(grid.hu, list(tile.start), list(tile.hu.shape)))
    inside = covered[tuple(slice(n) for n in grid.shape)]
    assert (inside[grid.sides > 0] >= 1).all()
    near = ndimage.binary_dilation(grid.sides > 0, np.ones((3, 3, 3)), iterations=4)
    assert (inside[near] >= 1).all()
    # Only where the two lungs come near each other may two cores meet.
    assert (inside[:, :, :50] <= 1).all()
    assert (inside[:, :, 80:] <= 1).all()


def test_tiles_leave_out_what_is_far_from_the_lungs() -> None:
    grid = two_lungs()
    held = sum(
        float(np.prod([side.stop - side.start for side in tile.core]))
        for tile in tiles(grid, replace(FAMILY, tile=(56, 56, 56)))
    )
    assert held < 2.5 * (grid.sides > 0).sum()


def test_beyond_the_ct_there_is_air() -> None:
    hu = np.arange(27, dtype=np.int16).reshape(3, 3, 3)
    block = cut(hu, [-1, 1, 5], [3, 3, 2])
    assert (block == AIR_HU).all()
    block = cut(hu, [-1, 1, 1], [3, 3, 2])
    assert (block[0] == AIR_HU).all()
    assert np.array_equal(block[1:, :2], hu[:2, 1:, 1:])


@settings(max_examples=25, deadline=None)
@given(
    place=st.tuples(*[st.floats(8, 14)] * 3),
    mm=st.floats(0.3, 0.9),
    slope=st.tuples(*[st.floats(-20, 20)] * 3),
)
def test_a_crop_of_a_linear_field_is_that_field(place: Triple, mm: float, slope: Triple) -> None:
    spacing = (1.5, 0.7, 0.9)
    z, y, x = np.meshgrid(*(np.arange(24),) * 3, indexing="ij")
    hu = np.rint(slope[0] * z + slope[1] * y + slope[2] * x).astype(np.int16)
    cube = crop(hu, spacing, place, mm, 6)
    for index in ((0, 0, 0), (5, 2, 3), (3, 5, 0)):
        at = np.array(place) + (np.array(index) - 2.5) * mm / spacing
        # Both were rounded.
        assert cube[index] == pytest.approx(float(np.dot(slope, at)), abs=1.01)


def test_a_crop_that_leaves_the_ct_shows_air_there() -> None:
    cube = crop(np.zeros((10, 10, 10), np.int16), (1, 1, 1), (0, 5, 5), 1.0, 8)
    assert (cube[:3] == AIR_HU).all()
    # Half of it lies between the last slice and the air.
    assert (cube[3] == AIR_HU / 2).all()
    assert (cube[4:] == 0).all()
