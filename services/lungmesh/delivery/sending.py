"""The workers: each brings what is due to one destination, whatever becomes of the others.

What a destination confirmed is noted in the object store before its row changes: a process that
dies in between sends nothing twice. One that dies before the note repeats the very same message.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from secrets import SystemRandom

from opentelemetry.trace import SpanKind
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.delivery import store
from lungmesh.delivery.dicom import DicomSender
from lungmesh.delivery.metrics import Counts
from lungmesh.delivery.parcel import Parcel, Sender, Standing
from lungmesh.delivery.restoring import Restorer
from lungmesh.delivery.settings import DeliverySettings, Destination, DicomDestination
from lungmesh.delivery.store import Rule
from lungmesh.delivery.tables import ItemRow
from lungmesh.delivery.telling import Teller
from lungmesh.mesh import Mesh, MeshError, Refused, Unavailable
from lungmesh.mesh.db import READS_ONLY
from lungmesh.mesh.dicom_commitment import Commitment
from lungmesh.mesh.errors import told
from lungmesh.mesh.ids import dicom_uid
from lungmesh.mesh.tasks import finish
from lungmesh.mesh.telemetry import span, span_failed, trace_of
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_COMMITTED,
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_WAITING,
)

log = logging.getLogger(__name__)

_DAY_SECONDS = 86400.0
# How long the sends under way may take at the end of the service.
_DRAIN_SECONDS = 20.0
# How soon it is looked again for something that is due and held by another process.
_HELD_SECONDS = 1.0
_PROCESSING_FAILURE, _NO_SUCH_OBJECT = 0x0110, 0x0112
_RESOURCES, _DUPLICATE_TRANSACTION = 0x0213, 0x0131
# Failure Reasons of a commitment that sending again may mend (PS3.3 C.14.1.1).
_MENDABLE = {_PROCESSING_FAILURE, _NO_SUCH_OBJECT, _RESOURCES, _DUPLICATE_TRANSACTION}
_STANDINGS = {None: Standing.UNSIGNED, False: Standing.SIGNED, True: Standing.CORRECTED}
_random = SystemRandom()


def rule_of(destination: Destination) -> Rule:
    """Return what the store must know of a destination."""
    return Rule(
        destination.tenant,
        destination.name,
        destination.when == "signed",
        destination.latest_only,
    )


class Dispatch:
    """All workers of a process, and what they share."""

    def __init__(
        self,
        mesh: Mesh,
        settings: DeliverySettings,
        senders: Mapping[Rule, Sender],
        counts: Counts,
    ) -> None:
        self.mesh, self.settings, self.counts = mesh, settings, counts
        self.restorer = Restorer(settings, mesh.settings.tls)
        self.teller = Teller(mesh)
        self.stopping = False
        destinations = {rule_of(one): one for one in settings.destinations}
        self.workers = {
            rule: Worker(self, rule, destinations[rule], sender) for rule, sender in senders.items()
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulse: asyncio.Task[None] | None = None

    def ring(self, rule: Rule) -> None:
        """Have a destination's worker look at once."""
        self.workers[rule].bell.set()

    async def start(self) -> None:
        """Begin with what an earlier process left."""
        async with self.mesh.sessions() as session, session.begin():
            await store.know(session, self.workers)
            if session.get_bind().dialect.name == "sqlite":
                # Nobody else works on a file: what is claimed was claimed by the dead.
                await store.release(session, None)
        self._tasks = {asyncio.create_task(worker.run()) for worker in self.workers.values()}
        self._pulse = asyncio.create_task(self._renew())

    async def stop(self) -> None:
        """Let the sends under way end, as far as they do soon, and give the rest back."""
        self.stopping = True
        for worker in self.workers.values():
            worker.bell.set()
        await finish(self._tasks, _DRAIN_SECONDS)
        if self._pulse is not None:
            self._pulse.cancel()
            await finish({self._pulse}, 1.0)
        with suppress(SQLAlchemyError):
            async with self.mesh.sessions() as session, session.begin():
                await store.release(session, self._names())

    async def _renew(self) -> None:
        lease = self.settings.lease_seconds
        while True:
            await asyncio.sleep(lease / 3)
            try:
                async with self.mesh.sessions() as session, session.begin():
                    await store.renew(session, self._names(), time.time() + lease)
            except SQLAlchemyError as error:
                log.warning("leases could not be renewed: %s", type(error).__name__)

    def _names(self) -> list[str]:
        return [worker.who for worker in self.workers.values()]

    def backoff(self, failures: int) -> float:
        """Return the seconds until the next try: doubled at each failure, and never all at once."""
        settings = self.settings
        whole = settings.first_backoff_seconds * 2.0 ** min(failures - 1, 30)
        return min(settings.most_backoff_seconds, whole) * _random.uniform(0.5, 1.0)

    async def committed(self, said: Commitment) -> bool:
        """Keep what a PACS says of a storage commitment; return whether it was asked for."""
        if not said.transaction_uid:
            return False
        async with self.mesh.sessions() as session, session.begin():
            row = await store.by_transaction(session, said.transaction_uid)
            if row is None:
                return False
            if row.state != DELIVERY_STATE_SENT:
                return True
            row.transaction_uid = ""
            if not said.failed:
                row.state, row.due_at, row.error = DELIVERY_STATE_COMMITTED, None, ""
                return True
            count, reasons = len(said.failed), set(said.failed.values())
            row.error = (
                f"the PACS does not commit {count} objects that it stored: 0x{min(reasons):04X}"
            )
            if reasons <= _MENDABLE:
                row.state = DELIVERY_STATE_WAITING
                row.due_at = time.time() + self.backoff(row.attempts)
                await asyncio.to_thread(self.mesh.blobs.delete, receipt_of(row))
            else:
                row.state, row.due_at = DELIVERY_STATE_REFUSED, None
                await self.teller.refused(session, row, Refused(row.error))
            return True


