"""The candidate network on Triton: tiles out, responses back, several at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from lungmesh.detection.candidates import Response, Window
from lungmesh.detection.working import Tile, WorkingGrid, tiles
from lungmesh.mesh.errors import Unavailable

_MAX_BYTES = 64 * 1024 * 1024
_CHANNEL = [
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.max_send_message_length", _MAX_BYTES),
]
# What passes by itself: Triton is away, full, late, or still loading the model.
_PASSING = {
    "StatusCode.UNAVAILABLE",
    "StatusCode.DEADLINE_EXCEEDED",
    "StatusCode.RESOURCE_EXHAUSTED",
    "StatusCode.CANCELLED",
    "StatusCode.NOT_FOUND",
}


@dataclass(frozen=True)
class Plan:
    """How the network wants its input: read from Triton, where the model's card put it.

    Attributes
    ----------
    grid_mm
        Voxel edges of the working grids, each twice the one before.
    tile, halo
        Edge of a tile and of the part around its core that gives no answer, voxels.
    stride
        Voxels in one voxel of the answer, along each axis.
    sigma_voxels
        Scales, by the index that the network answers.
    """

    grid_mm: list[float]
    tile: int
    halo: int
    stride: int
    sigma_voxels: list[float]


class Network:
    """One version of the network on a connected Triton.

    Every method raises Unavailable when Triton is away or has not loaded the model.
    """

    def __init__(self, client: Any, address: str, name: str, version: str, seconds: float) -> None:
        self._client = client
        self._address = address
        self._name = name
        self._version = version
        self._seconds = seconds

    async def plan(self) -> Plan:
        """Ask Triton how the network wants its input."""
        answer = await self._ask(
            self._client.get_model_config(
                self._name, self._version, as_json=True, client_timeout=self._seconds
            )
        )
        parameters = answer["config"]["parameters"]
        return Plan(
            **{
                field: json.loads(parameters[field]["string_value"])
                for field in Plan.__dataclass_fields__
            }
        )

    async def respond(
        self,
        plan: Plan,
        grids: Sequence[WorkingGrid],
        in_flight: int,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> list[Response]:
        """Return the network's response on each working grid.

        Parameters
        ----------
        in_flight
            Tiles on their way at once.
        progress
            Called with the fraction of tiles done.
        """
        responses = [_empty(grid, plan) for grid in grids]
        work = list(_tiles(grids, plan))
        todo = iter(work)
        done = 0

        async def take() -> None:
            nonlocal done
            for level, tile in todo:
                value, scale = await self._infer(tile)
                _fill(responses[level], tile, value, scale, plan)
                done += 1
                progress(done / len(work))

        takers = [asyncio.create_task(take()) for _ in range(in_flight)]
        try:
            await asyncio.gather(*takers)
        finally:
            for taker in takers:
                taker.cancel()
        return responses

    async def _infer(self, tile: Tile) -> tuple[Any, Any]:
        request = triton.InferInput("hu", (1, *tile.hu.shape), "INT16")
        request.set_data_from_numpy(tile.hu[None])
        answer = await self._ask(
            self._client.infer(
                self._name,
                [request],
                model_version=self._version,
                client_timeout=self._seconds,
            )
        )
        return answer.as_numpy("response")[0], answer.as_numpy("scale")[0]

    async def _ask(self, call: Any) -> Any:
        try:
            return await call
        except InferenceServerException as error:
            if error.status() not in _PASSING:
                raise
            raise Unavailable(
                f"Triton at {self._address} does not answer for model {self._name} version "
                f"{self._version} ({error.status()}): see that it runs and has loaded the model"
            ) from error


@asynccontextmanager
async def connected(address: str, name: str, version: str, seconds: float) -> Any:
    """Connect to Triton's gRPC while the block lasts; yields the Network.

    Parameters
    ----------
    seconds
        Longest time for one request.
    """
    client = triton.InferenceServerClient(address, channel_args=_CHANNEL)
    try:
        yield Network(client, address, name, version, seconds)
    finally:
        await client.close()


def _tiles(grids: Sequence[WorkingGrid], plan: Plan) -> Iterator[tuple[int, Tile]]:
    for level, grid in enumerate(grids):
        for tile in tiles(grid, plan.tile, plan.halo):
            yield level, tile


def _empty(grid: WorkingGrid, plan: Plan) -> Response:
    core = plan.tile - 2 * plan.halo
    shape = [-(-size // core) * core // plan.stride for size in grid.hu.shape]
    return Response(
        grid=grid,
        values=np.zeros((len(Window), *shape), np.float32),
        sigma_mm=np.zeros((len(Window), *shape), np.float32),
        stride=plan.stride,
    )


def _fill(response: Response, tile: Tile, value: Any, scale: Any, plan: Plan) -> None:
    place = (
        slice(None),
        *(
            slice(start // plan.stride, start // plan.stride + size)
            for start, size in zip(tile.core, value.shape[1:], strict=True)
        ),
    )
    response.values[place] = value
    sigma = np.asarray(plan.sigma_voxels, np.float32) * np.float32(response.grid.voxel_mm)
    response.sigma_mm[place] = sigma[scale]
