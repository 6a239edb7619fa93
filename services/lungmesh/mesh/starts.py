"""How often a process has died while it handled an event: one that kills its stage is put aside."""

from __future__ import annotations

import asyncio

from lungmesh.mesh.blobs import BlobMissing, BlobStore
from lungmesh.mesh.envelope import Event
from lungmesh.mesh.failures import HandlerDied

# A study that ends its process (no memory, a crash in native code) would come again for ever, and
# its stage would stand still.
MOST_DEATHS = 3


class Starts:
    """A mark in the object store that stands while an event is in the handler."""

    def __init__(self, blobs: BlobStore, stage: str) -> None:
        self._blobs = blobs
        self._stage = stage

    async def begin(self, event: Event) -> None:
        """Note that the handler starts.

        Raises HandlerDied when the process has ended `MOST_DEATHS` times since the last return.
        """
        await asyncio.to_thread(self._begin, self._key(event))

    async def end(self, event: Event) -> None:
        """Note that the handler returned or raised: whatever it was, the process lives."""
        await asyncio.to_thread(self._blobs.delete, self._key(event))

    def _begin(self, key: str) -> None:
        try:
            deaths = int(self._blobs.get_key(key))
        except BlobMissing:
            deaths = 0
        if deaths >= MOST_DEATHS:
            raise HandlerDied(
                f"{self._stage} ended {deaths} times while it handled this event (no memory, or a "
                "crash in native code): see the ends of its process, then replay"
            )
        self._blobs.put(key, str(deaths + 1).encode())

    def _key(self, event: Event) -> str:
        study = event.study
        folder = f"{study.tenant}/{study.study_id}/r{study.revision}"
        return f"{folder}/handled/{self._stage}/{event.event_id}.started"
