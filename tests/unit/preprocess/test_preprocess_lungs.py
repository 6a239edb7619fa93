"""Lungs and lobes of a chest made of simple shapes, in every position and turn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lungmesh.mesh.geometry import Grid
from lungmesh.preprocess.coarse import Coarse, body_axes, coarsen
from lungmesh.preprocess.lobes import Fissure, find_lobes, judge_fissures
from lungmesh.preprocess.lungs import LEFT, RIGHT, find_lungs
from lungmesh.v1 import nodule_pb2
from tests.unit.preprocess.ct import IDENTITY

# 3 mm voxels: [z, y, x] with x to the left, y to the back, z to the head.
SHAPE = (90, 100, 130)
SPACING = (3.0, 3.0, 3.0)
LEFT_CENTRE, RIGHT_CENTRE = (45, 52, 90), (45, 52, 40)


def _ellipsoid(
    centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return (
        ((z - centre[0]) / radii[0]) ** 2
        + ((y - centre[1]) / radii[1]) ** 2
        + ((x - centre[2]) / radii[2]) ** 2
    ) <= 1


def _chest() -> npt.NDArray[np.int16]:
    hu = np.full(SHAPE, -1000, np.int16)
    body = np.broadcast_to(_ellipsoid((45, 50, 65), (1000, 44, 58)), SHAPE)
    hu[body] = 40
    hu[:, 97:99, 20:110] = 100  # the table
    hu[_ellipsoid(LEFT_CENTRE, (38, 34, 18))] = -850
    hu[_ellipsoid(RIGHT_CENTRE, (38, 34, 18))] = -850
    hu[45:, 48:53, 63:68] = -990  # the trachea, from the carina up
    hu[20:30, 20:26, 62:68] = -1000  # gas in the bowel
    return hu


def _coarse(hu: npt.NDArray[np.int16], direction: object = IDENTITY) -> Coarse:
    size = (hu.shape[2], hu.shape[1], hu.shape[0])
    return coarsen(hu, Grid(size, SPACING, (0.0, 0.0, 0.0), direction))  # type: ignore[arg-type]


def test_lungs_are_found_on_their_sides_without_trachea_table_or_bowel() -> None:
    hu = _chest()

    labels = find_lungs(_coarse(hu))

    assert labels[LEFT_CENTRE] == LEFT
    assert labels[RIGHT_CENTRE] == RIGHT
    for side, centre in ((LEFT, LEFT_CENTRE), (RIGHT, RIGHT_CENTRE)):
        truth = _ellipsoid(centre, (38, 34, 18))
        overlap = 2 * (truth & (labels == side)).sum() / (truth.sum() + (labels == side).sum())
        assert overlap > 0.97
    assert not labels[70, 50, 65], "trachea"
    assert not labels[25, 23, 65], "bowel"
    assert not labels[:, 95:].any(), "table"


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(False,) * 3, (True, False, False), (False, True, True)])
def test_the_turn_of_the_array_does_not_change_the_lungs(
    order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    hu = _chest()
    turns = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    turned = np.transpose(hu, order)[turns]
    matrix = np.zeros((3, 3))
    for array_axis, body_axis in enumerate(order):
        matrix[2 - body_axis, 2 - array_axis] = -1 if flips[array_axis] else 1

    coarse = _coarse(np.ascontiguousarray(turned), matrix.tolist())
    labels = find_lungs(coarse)

    assert np.array_equal(coarse.hu, _coarse(hu).hu)
    assert np.array_equal(
        coarse.to_full(labels), np.transpose(find_lungs(_coarse(hu)), order)[turns]
    )


def test_a_field_of_view_that_ends_amid_the_chest_wall_loses_no_slice() -> None:
    """Where the image ends the wall is 3 to 6 mm thick: once it was peeled from both sides."""
    hu = _chest()
    whole = find_lungs(_coarse(hu))

    cut = find_lungs(_coarse(hu[:, :, : LEFT_CENTRE[2] + 18 + 2]))

    wide = cut.shape[2]
    assert (cut == LEFT).sum() > 0.99 * (whole == LEFT).sum()
    assert ((cut > 0) == (whole[:, :, :wide] > 0)).mean() > 0.999


@pytest.mark.parametrize("centre", [LEFT_CENTRE, RIGHT_CENTRE])
def test_a_lung_in_two_pieces_keeps_both_and_gas_in_the_stomach_is_none(
    centre: tuple[int, int, int],
) -> None:
    hu = _chest()
    hu[40:46][_ellipsoid(centre, (38, 34, 18))[40:46]] = 20  # fluid, all through the lung
    stomach = _ellipsoid((6, 50, 65), (6, 20, 8))
    hu[stomach] = -1000

    labels = find_lungs(_coarse(hu))

    side = LEFT if centre is LEFT_CENTRE else RIGHT
    truth = _ellipsoid(centre, (38, 34, 18))
    for part in (slice(0, 40), slice(46, None)):
        assert (labels[part] == side)[truth[part]].mean() > 0.95
    other = LEFT + RIGHT - side
    assert (labels[truth] == other).sum() == 0
    assert not labels[stomach].any()


def test_a_nodule_of_30_mm_on_the_chest_wall_stays_inside() -> None:
    hu = _chest()
    nodule = _ellipsoid((45, 52, 90 + 14), (5, 5, 5))
    hu[nodule] = 40

    labels = find_lungs(_coarse(hu))

    inside = nodule & _ellipsoid(LEFT_CENTRE, (38, 34, 18))
    # Voxels of 3 mm; the rim of the dent is lost, its body is not.
    assert (labels[inside] == LEFT).mean() > 0.85


def test_lungs_that_touch_are_parted_near_the_middle() -> None:
    hu = _chest()
    hu[30:60, 30:40, 50:80] = -850
    hu[30:60, 30:40, 65] = -700

    labels = find_lungs(_coarse(hu))

    assert labels[LEFT_CENTRE] == LEFT
    assert labels[RIGHT_CENTRE] == RIGHT
    assert (labels[45, 35, 55], labels[45, 35, 75]) == (RIGHT, LEFT)


def test_a_body_without_lungs_gives_an_empty_mask() -> None:
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 10:90, 10:120] = 40

    assert not find_lungs(_coarse(hu)).any()


def test_every_lung_voxel_gets_a_lobe_of_its_side() -> None:
    coarse = _coarse(_chest())
    lungs = find_lungs(coarse)

    lobes, fissures = find_lobes(coarse, lungs)

    assert np.array_equal(lobes > 0, lungs > 0)
    assert set(np.unique(lobes[lungs == LEFT])) == {
        nodule_pb2.LOBE_LEFT_UPPER,
        nodule_pb2.LOBE_LEFT_LOWER,
    }
    assert set(np.unique(lobes[lungs == RIGHT])) == {
        nodule_pb2.LOBE_RIGHT_UPPER,
        nodule_pb2.LOBE_RIGHT_MIDDLE,
        nodule_pb2.LOBE_RIGHT_LOWER,
    }
    assert lobes[75, 52, 90] == nodule_pb2.LOBE_LEFT_UPPER
    assert lobes[15, 60, 40] == nodule_pb2.LOBE_RIGHT_LOWER
    assert {fissure.name for fissure in fissures} == {
        "right_oblique",
        "right_horizontal",
        "left_oblique",
    }


def test_a_fissure_that_the_image_shows_is_followed() -> None:
    hu = _chest()
    y = np.arange(SHAPE[1])
    # 9 mm under the usual place, with the usual slope.
    heights = np.rint(7 + 76 * (0.36 - 0.04 + 0.80 * ((y - 18) / 68 - 0.5))).astype(int)
    lung = _ellipsoid(LEFT_CENTRE, (38, 34, 18))
    for row, z in zip(y, heights, strict=True):
        if 0 <= z < SHAPE[0]:
            hu[z, row, :][lung[z, row, :]] = -700
    coarse = _coarse(hu)

    lobes, fissures = find_lobes(coarse, find_lungs(coarse))

    left = next(fissure for fissure in fissures if fissure.name == "left_oblique")
    assert left.fitted
    offsets: list[float] = []
    for level in range(35, 70):
        column = lobes[:, level, 90]
        upper = np.flatnonzero(column == nodule_pb2.LOBE_LEFT_UPPER)
        offsets.append(float(upper[0] - heights[level]))
    assert abs(np.mean(offsets)) < 1.5, "voxels of 3 mm"


def test_a_fissure_that_is_not_shown_is_named() -> None:
    findings = judge_fissures(
        [Fissure("left_oblique", 0.3, True), Fissure("right_horizontal", 0.01, False)]
    )

    assert [finding.code for finding in findings] == ["fissures"]
    assert "horizontal" in findings[0].message_en
    assert "left" not in findings[0].message_en
    assert not judge_fissures([Fissure("left_oblique", 0.3, True)])


def test_body_axes_of_a_tilted_grid_are_the_nearest() -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    grid = Grid((4, 5, 6), SPACING, (0, 0, 0), ((1, 0, 0), (0, c, -s), (0, s, c)))

    assert body_axes(grid) == ((0, 1, 2), (False, False, False))
