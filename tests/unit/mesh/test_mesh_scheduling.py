"""Lanes and watermarks for any order of arrival; the breaker."""

from __future__ import annotations

from collections import defaultdict

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lungmesh.mesh.bus.port import Record
from lungmesh.mesh.bus.watermark import Watermark
from lungmesh.mesh.failures import Breaker
from lungmesh.mesh.lanes import PATIENCE, LaneScheduler

LANES = ("stat", "routine", "backfill")


def test_stat_goes_first() -> None:
    queue: LaneScheduler[str] = LaneScheduler()
    for lane in reversed(LANES):
        queue.push(lane, lane, key=lane)
    assert [queue.pop() for _ in range(4)] == [*LANES, None]


@given(st.lists(st.sampled_from(LANES), min_size=1, max_size=60))
def test_every_item_comes_out_once_and_a_lane_in_its_own_order(lanes: list[str]) -> None:
    queue: LaneScheduler[tuple[str, int]] = LaneScheduler()
    for number, lane in enumerate(lanes):
        queue.push(lane, (lane, number), key=number)
    out = []
    while (item := queue.pop()) is not None:
        out.append(item)
        queue.release(item[1])
    assert sorted(number for _, number in out) == list(range(len(lanes)))
    for lane in LANES:
        numbers = [number for name, number in out if name == lane]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(("lane", "most"), [("routine", PATIENCE), ("backfill", 2 * PATIENCE)])
def test_a_flood_of_stat_starves_no_lane(lane: str, most: int) -> None:
    queue: LaneScheduler[str] = LaneScheduler()
    for number in range(5):
        queue.push(lane, lane, key=f"{lane}{number}")
    waited, runs = 0, []
    for number in range(100):
        queue.push("stat", "stat", key=number)  # one more stat for each that is taken
        if queue.pop() == lane:
            runs.append(waited)
            waited = 0
        else:
            waited += 1
    assert len(runs) == 5
    assert max(runs) <= most


@given(st.data())
def test_with_all_lanes_full_each_gets_its_turn_and_stat_gets_most(data: st.DataObject) -> None:
    queue: LaneScheduler[str] = LaneScheduler()
    for lane in data.draw(st.permutations(LANES)):
        for number in range(200):
            queue.push(lane, lane, key=f"{lane}{number}")
    first = [queue.pop() for _ in range(45)]
    counts = {lane: first.count(lane) for lane in LANES}
    assert counts["stat"] > counts["routine"] > counts["backfill"] >= 45 // (2 * PATIENCE + 2)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(LANES)), max_size=40))
def test_items_of_one_key_come_one_at_a_time_and_in_order(items: list[tuple[str, str]]) -> None:
    queue: LaneScheduler[tuple[str, int]] = LaneScheduler()
    for number, (key, lane) in enumerate(items):
        queue.push(lane, (key, number), key=key)
    seen: dict[str, list[int]] = defaultdict(list)
    while len(queue):
        taken = []
        while (item := queue.pop()) is not None:
            taken.append(item)
        assert taken, "a key that was released moves on"
        assert len({key for key, _ in taken}) == len(taken), "no two of a key at once"
        for key, number in taken:
            seen[key].append(number)
            queue.release(key)
    for key, numbers in seen.items():
        assert numbers == [number for number, (name, _) in enumerate(items) if name == key]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30),
    st.integers(0, 5),
)
def test_dropped_items_leave_no_key_blocked(items: list[tuple[str, bool]], taken: int) -> None:
    queue: LaneScheduler[tuple[str, bool, int]] = LaneScheduler()
    for number, (key, goes) in enumerate(items):
        queue.push("routine", (key, goes, number), key=key)
    out = [item for _ in range(taken) if (item := queue.pop()) is not None]
    dropped = queue.drop(lambda item: item[1])
    for key, _, _ in out:
        queue.release(key)
    while (item := queue.pop()) is not None:
        out.append(item)
        queue.release(item[0])
    assert sorted(number for _, _, number in out + dropped) == list(range(len(items)))
    assert len(queue) == 0


def record(offset: int) -> Record:
    return Record("topic", 0, offset, b"", b"")


@given(st.sets(st.integers(0, 50), min_size=1), st.randoms(use_true_random=False))
def test_the_commit_never_passes_an_unfinished_record(offsets: set[int], random: object) -> None:
    mark = Watermark()
    records = [record(offset) for offset in sorted(offsets)]
    for item in records:
        mark.add(item)
    waiting = list(records)
    random.shuffle(waiting)  # type: ignore[attr-defined]
    while waiting:
        mark.finish(waiting.pop())
        left = sorted(item.offset for item in waiting)
        finished = [item.offset for item in records if not left or item.offset < left[0]]
        assert mark.commit == (finished[-1] + 1 if finished else None)
        assert mark.in_work == len(waiting)


def test_the_end_of_an_old_delivery_does_not_count_for_the_new_record_of_its_offset() -> None:
    """After the broker lost its memory, offset 0 is another event: it must not be skipped."""
    mark = Watermark()
    old, new = record(0), record(0)
    mark.add(new)
    mark.finish(old)
    assert mark.commit is None
    assert mark.in_work == 1
    mark.finish(new)
    assert mark.commit == 1


def test_an_end_that_comes_before_its_offset_is_delivered_again_is_forgotten() -> None:
    mark = Watermark()
    mark.add(record(0))
    mark.finish(record(5))
    for offset in range(1, 7):
        mark.add(record(offset))
    assert mark.in_work == 7


def test_an_abandoned_record_holds_the_commit_but_is_not_in_work() -> None:
    mark = Watermark()
    first, second = record(0), record(1)
    mark.add(first)
    mark.add(second)
    mark.abandon(first)
    mark.finish(second)
    assert mark.commit is None
    assert mark.in_work == 0


def test_the_breaker_opens_after_a_run_or_a_share_of_failures() -> None:
    run = Breaker(run=3)
    run.failed()
    run.failed()
    run.succeeded()
    run.failed()
    run.failed()
    assert not run.open
    run.failed()
    assert run.open
    share = Breaker(run=100, share=0.5, window=10)
    for _ in range(4):
        share.failed()
        share.succeeded()
    share.failed()
    assert not share.open
    share.failed()
    assert share.open
