"""Two exams laid over each other: real lungs moved, cut and made up with vessels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from lungmesh.demo.case import organ_map
from lungmesh.followup.registration import Exam, register
from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import followup_pb2
from tests.support.mesh import require_embedded_wheels

PLACES = ((200, 300, 60), (300, 250, 80), (150, 350, 40), (370, 300, 50))
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def now() -> Exam:
    """The lungs of LIDC-IDRI-0001 (organ map of TotalSegmentator), without voxels."""
    require_embedded_wheels()
    labels, grid = organ_map()
    lobes = np.where((labels >= 10) & (labels <= 14), labels - 9, 0).astype(np.uint8)
    return Exam(None, lobes, grid)


def moved(exam: Exam, shift: tuple[float, float, float], scale: float, turn: float) -> Exam:
    """The same patient lying elsewhere, turned about the long axis (degrees), breathing less."""
    angle = np.deg2rad(turn)
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    grid = exam.grid
    x, y, z = grid.spacing
    origin = rotation @ (np.asarray(grid.origin) * scale) + shift
    rows = (rotation @ np.asarray(grid.direction)).tolist()
    return Exam(
        exam.hu,
        exam.lobes,
        Grid(
            grid.size,
            (x * scale, y * scale, z * scale),
            (float(origin[0]), float(origin[1]), float(origin[2])),
            tuple((row[0], row[1], row[2]) for row in rows),
        ),
    )


def cut(exam: Exam, first: int, last: int) -> Exam:
    """The slices first … last - 1 alone."""
    grid = exam.grid
    x, y, z = grid.to_lps((0, 0, first)).tolist()
    size = (grid.size[0], grid.size[1], last - first)
    hu = None if exam.hu is None else exam.hu[first:last]
    return Exam(hu, exam.lobes[first:last], Grid(size, grid.spacing, (x, y, z), grid.direction))


@pytest.mark.parametrize(
    ("shift", "scale", "turn"),
    [((8.0, -12.0, 20.0), 1.05, 3.0), ((5.0, 5.0, -15.0), 0.92, -4.0)],
)
def test_a_place_is_found_again_within_3_mm_by_the_lungs_surface_alone(
    now: Exam, shift: tuple[float, float, float], scale: float, turn: float
) -> None:
    then = moved(now, shift, scale, turn)
    laid = register(then, now)
    before, after = then.grid.to_lps(PLACES), now.grid.to_lps(PLACES)
    assert np.linalg.norm(laid.to_current(before) - after, axis=1).max() < 3.0
    assert np.allclose(laid.to_earlier(laid.to_current(before)), before, atol=1e-6)
    assert laid.dice > 0.95
    assert laid.method == followup_pb2.REGISTRATION_METHOD_AFFINE
    assert laid.likeness is None


def test_an_exam_that_ends_within_the_lungs_is_not_stretched_over_the_whole(now: Exam) -> None:
    slices = now.grid.size[2]
    for first, last in ((int(0.45 * slices), slices), (0, int(0.6 * slices))):
        then = cut(moved(now, (5.0, 5.0, -15.0), 0.98, 2.0), first, last)
        laid = register(then, now)
        places = [one for one in PLACES if first + 5 < one[2] < last - 5]
        before = then.grid.to_lps([(x, y, z - first) for x, y, z in places])
        errors = np.linalg.norm(laid.to_current(before) - now.grid.to_lps(places), axis=1)
        assert errors.max() < 5.0, (first, last)
        assert laid.dice > 0.9


def test_exams_of_different_shape_are_told_by_the_overlap(now: Exam) -> None:
    half = now.lobes.copy()
    half[:, :, : half.shape[2] // 2] = 0
    half[: half.shape[0] // 2] = 0
    assert register(Exam(None, half, now.grid), now).dice < 0.80


def test_an_exam_without_lungs_cannot_be_registered(now: Exam) -> None:
    with pytest.raises(ValueError, match="no lung"):
        register(Exam(None, np.zeros_like(now.lobes), now.grid), now)


def chest(seed: int, bend: Floats | None = None) -> Exam:
    """Two ellipsoids full of strands on voxels of 3 mm, bent by `bend` (mm, [3, z, y, x])."""
    shape = (80, 70, 100)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    if bend is not None:
        z, y, x = z + bend[0] / 3, y + bend[1] / 3, x + bend[2] / 3
    sides = [((z - 40) / 33) ** 2 + ((y - 35) / 25) ** 2 + ((x - at) / 19) ** 2 for at in (28, 72)]
    lobes = np.where(sides[0] < 1, 1, np.where(sides[1] < 1, 4, 0)).astype(np.uint8)
    strands = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.0)
    strands /= strands.std()
    strands = ndimage.map_coordinates(strands, [z, y, x], order=1, mode="nearest")
    hu = np.where(lobes > 0, -850 + 500 * (strands > 1.4), 40).astype(np.int16)
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return Exam(hu, lobes, Grid(shape[::-1], (3.0, 3.0, 3.0), (-150.0, -100.0, -120.0), axes))


def breath() -> Floats:
    """8 mm at the base, none at the apex, and a bend that no affine map takes up."""
    z, _, x = np.meshgrid(*(np.arange(n, dtype=float) for n in (80, 70, 100)), indexing="ij")
    depth = np.clip((73 - z) / 66, 0, 1.2)
    return np.array([-8 * depth**2, 3 * np.sin(x / 12), 2 * np.cos(z / 10)])


def test_vessels_lead_where_the_surface_does_not() -> None:
    bend = breath()
    then, now = chest(1), chest(1, bend)
    laid = register(then, now)
    assert now.hu is not None
    index = np.argwhere((now.lobes > 0) & (now.hu > -500))[::17]
    places = now.grid.to_lps(index[:, ::-1].astype(float))
    truth = places + np.stack([bend[(2 - k, *index.T)] for k in range(3)], axis=-1)
    back = np.linalg.norm(laid.to_earlier(places) - truth, axis=1)
    forth = np.linalg.norm(laid.to_current(truth) - places, axis=1)
    affine = np.linalg.norm(truth @ laid.matrix.T + laid.shift - places, axis=1)
    assert laid.method == followup_pb2.REGISTRATION_METHOD_DEFORMABLE
    assert np.median(back) < 1.5
    assert np.median(forth) < 1.5
    assert np.median(affine) > 1.2 * np.median(forth)
    assert laid.inverse_error_mm < 1.0
    assert laid.likeness is not None
    assert laid.likeness > 0.8


def test_a_lung_whose_lower_part_was_not_found_is_not_stretched() -> None:
    """The left lung's lower half has no lobes; the field of view ends within both lungs."""
    field_of_view = 20
    then, now = chest(1), chest(1, breath())
    lobes = now.lobes.copy()
    lobes[:35][lobes[:35] == 4] = 0
    now = cut(Exam(now.hu, lobes, now.grid), field_of_view, len(lobes))
    laid = register(then, now)
    index = np.argwhere(now.lobes == 4)[::97]
    places = now.grid.to_lps(index[:, ::-1].astype(float))
    index[:, 0] += field_of_view
    truth = places + np.stack([breath()[(2 - k, *index.T)] for k in range(3)], axis=-1)
    errors = np.linalg.norm(laid.to_current(truth) - places, axis=1)
    assert np.percentile(errors, 95) < 8.0
    assert laid.dice > 0.9
    assert laid.likeness is not None
    assert laid.likeness > 0.8


