"""Boxes of the family retinanet, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lungmesh.detection.family import Tile
from lungmesh.detection.retinanet import Boxes, Level, RetinaNet, decoded, without_doubles

ANCHORS = np.array([[4.0, 8.0, 6.0], [2.0, 2.0, 2.0]])
LEVEL = Level(stride=(2, 4, 4), first=(0, 3, 3), anchors=ANCHORS)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Two anchors on 4 x 4 x 4 voxels; nothing is found."""
    return np.full((2, 4, 4, 4), -20, np.float16), np.zeros((12, 4, 4, 4), np.float16)


def test_a_box_stands_where_anchor_and_code_put_it() -> None:
    logit, delta = maps()
    logit[0, 1, 2, 3] = 0
    delta[:6, 1, 2, 3] = 0.5, 0, -0.25, math.log(2), 0, 0
    boxes = decoded(LEVEL, logit, delta, least_score=0.02, most=10)
    assert boxes.score == pytest.approx([0.5])
    # Anchor at (2, 11, 15), moved by half of 4 and a quarter of 6.
    assert boxes.center[0] == pytest.approx([4, 11, 13.5], abs=1e-3)
    assert boxes.edges[0] == pytest.approx([8, 8, 6], rel=1e-3)


def test_each_anchor_reads_its_own_channels() -> None:
    logit, delta = maps()
    logit[1, 0, 0, 0] = 3
    delta[6:, 0, 0, 0] = 0, 0.5, 0, 0, 0, math.log(3)
    boxes = decoded(LEVEL, logit, delta, least_score=0.02, most=10)
    assert boxes.center[0] == pytest.approx([0, 4, 3], abs=1e-3)
    assert boxes.edges[0] == pytest.approx([2, 2, 6], rel=1e-3)


def test_growth_has_a_limit_and_no_number_is_no_box() -> None:
    logit, delta = maps()
    logit[0, 0, 0, :2] = 5, 6
    delta[3, 0, 0, 0] = 100
    delta[0, 0, 0, 1] = np.nan
    boxes = decoded(LEVEL, logit, delta, least_score=0.02, most=10)
    assert len(boxes.score) == 1
    assert boxes.edges[0, 0] == pytest.approx(4 * 1000 / 16)


def test_the_best_are_kept_in_falling_order() -> None:
    logit, delta = maps()
    logit[0, 0, 0] = 1, 3, 2, 4
    boxes = decoded(LEVEL, logit, delta, least_score=0.02, most=3)
    assert boxes.center[:, 2] == pytest.approx([15, 7, 11])
    assert (np.diff(boxes.score) < 0).all()


def test_of_two_boxes_that_overlap_enough_the_better_stays() -> None:
    # Cubes of edge 4, apart by 1, 2 and 20 along x: overlaps 0.6, 1/3 and 0.
    center = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 20]])
    boxes = Boxes(center, np.full((4, 3), 4.0), np.array([0.9, 0.8, 0.7, 0.6]))
    assert without_doubles(boxes, 0.5, 10).score.tolist() == [0.9, 0.7, 0.6]
    assert without_doubles(boxes, 0.3, 10).score.tolist() == [0.9, 0.6]
    assert without_doubles(boxes, 0.7, 2).score.tolist() == [0.9, 0.8]


def family() -> RetinaNet:
    return RetinaNet.of(
        {
            "grid_mm": [1.25, 0.7, 0.7],
            "tile": [8, 16, 16],
            "halo": 2,
            "multiple": 4,
            "fixed": True,
            "strides": [[2, 4, 4]],
            "firsts": [[0, 3, 3]],
            "anchors": [ANCHORS.tolist()],
            "least_score": 0.02,
            "overlap": 0.22,
        }
    )


def test_a_tile_answers_for_its_core_and_on_the_working_grid() -> None:
    logit, delta = maps()
    # At (2, 7, 7), in the core, and at (0, 3, 3), in the halo along z.
    logit[0, 1, 1, 1], logit[0, 0, 0, 0] = 2, 5
    tile = Tile(
        hu=np.zeros((8, 16, 16), np.int16),
        start=(10, -2, 20),
        core=(slice(2, 6), slice(2, 14), slice(2, 14)),
    )
    (found,) = family().candidates((40, 40, 40), [(tile, {"logit_0": logit, "delta_0": delta})])
    assert found.place == pytest.approx((12, 5, 27))
    assert found.score == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-3)
    assert found.diameter_mm == pytest.approx((4 * 1.25 + 8 * 0.7 + 6 * 0.7) / 3, rel=1e-3)


def test_the_outputs_of_every_level_are_asked_for() -> None:
    assert family().outputs == ("logit_0", "delta_0")
