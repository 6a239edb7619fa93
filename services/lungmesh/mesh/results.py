"""Handled events are remembered with what they gave: a repeat gives the same, without the work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from google.protobuf.message import Message
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.mesh import envelope
from lungmesh.mesh.blobs import BlobMissing, BlobStore
from lungmesh.mesh.bus.patience import publish_patiently
from lungmesh.mesh.bus.port import Bus
from lungmesh.mesh.db import Database, HandledRow, OutboxRow
from lungmesh.mesh.envelope import Event
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.lots import Lots
from lungmesh.mesh.outbox import Relay
from lungmesh.mesh.stage import Context, Stage
from lungmesh.mesh.telemetry import trace_headers
from lungmesh.v1.events_pb2 import HandledOutput, HandledResult

Output = tuple[str, Message]


class Results(Protocol):
    """Where a service remembers what it handled."""

    async def recall(self, stage: Stage, event: Event) -> list[Output] | None:
        """Return what the event gave, None when it was not handled yet."""

    async def keep(
        self, stage: Stage, event: Event, outputs: Sequence[Output], ctx: Context
    ) -> None:
        """Remember what the event gave, and have its outputs published."""

    async def send_again(self, stage: Stage, outputs: Sequence[Output]) -> None:
        """Publish known outputs once more, for a repeated event."""


def name_outputs(stage: Stage, event: Event, messages: Sequence[Message]) -> list[Output]:
    """Give each output its deterministic id: of stage, version, input, type and place."""
    return [
        (
            deterministic_id(
                stage.name, stage.version, event.event_id, message.DESCRIPTOR.full_name, index
            ),
            message,
        )
        for index, message in enumerate(messages)
    ]


def _pack(outputs: Sequence[Output]) -> bytes:
    return HandledResult(
        outputs=[
            HandledOutput(
                event_id=event_id,
                type=message.DESCRIPTOR.full_name,
                value=message.SerializeToString(deterministic=True),
            )
            for event_id, message in outputs
        ]
    ).SerializeToString(deterministic=True)


def _unpack(stage: Stage, data: bytes) -> list[Output]:
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in stage.produces}
    return [
        (output.event_id, kinds[output.type].FromString(output.value))
        for output in HandledResult.FromString(data).outputs
    ]


class BlobResults:
    """For stateless services: in the object store, beside the study's other blobs."""

    def __init__(self, blobs: BlobStore, bus: Bus) -> None:
        self._blobs = blobs
        self._bus = bus
        self._reads = Lots(self._read)
        self._writes = Lots(self._write)

    async def recall(self, stage: Stage, event: Event) -> list[Output] | None:
        """Read what was kept."""
        data = await self._reads.run(self._key(stage, event))
        return None if data is None else _unpack(stage, data)

    async def keep(
        self, stage: Stage, event: Event, outputs: Sequence[Output], ctx: Context
    ) -> None:
        """Keep, then publish: a crash between repeats only the publishing."""
        if ctx._writes:
            raise RuntimeError(f"{stage.name} wrote state, but its service has no database")
        await self._writes.run((self._key(stage, event), _pack(outputs)))
        await self.send_again(stage, outputs)

    async def send_again(self, stage: Stage, outputs: Sequence[Output]) -> None:
        """Publish and wait for the broker's acknowledgement, however long it is away."""
        trace = trace_headers()
        await publish_patiently(
            self._bus,
            [envelope.outgoing(message, name, stage.name, trace) for name, message in outputs],
        )

    def _read(self, key: str) -> bytes | None:
        try:
            return self._blobs.get_key(key)
        except BlobMissing:
            return None

    def _write(self, item: tuple[str, bytes]) -> None:
        self._blobs.put(*item)

    @staticmethod
    def _key(stage: Stage, event: Event) -> str:
        study = event.study
        folder = f"{study.tenant}/{study.study_id}/r{study.revision}"
        return f"{folder}/handled/{stage.name}/{event.event_id}.pb"


class DatabaseResults:
    """For stateful services: handled id, state and outgoing events in one transaction."""

    def __init__(self, database: Database, relay: Relay) -> None:
        self._database = database
        self._relay = relay

    async def recall(self, stage: Stage, event: Event) -> list[Output] | None:
        """Read what was kept."""
        async with self._database.sessions() as session:
            row = await session.get(HandledRow, (stage.name, event.event_id))
        return None if row is None else _unpack(stage, row.result)

    async def keep(
        self, stage: Stage, event: Event, outputs: Sequence[Output], ctx: Context
    ) -> None:
        """Commit everything at once; the relay publishes."""
        try:
            await self._commit(stage, event, outputs, ctx)
        except IntegrityError:
            known = await self.recall(stage, event)
            if known is None:
                raise
            # Another member handled the same event first: its result counts.
            await self.send_again(stage, known)
        self._relay.wake()

    async def _commit(
        self, stage: Stage, event: Event, outputs: Sequence[Output], ctx: Context
    ) -> None:
        handled = HandledRow(stage=stage.name, event_id=event.event_id, result=_pack(outputs))
        async with self._database.sessions() as session, session.begin():
            # First: it fails where another member has just handled the same event.
            session.add(handled)
            await session.flush()
            for write in ctx._writes:
                await write(session)
            await add_to_outbox(session, outputs, stage.name)

    async def send_again(self, stage: Stage, outputs: Sequence[Output]) -> None:
        """Put them back into the outbox."""
        async with self._database.sessions() as session, session.begin():
            await add_to_outbox(session, outputs, stage.name)
        self._relay.wake()


async def add_to_outbox(session: AsyncSession, outputs: Sequence[Output], source: str) -> None:
    """Put events into the outbox; one that is there already is marked to be sent again."""
    trace: Mapping[str, str] = trace_headers()
    for event_id, message in outputs:
        row = await session.scalar(select(OutboxRow).where(OutboxRow.event_id == event_id))
        if row is not None:
            row.wanted += 1
            continue
        record = envelope.outgoing(message, event_id, source, trace)
        session.add(
            OutboxRow(
                event_id=event_id,
                topic=record.topic,
                key=record.key,
                value=record.value,
                headers=json.dumps({name: text.decode() for name, text in record.headers.items()}),
            )
        )