def test_one_lung_that_is_laid_ill_is_not_hidden_by_the_other() -> None:
    then, other, now = chest(1), chest(2), chest(1)
    assert then.hu is not None
    assert other.hu is not None
    hu = np.where(then.lobes == 4, other.hu, then.hu)
    laid = register(Exam(hu, then.lobes, then.grid), now)
    assert laid.likeness is not None
    assert laid.likeness < 0.5
    lobes = then.lobes.copy()
    lobes[:, :, 72:][lobes[:, :, 72:] == 4] = 0
    assert register(Exam(None, lobes, then.grid), now).dice < 0.8


def test_another_patients_vessels_are_told_by_their_likeness() -> None:
    laid = register(chest(2), chest(1))
    assert laid.dice > 0.95
    assert laid.likeness is not None
    assert laid.likeness < 0.6


def test_the_same_exams_give_the_same_map() -> None:
    then, now = chest(1), chest(1, breath())
    first, second = register(then, now), register(then, now)
    assert np.array_equal(first.matrix, second.matrix)
    assert first.deformation is not None
    assert second.deformation is not None
    assert np.array_equal(first.deformation.back.vectors, second.deformation.back.vectors)
    assert np.array_equal(first.deformation.forth.vectors, second.deformation.forth.vectors)
    assert (first.dice, first.likeness) == (second.dice, second.likeness)


def test_the_number_of_cores_changes_nothing_that_a_laying_keeps() -> None:
    then, now = chest(1), chest(1, breath())
    first = register(then, now)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1 if threads > 1 else 2)
    try:
        second = register(then, now)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    places = now.grid.to_lps(np.argwhere(now.lobes > 0)[::97, ::-1].astype(float))
    # Sums over threads differ in their last bits; a laying keeps a thousandth of a millimetre.
    assert np.abs(first.to_earlier(places) - second.to_earlier(places)).max() < 1e-4
    assert np.abs(first.to_current(places) - second.to_current(places)).max() < 1e-4