class Worker:
    """Brings a tenant's reports to one destination, one after the other."""

    def __init__(
        self, dispatch: Dispatch, rule: Rule, destination: Destination, sender: Sender
    ) -> None:
        self._dispatch, self._rule = dispatch, rule
        self._destination, self._sender = destination, sender
        self._sessions = dispatch.mesh.sessions
        self.who = str(uuid.uuid4())
        self.bell = asyncio.Event()

    async def run(self) -> None:
        """Work until the service stops."""
        settings = self._dispatch.settings
        while not self._dispatch.stopping:
            self.bell.clear()
            wait = settings.look_seconds
            try:
                if await self._turn():
                    continue
                wait = await self._idle_seconds()
            except Exception as error:
                # Whatever it is: a destination without its worker would wait for ever.
                log.error("%s: %s", self._rule.name, told(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.bell.wait()

    async def _turn(self) -> bool:
        """Do the next thing that is due; return whether there was any."""
        dispatch = self._dispatch
        lease = dispatch.settings.lease_seconds
        async with self._sessions() as session, session.begin():
            row = await store.claim(session, self._rule, self.who, time.time(), lease)
            if row is None:
                return False
            corrects = await store.corrects(session, row)
            asking = row.state == DELIVERY_STATE_SENT
            if asking:
                row.transaction_uid = dicom_uid("commitment", *row.key, row.attempts)
        with span(
            "deliver",
            SpanKind.CLIENT,
            trace_of({"traceparent": row.traceparent.encode()}),
            tenant=row.tenant,
            study_id=row.study_id,
            destination=row.destination,
        ):
            await self._attempt(row, None if asking else _STANDINGS[corrects])
        return True

    async def _attempt(self, row: ItemRow, standing: Standing | None) -> None:
        """Send, or ask for commitment where there is no standing; what fails is noted."""
        try:
            if standing is None:
                await self._ask(row)
            else:
                await self._send(row, standing)
        except (Refused, Unavailable) as error:
            await self._failed(row, error)
        except MeshError as error:
            # Such as a file of the report that is not there any more.
            await self._failed(row, Refused(str(error)))
        except Exception as error:
            # Our fault. Its text may hold anything.
            log.error("%s: %s", self._rule.name, told(error))
            fault = f"a fault of ours ({type(error).__name__}); the log of delivery has it"
            await self._failed(row, Unavailable(fault))

    async def _idle_seconds(self) -> float:
        settings = self._dispatch.settings
        async with self._sessions() as session:
            await session.connection(execution_options=READS_ONLY)
            due = await store.next_look(session, self._rule)
        if due is None:
            return settings.look_seconds
        left = due - time.time()
        return min(settings.look_seconds, left if left > 0 else _HELD_SECONDS)

    async def _send(self, row: ItemRow, standing: Standing) -> None:
        blobs = self._dispatch.mesh.blobs
        report = row.report()
        began = time.time()
        receipt = receipt_of(row)
        if not await asyncio.to_thread(blobs.exists, receipt):
            identity = await self._dispatch.restorer.restore(report.study)
            await self._sender.send(Parcel(report, identity, standing, row.since, blobs.get))
            await asyncio.to_thread(blobs.put, receipt, standing.value.encode())
        now = time.time()
        commits = isinstance(self._destination, DicomDestination) and self._destination.commitment
        async with self._sessions() as session, session.begin():
            row, place = await store.hold(session, row)
            row.state, row.sent_at, row.error = DELIVERY_STATE_SENT, now, ""
            row.let_go()
            row.due_at = now if commits else None
            if store.answered(place):
                await store.hurry(session, place, now)
            place.last_sent_at = now
            count = self._sender.wanted(report)
            await self._dispatch.teller.delivered(session, row, count, now - began)
        self._dispatch.counts.sent(self._rule)

    async def _ask(self, row: ItemRow) -> None:
        """Ask for storage commitment; the answer comes to the listener."""
        sender, destination = self._sender, self._destination
        assert isinstance(sender, DicomSender)  # noqa: S101
        assert isinstance(destination, DicomDestination)  # noqa: S101
        report = row.report()
        blobs = self._dispatch.mesh.blobs
        objects = [await asyncio.to_thread(blobs.get, one.content) for one in sender.chosen(report)]
        await sender.ask_commitment(objects, row.transaction_uid)
        async with self._sessions() as session, session.begin():
            row, place = await store.hold(session, row)
            store.answered(place)
            row.let_go()
            # The answer may have come already.
            if row.state == DELIVERY_STATE_SENT:
                row.due_at = time.time() + destination.commitment_seconds

    async def _failed(self, row: ItemRow, error: Refused | Unavailable) -> None:
        span_failed(error)
        now, dispatch = time.time(), self._dispatch
        async with self._sessions() as session, session.begin():
            row, place = await store.hold(session, row)
            if row.state == DELIVERY_STATE_COMMITTED:
                # The PACS said so before our question seemed to fail.
                row.let_go()
                return
            days = self._destination.most_age_days
            passing = isinstance(error, Unavailable)
            if passing:
                store.away(place, str(error), now, now + dispatch.backoff(place.failures + 1))
            else:
                store.answered(place)
                place.error = str(error)
            if passing and now - row.since > days * _DAY_SECONDS:
                error = Unavailable(f"not taken within {days:g} days: {error}")
                passing = False
            if row.state == DELIVERY_STATE_SENT and not passing:
                # It has the report; that it commits nothing is worth a word and no more.
                row.error, row.due_at = str(error), None
                row.let_go()
                return
            due = now + dispatch.backoff(row.attempts) if passing else None
            await store.failed(session, row, self._rule, str(error), due)
            await self._tell_failure(session, row, error)
        if row.state == DELIVERY_STATE_REFUSED:
            dispatch.counts.refused(self._rule)
            log.warning("%s: a report is a dead letter: %s", self._rule.name, error)

    async def _tell_failure(
        self, session: AsyncSession, row: ItemRow, error: Refused | Unavailable
    ) -> None:
        teller = self._dispatch.teller
        if row.state == DELIVERY_STATE_REFUSED:
            await teller.refused(session, row, error)
        elif row.state == DELIVERY_STATE_WAITING and row.attempts == 1:
            await teller.waits(session, row, error)


def receipt_of(row: ItemRow) -> str:
    """Return the key of the note that a destination has confirmed a report."""
    digest = row.report().content_sha256[:16]
    edition = f"e{row.edition}" if row.edition > 1 else ""
    return (
        f"{row.tenant}/{row.study_id}/r{row.revision}{edition}/delivery/{row.destination}-{digest}"
    )
