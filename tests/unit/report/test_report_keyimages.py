"""Key images show the right place the right way round."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lungmesh.mesh.geometry import Grid
from lungmesh.report.keyimages import PIXELS, Box, box_around, field_mm, key_images
from tests.unit.report.conftest import Exam

Floats = npt.NDArray[np.float64]
SIDE = 60
CENTER = np.array([12.0, -7.0, 33.0])
ORIENTATIONS = [
    (order, signs)
    for order in permutations(range(3))
    for signs in [(a, b, c) for a in (1, -1) for b in (1, -1) for c in (1, -1)]
]


def grid_with(order: tuple[int, ...], signs: tuple[int, ...]) -> Grid:
    """A grid of 2 mm voxels about CENTER whose axes run along LPS in any order and sense."""
    direction = np.zeros((3, 3))
    for axis, (along, sign) in enumerate(zip(order, signs, strict=True)):
        direction[along, axis] = sign
    origin = CENTER - direction @ np.full(3, SIDE - 1.0)
    return Grid(
        size=(SIDE, SIDE, SIDE),
        spacing=(2.0, 2.0, 2.0),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple((float(r[0]), float(r[1]), float(r[2])) for r in direction),
    )


def drawn(
    exam: Exam, grid: Grid, *spots: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.uint8]]:
    """Key images of a nodule at CENTER, with bright balls elsewhere in the volume."""
    axes = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    places = grid.to_lps(np.stack(axes[::-1], axis=-1))
    hu = np.full(grid.shape, -1300, np.int16)
    for spot in spots:
        hu[np.linalg.norm(places - spot, axis=-1) <= 4] = 400
    mask = (np.linalg.norm(places - CENTER, axis=-1) <= 6).astype(np.uint8)
    nodule = replace(
        exam.content.nodules[0],
        center_lps_mm=tuple(CENTER.tolist()),
        long_axis_mm=12.0,
        long_axis_lps_mm=(),
        short_axis_lps_mm=(),
    )
    box = Box(hu, (0, 0, 0))
    return {
        plane: np.asarray(Image.open(io.BytesIO(png)))
        for plane, png in key_images(nodule, box, Box(mask, (0, 0, 0)), grid)
    }


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(ORIENTATIONS))
def test_left_is_right_of_the_image_and_posterior_and_inferior_are_below(
    exam: Exam, orientation: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    left, posterior, superior = np.eye(3) * 20
    grid = grid_with(*orientation)
    pictures = drawn(exam, grid, CENTER + left, CENTER + posterior, CENTER + superior)
    for plane, bright, dark in (
        ("axial", [(0.5, 0.75), (0.75, 0.5)], [(0.5, 0.25), (0.25, 0.5)]),
        ("coronal", [(0.5, 0.75), (0.25, 0.5)], [(0.5, 0.25), (0.75, 0.5)]),
        ("sagittal", [(0.5, 0.75), (0.25, 0.5)], [(0.5, 0.25), (0.75, 0.5)]),
    ):
        for row, column in bright:
            assert pictures[plane][int(row * PIXELS), int(column * PIXELS)].min() > 200
        for row, column in dark:
            assert pictures[plane][int(row * PIXELS), int(column * PIXELS)].max() < 50


def test_the_outline_runs_around_the_nodule(exam: Exam) -> None:
    pictures = drawn(exam, grid_with((0, 1, 2), (1, 1, 1)))
    middle = PIXELS // 2
    for picture in pictures.values():
        # Below the words in the corner.
        yellow = np.all(picture == (255, 214, 10), axis=-1)
        yellow[:60, :200] = False
        rows, columns = np.nonzero(yellow)
        radius = np.hypot(rows - middle, columns - middle) / PIXELS * 80
        assert 4.5 < radius.min() <= radius.max() < 8.5


def test_the_same_nodule_gives_the_same_bytes(exam: Exam) -> None:
    nodule = exam.content.nodules[0]
    hu = Box(np.full(exam.grid.shape, -800, np.int16), (0, 0, 0))
    first, second = (list(key_images(nodule, hu, exam.masks[1], exam.grid)) for _ in range(2))
    assert first == second


def test_the_field_grows_with_the_nodule(exam: Exam) -> None:
    small = replace(exam.content.nodules[0], long_axis_mm=6.0)
    large = replace(exam.content.nodules[0], long_axis_mm=60.0)
    assert field_mm(small) == 80
    assert field_mm(large) == 156


@pytest.mark.parametrize("center", [(-100.0, -20.0, -150.0), (1e4, 0, 0)])
def test_a_nodule_at_the_edge_still_has_a_box_inside_the_volume(
    exam: Exam, center: tuple[float, float, float]
) -> None:
    nodule = replace(exam.content.nodules[0], center_lps_mm=center)
    for part, extent in zip(box_around(nodule, exam.grid), exam.grid.shape, strict=True):
        assert 0 <= part.start < part.stop <= extent
