"""The networks on Triton: cards read, tensors there and back, several requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from opentelemetry.trace import SpanKind
from tritonclient.grpc import aio as triton
from tritonclient.utils import (
    InferenceServerException,
    np_to_triton_dtype,
    triton_to_np_dtype,
)

from lungmesh.detection.shared_memory import Slot
from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.telemetry import span, trace_headers

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
T = TypeVar("T")

_MAX_BYTES = 256 * 1024 * 1024
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
class Wanted:
    """Name and version of a network."""

    name: str
    version: str


@dataclass(frozen=True)
class Network(Wanted):
    """One version of a network, as Triton serves it.

    Attributes
    ----------
    parameters
        `parameters` of its card.
    batch
        Items in one request at most.
    dims
        Dimensions of each output without the batch axis; -1 where they depend on the input.
    types
        NumPy type of each output.
    """

    parameters: Mapping[str, Any]
    batch: int
    dims: Mapping[str, tuple[int, ...]]
    types: Mapping[str, np.dtype[Any]]

    def bytes_of(self, output: str, given: tuple[int, ...]) -> int:
        """Return the size of an output, bytes; 0 when it cannot be told before.

        Parameters
        ----------
        given
            Shape of the input, batch axis first. Where the output's dimensions depend on it, the
            last ones are the input's over the card's `stride`.
        """
        dims = self.dims[output]
        if -1 in dims:
            stride = self.parameters.get("stride")
            if not isinstance(stride, int):
                return 0
            inner = [size // stride for size in given[-len(dims) :]]
            dims = tuple(b if a == -1 else a for a, b in zip(dims, inner, strict=True))
        return given[0] * int(np.prod(dims)) * self.types[output].itemsize


class Triton:
    """A connected Triton; see `connected`.

    Every method raises Unavailable when Triton is away or has not loaded the model.
    """

    def __init__(self, client: Any, address: str, seconds: float, slots: Sequence[Any]) -> None:
        self._client = client
        self._address = address
        self._seconds = seconds
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for slot in slots:
            self._free.put_nowait(slot)

    async def network(self, wanted: Wanted) -> Network:
        """Ask Triton for a network's card."""
        answer = await self._ask(
            wanted,
            self._client.get_model_config(
                wanted.name, wanted.version, as_json=True, client_timeout=self._seconds
            ),
        )
        config = answer["config"]
        outputs = {item["name"]: item for item in config["output"]}
        return Network(
            name=wanted.name,
            version=wanted.version,
            parameters=json.loads(config["parameters"][f"card.{wanted.version}"]["string_value"]),
            batch=int(config.get("max_batch_size", 1)),
            dims={key: tuple(int(size) for size in item["dims"]) for key, item in outputs.items()},
            types={
                key: np.dtype(triton_to_np_dtype(item["data_type"].removeprefix("TYPE_")))
                for key, item in outputs.items()
            },
        )

    async def infer(
        self,
        network: Network,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> dict[str, Array]:
        """Run a network; waits while as many requests are in flight as may be.

        Parameters
        ----------
        arrays
            Each input, the batch axis first.
        outputs
            Names of the wanted outputs; one whose size cannot be told before comes by gRPC though
            there is shared memory.
        """
        slot = await self._free.get()
        try:
            return await self._infer(slot, network, arrays, outputs)
        finally:
            self._free.put_nowait(slot)

    async def _infer(
        self,
        slot: Slot | None,
        network: Network,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> dict[str, Array]:
        given = {
            name: triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            for name, array in arrays.items()
        }
        asked = {name: triton.InferRequestedOutput(name) for name in outputs}
        places: dict[str, int] = {}
        if slot is None:
            for name, array in arrays.items():
                given[name].set_data_from_numpy(array)
        else:
            (first, *_) = arrays.values()
            room = {
                name: size for name in outputs if (size := network.bytes_of(name, first.shape)) > 0
            }
            places = await self._ask(network, slot.place(given, arrays, asked, room))
            slot.busy = True
        try:
            with span(f"infer {network.name}", SpanKind.CLIENT, model__version=network.version):
                call = self._client.infer(
                    network.name,
                    list(given.values()),
                    model_version=network.version,
                    outputs=list(asked.values()),
                    client_timeout=self._seconds,
                    headers=trace_headers(),
                )
                answer = await self._ask(network, call)
        except InferenceServerException:
            if slot is not None:
                slot.busy = False
            raise
        found = {}
        if slot is not None:
            slot.busy = False
        for name in outputs:
            if slot is not None and name in places:
                shape = tuple(int(size) for size in answer.get_output(name).shape)
                found[name] = slot.read(places[name], shape, network.types[name])
            else:
                found[name] = answer.as_numpy(name)
        return found

    async def _ask(self, network: Network | Wanted, call: Any) -> Any:
        try:
            return await call
        except InferenceServerException as error:
            # A Triton that was started anew has forgotten the shared memory.
            if error.status() not in _PASSING and "shared memory" not in str(error):
                raise
            raise Unavailable(
                f"Triton at {self._address} does not answer for model {network.name} version "
                f"{network.version} ({error.status()}): see that it runs and has loaded the model"
            ) from error


@asynccontextmanager
async def connected(
    address: str, in_flight: int, seconds: float, shared_memory: bool
) -> AsyncIterator[Triton]:
    """Connect to Triton's gRPC while the block lasts.

    Parameters
    ----------
    in_flight
        Requests on their way at once.
    seconds
        Longest time for one request.
    shared_memory
        Whether to pass tensors by shared memory where Triton is on this node and can map it.
    """
    client = triton.InferenceServerClient(address, channel_args=_CHANNEL)
    slots: list[Slot | None] = [None] * in_flight
    try:
        if shared_memory and await _shares(client, address):
            slots = [Slot(client) for _ in range(in_flight)]
        yield Triton(client, address, seconds, slots)
    finally:
        for slot in slots:
            if slot is not None:
                with contextlib.suppress(InferenceServerException):
                    await slot.close()
        await client.close()


async def _shares(client: Any, address: str) -> bool:
    """Return whether Triton can map this process's shared memory; a log line says why not."""
    host = address.rpartition(":")[0]
    if not await asyncio.to_thread(_is_here, host):
        log.info("Triton at %s is on another node: tensors go by gRPC", address)
        return False
    probe = Slot(client)
    try:
        await probe.map(1)
    except InferenceServerException as error:
        log.info("Triton at %s cannot share memory (%s): tensors go by gRPC", address, error)
        return False
    except OSError as error:
        log.info("there is no room for shared memory (%s): tensors go by gRPC", error.strerror)
        return False
    finally:
        with contextlib.suppress(InferenceServerException):
            await probe.close()
    return True


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all at once; when one fails the others are given up, and its error is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _is_here(host: str) -> bool:
    """Return whether a host name is this machine: its address can be bound."""
    try:
        infos = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, _, _, place in infos:
        with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
            if ipaddress.ip_address(place[0]).is_loopback:
                return True
            probe.bind((place[0], 0))
            return True
    return False
