"""Pairs of nodules and what became of the others, on layings given by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.followup.laying import Laying
from lungmesh.followup.matching import Found, Matches, match
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.followup_pb2 import RegistrationMethod
from lungmesh.v1.nodule_pb2 import NoduleType

SOLID = nodule_pb2.NODULE_TYPE_SOLID
GLASS = nodule_pb2.NODULE_TYPE_NON_SOLID
CALCIFIED = nodule_pb2.NODULE_TYPE_CALCIFIED
SAME, NEW, SPLIT, MERGED, NOT_EVALUABLE = (
    nodule_pb2.MATCH_OUTCOME_SAME,
    nodule_pb2.MATCH_OUTCOME_NEW,
    nodule_pb2.MATCH_OUTCOME_SPLIT,
    nodule_pb2.MATCH_OUTCOME_MERGED,
    nodule_pb2.MATCH_OUTCOME_NOT_EVALUABLE,
)
AFFINE = followup_pb2.REGISTRATION_METHOD_AFFINE
DEFORMABLE = followup_pb2.REGISTRATION_METHOD_DEFORMABLE
LOBES = followup_pb2.REGISTRATION_METHOD_LOBES


def nodule(
    name: str, x: float, mm: float = 8.0, kind: NoduleType.ValueType = SOLID, lobe: int = 1
) -> Found:
    """A ball on the x axis."""
    return Found(name, (x, 0.0, 0.0), mm, math.pi * mm**3 / 6, kind, lobe)


def laid(
    then: Sequence[Found],
    now: Sequence[Found],
    method: RegistrationMethod.ValueType = DEFORMABLE,
    hidden: Sequence[str] = (),
) -> Laying:
    """Two exams on top of each other; what is `hidden` lies outside the other exam."""
    return Laying(
        method=method,
        dice=0.97,
        inverse_error_mm=0.5,
        earlier_places={one.nodule_id: one.center for one in then},
        earlier_visible={one.nodule_id: one.nodule_id not in hidden for one in then},
        current_visible={one.nodule_id: one.nodule_id not in hidden for one in now},
    )


def pairs(found: Matches) -> dict[str, str]:
    """Earlier id by current id."""
    return {pair.current_id: pair.earlier_id for pair in found.pairs}


def test_near_neighbours_are_paired_by_the_smallest_sum_not_by_greed() -> None:
    # Greed would take b1-a2 (4 mm) and leave a1 and b2 alone.
    then, now = [nodule("a1", 0), nodule("a2", 9)], [nodule("b1", 5), nodule("b2", 14)]
    assert pairs(match(then, now, laid(then, now))) == {"b1": "a1", "b2": "a2"}


def test_far_or_far_too_large_is_another_nodule() -> None:
    for then, now in (
        ([nodule("a", 0)], [nodule("b", 30)]),
        ([nodule("a", 0, 4)], [nodule("b", 1, 20)]),
    ):
        found = match(then, now, laid(then, now))
        assert not found.pairs
        assert found.outcomes == {"b": NEW}
        assert found.resolved == ("a",)


def test_a_nodule_whose_place_the_other_exam_does_not_show_is_not_evaluable() -> None:
    then, now = [nodule("a", 0)], [nodule("b", 30)]
    found = match(then, now, laid(then, now, hidden=["a", "b"]))
    assert found.outcomes == {"b": NOT_EVALUABLE}
    assert found.not_evaluable == ("a",)
    assert not found.resolved


def test_the_gate_follows_the_method() -> None:
    then, now = [nodule("a", 0)], [nodule("b", 15)]
    assert not match(then, now, laid(then, now, DEFORMABLE)).pairs
    assert match(then, now, laid(then, now, AFFINE)).pairs


def test_unregistered_exams_pair_only_within_a_lobe() -> None:
    then, now = [nodule("a", 0)], [nodule("b", 20)]
    assert pairs(match(then, now, laid(then, now, LOBES))) == {"b": "a"}
    now = [nodule("b", 20, lobe=2)]
    assert not match(then, now, laid(then, now, LOBES)).pairs


def test_ground_glass_does_not_come_of_a_calcified_nodule_nearby() -> None:
    then = [nodule("a", 0, kind=CALCIFIED)]
    far, near = [nodule("b", 8, kind=GLASS)], [nodule("b", 1, kind=GLASS)]
    assert not match(then, far, laid(then, far)).pairs
    # In the very same place it is the same nodule, and one of the types is wrong.
    assert match(then, near, laid(then, near)).pairs


def test_of_two_candidates_the_one_of_like_size_and_type_is_taken() -> None:
    then = [nodule("a", 0, 8)]
    now = [nodule("small", 3, 3, GLASS), nodule("like", -3, 9)]
    found = match(then, now, laid(then, now))
    assert pairs(found) == {"like": "a"}
    assert found.outcomes == {"small": NEW, "like": SAME}


def test_two_halves_where_one_nodule_was_are_a_split() -> None:
    then = [nodule("a", 0, 12)]
    now = [nodule("left", -4, 9), nodule("right", 4, 9.5)]
    found = match(then, now, laid(then, now))
    assert found.outcomes == {"left": SPLIT, "right": SPLIT}
    assert found.related == {"left": ("a",), "right": ("a",)}
    assert pairs(found) == {"right": "a"}


def test_one_nodule_where_two_were_is_a_merger_though_it_grew() -> None:
    then = [nodule("left", -3.5, 6), nodule("right", 3.5, 6.5)]
    now = [nodule("b", 0, 11)]
    found = match(then, now, laid(then, now))
    assert found.outcomes == {"b": MERGED}
    assert found.related == {"b": ("left", "right")}
    assert pairs(found) == {"b": "right"}
    assert not found.resolved


def test_a_satellite_beside_a_stable_nodule_is_new_and_one_that_left_is_resolved() -> None:
    stable, satellite = nodule("a", 0, 10), nodule("c", 7, 4)
    found = match([stable], [nodule("b", 0, 10), satellite], laid([stable], [stable, satellite]))
    assert found.outcomes["c"] == NEW
    both = [stable, satellite]
    now = [nodule("b", 0, 10)]
    assert match(both, now, laid(both, now)).resolved == ("c",)


def test_a_link_by_hand_holds_against_every_gate() -> None:
    then, now = [nodule("a", 0, 4), nodule("c", 61)], [nodule("b", 60, 20)]
    found = match(then, now, laid(then, now), forced=[("a", "b"), ("nobody", "b")])
    assert pairs(found) == {"b": "a"}
    assert found.resolved == ("c",)


def test_links_by_hand_that_share_a_nodule_merge_or_split() -> None:
    then, now = [nodule("a", 0), nodule("c", 40, 6)], [nodule("b", 20)]
    merged = match(then, now, laid(then, now), forced=[("a", "b"), ("c", "b")])
    assert merged.outcomes == {"b": MERGED}
    assert merged.related == {"b": ("a", "c")}
    split = match(now, then, laid(now, then), forced=[("b", "a"), ("b", "c")])
    assert split.outcomes == {"a": SPLIT, "c": SPLIT}
    assert pairs(split) == {"a": "b"}


def test_nodules_parted_by_hand_are_neither_paired_nor_joined() -> None:
    then, now = [nodule("a", 0)], [nodule("b", 0)]
    assert match(then, now, laid(then, now), forbidden=[("a", "b")]).outcomes == {"b": NEW}
    then = [nodule("left", -3.5, 6), nodule("right", 3.5, 6.5)]
    now = [nodule("b", 0, 11)]
    found = match(then, now, laid(then, now), forbidden=[("left", "b")])
    assert found.outcomes == {"b": SAME}
    assert found.resolved == ("left",)


def test_without_earlier_nodules_all_are_new() -> None:
    assert match([], [nodule("b", 0)], laid([], [nodule("b", 0)])).outcomes == {"b": NEW}
    assert match([nodule("a", 0)], [], laid([nodule("a", 0)], [])).resolved == ("a",)


@given(
    xs=st.lists(st.integers(-100, 100), min_size=1, max_size=8, unique=True),
    moved=st.lists(st.floats(-4, 4), min_size=8, max_size=8),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_the_answer_does_not_depend_on_the_order_and_leaves_nobody_out(
    xs: list[int], moved: list[float], order: Random
) -> None:
    then = [nodule(f"t{i}", x) for i, x in enumerate(xs)]
    now = [nodule(f"n{i}", x + moved[i]) for i, x in enumerate(xs)]
    laying = laid(then, now)
    found = match(then, now, laying)
    order.shuffle(then)
    order.shuffle(now)
    again = match(then, now, laying)
    assert set(again.pairs) == set(found.pairs)
    assert again.outcomes == found.outcomes
    assert set(found.outcomes) == {one.nodule_id for one in now}
    accounted = (
        {pair.earlier_id for pair in found.pairs}
        | {one for many in found.related.values() for one in many}
        | set(found.resolved)
        | set(found.not_evaluable)
    )
    assert accounted == {one.nodule_id for one in then}
    assert len({pair.earlier_id for pair in found.pairs}) == len(found.pairs)


def test_a_nodule_that_the_laying_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError):
        match([nodule("a", 0)], [nodule("b", 0)], laid([], []))
