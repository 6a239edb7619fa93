"""Registration by lungs, and pairs of nodules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.demo.case import organ_map
from lungmesh.followup.matching import Found, inside_view, match, to_current
from lungmesh.followup.registration import Exam, register
from lungmesh.mesh.geometry import Grid
from tests.support.mesh import require_embedded_wheels

PLACES = ((200, 300, 60), (300, 250, 80), (150, 350, 40), (370, 300, 50))


@pytest.fixture(scope="module")
def now() -> Exam:
    """The lungs of LIDC-IDRI-0001 (organ map of TotalSegmentator)."""
    require_embedded_wheels()
    labels, grid = organ_map()
    return Exam(np.where((labels >= 10) & (labels <= 14), labels - 9, 0).astype(np.uint8), grid)


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
        exam.lobes,
        Grid(
            grid.size,
            (x * scale, y * scale, z * scale),
            (float(origin[0]), float(origin[1]), float(origin[2])),
            tuple((row[0], row[1], row[2]) for row in rows),
        ),
    )


@pytest.mark.parametrize(
    ("shift", "scale", "turn"),
    [
        ((8.0, -12.0, 20.0), 1.0, 0.0),
        ((8.0, -12.0, 20.0), 1.05, 3.0),
        ((5.0, 5.0, -15.0), 0.92, -4.0),
    ],
)
def test_registration_finds_a_place_again_within_3_mm(
    now: Exam, shift: tuple[float, float, float], scale: float, turn: float
) -> None:
    then = moved(now, shift, scale, turn)
    registration = register(then, now)
    found = registration.to_current(then.grid.to_lps(PLACES))
    errors = np.linalg.norm(found - now.grid.to_lps(PLACES), axis=1)
    assert errors.max() < 3.0
    assert registration.dice > 0.95


def test_registration_gives_the_same_map_twice(now: Exam) -> None:
    then = moved(now, (4.0, 3.0, 2.0), 0.97, 2.0)
    first, second = register(then, now), register(then, now)
    assert np.array_equal(first.matrix, second.matrix)
    assert first.dice == second.dice


def test_exams_of_different_shape_are_told_by_the_overlap(now: Exam) -> None:
    half = now.lobes.copy()
    half[:, :, : half.shape[2] // 2] = 0
    half[: half.shape[0] // 2] = 0
    assert register(Exam(half, now.grid), now).dice < 0.80


def test_an_exam_without_lungs_cannot_be_registered(now: Exam) -> None:
    with pytest.raises(ValueError, match="no lung"):
        register(Exam(np.zeros_like(now.lobes), now.grid), now)


def test_without_a_registration_a_place_keeps_its_share_of_the_lungs_box(now: Exam) -> None:
    then = moved(now, (30.0, -20.0, 50.0), 1.1, 0.0)
    places = to_current(then.grid.to_lps(PLACES), then, now, None)
    assert np.linalg.norm(places - now.grid.to_lps(PLACES), axis=1).max() < 1.0


def test_a_place_outside_the_scan_is_not_in_view(now: Exam) -> None:
    assert inside_view(now.grid.to_lps((10, 10, 10)), now)
    assert not inside_view(now.grid.to_lps((10, 10, -5)), now)


def nodule(name: str, x: float, mm: float = 8.0, lobe: int = 1) -> Found:
    return Found(name, (x, 0.0, 0.0), mm, lobe)


def pairs(then: list[Found], current: list[Found], registered: bool = True) -> dict[str, str]:
    places = np.array([item.center for item in then])
    return {p.current_id: p.earlier_id for p in match(then, places, current, registered)}


def test_near_neighbours_are_paired_by_the_smallest_sum_not_by_greed() -> None:
    # Greed would take b1-a2 (4 mm) and leave b2 farther than its gate.
    assert pairs([nodule("a1", 0), nodule("a2", 9)], [nodule("b1", 5), nodule("b2", 14)]) == {
        "b1": "a1",
        "b2": "a2",
    }


def test_far_or_far_too_large_is_another_nodule() -> None:
    assert pairs([nodule("a", 0)], [nodule("b", 30)]) == {}
    assert pairs([nodule("a", 0, 4)], [nodule("b", 1, 20)]) == {}


def test_unregistered_exams_pair_only_within_a_lobe() -> None:
    assert pairs([nodule("a", 0)], [nodule("b", 20)], registered=False) == {"b": "a"}
    assert pairs([nodule("a", 0)], [nodule("b", 20, lobe=2)], registered=False) == {}


@given(
    xs=st.lists(st.floats(-100, 100), min_size=1, max_size=8, unique=True),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=50, deadline=None)
def test_pairs_do_not_depend_on_the_order_of_the_nodules(xs: list[float], order: object) -> None:
    then = [nodule(f"t{i}", x) for i, x in enumerate(xs)]
    current = [nodule(f"n{i}", x + 0.5) for i, x in enumerate(xs)]
    straight = sum(
        p.distance_mm for p in match(then, np.array([t.center for t in then]), current, True)
    )
    order.shuffle(then)  # type: ignore[attr-defined]
    again = match(then, np.array([t.center for t in then]), current, True)
    assert sum(p.distance_mm for p in again) == pytest.approx(straight, abs=0.05 * len(xs))
    assert len({p.earlier_id for p in again}) == len(again) == len({p.current_id for p in again})
