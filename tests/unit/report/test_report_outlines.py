"""Outlines enclose the mask's pixels and no other, in the image's and in the patient's space."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset

from lungmesh.mesh.geometry import Grid
from lungmesh.report.keyimages import Box
from lungmesh.report.outlines import Floats, outlines, own_slices, to_lps
from tests.unit.report.conftest import Exam


def enclosed(lines: list[Floats], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return which pixels' centres lie inside, by the even-odd rule."""
    y, x = np.mgrid[:rows, :columns] + 0.5
    inside = np.zeros((rows, columns), bool)
    for line in lines:
        for (x1, y1), (x2, y2) in pairwise(line):
            if y1 != y2:
                across = (y1 > y) != (y2 > y)
                inside ^= across & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


@given(arrays(np.uint8, (2, 6, 7), elements=st.integers(0, 2)))
def test_the_centres_enclosed_are_the_masks_pixels(voxels: npt.NDArray[np.uint8]) -> None:
    found = dict(outlines(Box(voxels, (3, 2, 5))))
    assert set(found) == {5 + int(z) for z in np.flatnonzero(voxels.any(axis=(1, 2)))}
    for z, lines in found.items():
        whole = np.zeros((10, 12), bool)
        whole[2:8, 3:10] = voxels[z - 5] > 0
        np.testing.assert_array_equal(enclosed(lines, 10, 12), whole)
        assert all((line[0] == line[-1]).all() for line in lines)


def test_a_hole_has_its_own_outline_or_none() -> None:
    voxels = np.ones((1, 5, 5), np.uint8)
    voxels[0, 2, 2] = 0
    ((_, with_hole),) = outlines(Box(voxels, (0, 0, 0)))
    ((_, filled),) = outlines(Box(voxels, (0, 0, 0)), filled=True)
    assert (len(with_hole), len(filled)) == (2, 1)
    assert enclosed(filled, 5, 5).all()


def test_an_outline_lies_where_the_volumes_grid_says(exam: Exam) -> None:
    mask = exam.masks[1]
    for z, lines in outlines(mask):
        for line in lines:
            index = np.column_stack([line - 0.5, np.full(len(line), z)])
            np.testing.assert_allclose(
                to_lps(line, exam.headers[z]), exam.grid.to_lps(index), atol=1e-6
            )


@pytest.mark.parametrize("turned", [(0, 1, 0, -1, 0, 0), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_it_lies_there_on_turned_images_too(turned: tuple[float, ...]) -> None:
    header = Dataset()
    header.ImageOrientationPatient = list(turned)
    header.ImagePositionPatient = [10, -20, 30]
    header.PixelSpacing = [0.7, 0.9]
    row, column = np.array(turned[:3]), np.array(turned[3:])
    normal = np.cross(row, column)
    grid = Grid(
        (9, 9, 1),
        (0.9, 0.7, 1.0),
        (10, -20, 30),
        tuple(map(tuple, np.column_stack([row, column, normal]).tolist())),
    )
    points = np.array([(0.5, 0.5), (3.5, 1.0)])
    expected = grid.to_lps(np.column_stack([points - 0.5, np.zeros(2)]))
    np.testing.assert_allclose(to_lps(points, header), expected, atol=1e-9)


def test_a_header_that_stands_for_a_missing_slice_is_not_the_slice(exam: Exam) -> None:
    headers = [*exam.headers[:3], exam.headers[2], *exam.headers[3:6]]
    assert list(own_slices(headers)) == [0, 1, 2, 4, 5, 6]
