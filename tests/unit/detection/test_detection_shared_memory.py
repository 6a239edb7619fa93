"""Regions of shared memory are given back, also to a Triton that is slow to let them go."""

from __future__ import annotations

import logging

import pytest
from tritonclient.utils import InferenceServerException

from lungmesh.detection.shared_memory import Slot


class Peer:
    """Triton's side of the register: says "in use" so many times before it lets a region go."""

    def __init__(self, in_use: int) -> None:
        self.mapped: dict[str, int] = {}
        self._in_use = in_use

    async def register_system_shared_memory(self, name: str, key: str, size: int) -> None:
        self.mapped[name] = size

    async def unregister_system_shared_memory(self, name: str) -> None:
        if self._in_use > 0:
            self._in_use -= 1
            raise InferenceServerException(
                f"Cannot unregister shared memory region '{name}', it is currently in use.",
                "StatusCode.INTERNAL",
            )
        del self.mapped[name]


async def test_a_region_that_grows_is_let_go_once_triton_is_done_with_it() -> None:
    peer = Peer(in_use=3)
    slot = Slot(peer)
    await slot.map(1000)
    await slot.map(5000)
    assert list(peer.mapped.values()) == [5000]
    await slot.close()
    assert peer.mapped == {}


async def test_one_that_stays_in_use_holds_up_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = Peer(in_use=1000)
    slot = Slot(peer)
    await slot.map(1000)
    with caplog.at_level(logging.WARNING):
        await slot.map(5000)
    assert sorted(peer.mapped.values()) == [1000, 5000]
    assert "in use" in caplog.text
