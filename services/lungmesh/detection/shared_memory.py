"""System shared memory between this process and a Triton on the same node.

A region is a POSIX shared memory object with a name of its own. It is unlinked as soon as Triton
has mapped it, so nothing stays behind when a process dies.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

log = logging.getLogger(__name__)

# Where POSIX shared memory lies on Linux.
_FOLDER = Path("/dev/shm")  # noqa: S108
_ALIGN = 64
# Seconds between attempts to have Triton let a region go.
_PATIENCE = (0.002, 0.01, 0.05, 0.2, 0.5, 1.0)

Array = npt.NDArray[Any]


class Region:
    """A block of memory that Triton maps too.

    Raises OSError when there is no room for it (a container's /dev/shm is often 64 MiB).
    """

    def __init__(self, size: int) -> None:
        self.name = f"lungmesh-{os.getpid()}-{uuid.uuid4().hex}"
        self.size = size
        handle = os.open(_FOLDER / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            # Reserved now: a page that is missing later would end the process.
            os.posix_fallocate(handle, 0, size)
            self._map = mmap.mmap(handle, size)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(handle)

    def unlink(self) -> None:
        """Remove the name; what is mapped stays mapped."""
        (_FOLDER / self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Give this process's mapping back."""
        self._map.close()

    def write(self, offset: int, array: Array) -> None:
        """Copy an array in."""
        flat = np.frombuffer(self._map, array.dtype, array.size, offset)
        flat[:] = array.ravel()

    def read(self, offset: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Copy an array out."""
        count = int(np.prod(shape))
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape).copy()


class Slot:
    """The regions of one request at a time: made when first needed, and anew when too small.

    Attributes
    ----------
    busy
        Whether Triton may still read or write there: a request was given up before its answer.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._regions: dict[str, Region] = {}
        self.busy = False

    async def map(self, size: int) -> None:
        """Have Triton map `size` bytes.

        Raises OSError without room for them, InferenceServerException when Triton cannot.
        """
        await self._region("in", size)

    async def place(
        self,
        inputs: Mapping[str, InferInput],
        arrays: Mapping[str, Array],
        outputs: Mapping[str, InferRequestedOutput],
        room: Mapping[str, int],
    ) -> dict[str, int]:
        """Copy the inputs into shared memory, and point the request's tensors at it.

        Where there is no room left, the tensors go by gRPC.

        Parameters
        ----------
        room
            Bytes that an output has at most; an output without goes by gRPC.

        Returns where the outputs will lie.
        """
        offsets, total = _offsets({name: array.nbytes for name, array in arrays.items()})
        places, answers = _offsets(room)
        try:
            given = await self._region("in", total)
            taken = await self._region("out", answers) if room else None
        except OSError as error:
            log.warning("no room for shared memory (%s): tensors go by gRPC", error.strerror)
            for name, array in arrays.items():
                inputs[name].set_data_from_numpy(array)
            return {}
        for name, array in arrays.items():
            given.write(offsets[name], array)
            inputs[name].set_shared_memory(given.name, array.nbytes, offset=offsets[name])
        for name, size in room.items():
            if taken is not None:
                outputs[name].set_shared_memory(taken.name, size, offset=places[name])
        return places

    def read(self, offset: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return an output."""
        return self._regions["out"].read(offset, shape, dtype)

    async def close(self) -> None:
        """Have Triton forget the regions, and give them back.

        Triton unmaps at once: it would crash on a region that it still works on, so that one stays
        mapped there until it is started anew.
        """
        for region in self._regions.values():
            try:
                if self.busy:
                    log.warning("Triton keeps %d bytes of a request given up", region.size)
                else:
                    await self._forget(region)
            finally:
                region.close()
        self._regions.clear()

    async def _region(self, side: str, size: int) -> Region:
        known = self._regions.get(side)
        if known is not None and known.size >= size:
            return known
        region = Region(size)
        try:
            await self._client.register_system_shared_memory(region.name, f"/{region.name}", size)
        except BaseException:
            region.close()
            raise
        finally:
            region.unlink()
        self._regions[side] = region
        if known is not None:
            await self._forget(known)
            known.close()
        return region

    async def _forget(self, region: Region) -> None:
        """Have Triton unmap a region whose answer has come.

        Triton answers a moment before it lets the region go: under load it is still "in use".
        """
        for seconds in _PATIENCE:
            try:
                await self._client.unregister_system_shared_memory(region.name)
                return
            except InferenceServerException as error:
                if "in use" not in str(error):
                    raise
            await asyncio.sleep(seconds)
        log.warning("Triton keeps %d bytes that it says are in use", region.size)


def _offsets(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Return where each array begins, and where all end."""
    out, at = {}, 0
    for name, size in sizes.items():
        out[name] = at
        at += -(-size // _ALIGN) * _ALIGN
    return out, at
