"""Blocking calls of many events, a few to a thread's turn."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lungmesh.mesh.lots import LOT, Lots


async def test_each_caller_gets_its_own_answer_or_error() -> None:
    def half(number: int) -> int:
        if number % 2:
            raise ValueError(str(number))
        return number // 2

    lots = Lots(half)
    found = await asyncio.gather(*(lots.run(n) for n in range(10)), return_exceptions=True)
    assert found[::2] == [0, 1, 2, 3, 4]
    assert [str(error) for error in found[1::2]] == ["1", "3", "5", "7", "9"]


async def test_calls_of_one_turn_share_threads_and_slow_ones_run_side_by_side() -> None:
    together = threading.Barrier(2)
    first: list[int] = []

    def slow(number: int) -> int:
        if number % LOT == 0:
            first.append(threading.get_ident())
            together.wait(10)
        return threading.get_ident()

    lots = Lots(slow)
    threads = await asyncio.gather(*(lots.run(n) for n in range(2 * LOT)))
    assert set(threads[:LOT]) == {threads[0]}
    assert set(threads[LOT:]) == {threads[LOT]}
    assert len(set(first)) == 2


async def test_a_caller_that_gives_up_takes_nothing_from_the_others() -> None:
    lots: Lots[int, int] = Lots(lambda number: number)
    gone = asyncio.create_task(lots.run(1))
    stays = asyncio.create_task(lots.run(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 2
    with pytest.raises(asyncio.CancelledError):
        await gone
