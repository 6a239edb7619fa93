"""The workers in this process, over real files and a real receiver: what a row becomes, and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.trace import NoOpTracer
from sqlalchemy import select

from lungmesh.delivery import store
from lungmesh.delivery.metrics import Counts
from lungmesh.delivery.sending import Dispatch, receipt_of, rule_of
from lungmesh.delivery.service import MIGRATIONS, sender_of
from lungmesh.delivery.settings import DeliverySettings
from lungmesh.delivery.tables import ItemRow
from lungmesh.mesh.bus.memory import MemoryBus
from lungmesh.mesh.chassis import Chassis
from lungmesh.mesh.settings import MeshSettings
from lungmesh.mesh.telemetry import Metrics
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_WAITING,
)
from lungmesh.v1.report_pb2 import ReportReady
from tests.support.broker import free_port
from tests.support.chassis import until
from tests.support.delivering import TOKEN, copy, mllp
from tests.support.delivery import Ris, receiving
from tests.support.pacs import identities_of


@dataclass
class Office:
    """A dispatch over a database that tests look into."""

    dispatch: Dispatch
    chassis: Chassis

    async def take(self, *reports: ReportReady, since: float | None = None) -> None:
        """Put reports on their way to every destination."""
        rules = list(self.dispatch.workers)
        async with self.chassis.sessions() as session, session.begin():
            for report in reports:
                await store.take_in(session, report, rules, since or time.time())
        for rule in rules:
            self.dispatch.ring(rule)

    async def rows(self, destination: str = "ris") -> dict[str, ItemRow]:
        """Return a destination's rows by study."""
        query = select(ItemRow).where(ItemRow.destination == destination)
        async with self.chassis.sessions() as session:
            return {row.study_id: row for row in await session.scalars(query)}

    async def become(self, report: ReportReady, state: int) -> ItemRow:
        """Return the report's row once it is in a state."""

        async def there() -> bool:
            return (await self.rows())[report.study.study_id].state == state

        await until(there, 60, f"state {state}")
        return (await self.rows())[report.study.study_id]


@asynccontextmanager
async def an_office(
    folder: Path, blobs: Path, report: ReportReady, destinations: Sequence[dict[str, Any]]
) -> AsyncIterator[Office]:
    """Open a dispatch; it works once it is started."""
    chassis = Chassis(
        "delivery",
        MeshSettings(
            blobs_url=f"file://{blobs}/blobs",
            database_url=f"sqlite+aiosqlite:///{folder}/delivery.db",
        ),
        MemoryBus(),
        Metrics(),
        NoOpTracer(),
    )
    await chassis.open_database(MIGRATIONS)
    async with identities_of(report.study.patient, TOKEN) as (address, _):
        settings = DeliverySettings(
            destinations=destinations,
            ingest=address,
            restore_token=TOKEN,
            first_backoff_seconds=0.05,
            most_backoff_seconds=0.2,
        )
        senders = {rule_of(one): sender_of(one) for one in settings.destinations}
        dispatch = Dispatch(chassis, settings, senders, Counts(chassis, 60))
        try:
            async with chassis.sessions() as session, session.begin():
                await store.know(session, dispatch.workers)
            yield Office(dispatch, chassis)
        finally:
            await dispatch.stop()
            await chassis.close()


async def test_what_was_confirmed_before_a_crash_is_not_sent_again(
    reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    """The process died between the note and the row."""
    ris, ready = Ris(), copy(report, "noted")
    async with receiving(ris), an_office(tmp_path, reports, report, [mllp(ris, "ris")]) as office:
        await office.take(ready)
        row = (await office.rows())[ready.study.study_id]
        office.chassis.blobs.put(receipt_of(row), b"unsigned")
        await office.dispatch.start()
        await office.become(ready, DELIVERY_STATE_SENT)
    assert ris.messages == []


async def test_what_is_not_taken_within_the_age_limit_is_a_dead_letter(
    reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    ris = Ris(port=free_port())
    old, new = copy(report, "old"), copy(report, "new")
    place = mllp(ris, "ris", most_age_days=1)
    async with an_office(tmp_path, reports, report, [place]) as office:
        await office.take(old, since=time.time() - 2 * 86400)
        await office.take(new)
        await office.dispatch.start()
        row = await office.become(old, DELIVERY_STATE_REFUSED)
        assert row.error.startswith("not taken within 1 days: the receiver at 127.0.0.1")
        assert (await office.rows())[new.study.study_id].state == DELIVERY_STATE_WAITING
        # Nothing more is tried for it.
        tries = row.attempts
        await asyncio.sleep(0.5)
        assert (await office.rows())[old.study.study_id].attempts == tries


class Choosy(Ris):
    """Breaks off at what is sent first, whenever it is sent."""

    first = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one message of a connection."""
        framed = await reader.readuntil(b"\x1c\r")
        self.first = self.first or framed
        if framed == self.first:
            writer.close()
            return
        once = asyncio.StreamReader()
        once.feed_data(framed)
        once.feed_eof()
        await super().serve(once, writer)


async def test_a_report_that_always_fails_holds_up_no_other(
    reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    ris, sent = Choosy(), [copy(report, f"choosy {n}") for n in range(5)]
    async with receiving(ris), an_office(tmp_path, reports, report, [mllp(ris, "ris")]) as office:
        await office.take(*sent)
        await office.dispatch.start()

        async def four_went() -> bool:
            states = [row.state for row in (await office.rows()).values()]
            return states.count(DELIVERY_STATE_SENT) == 4

        await until(four_went, 60, "the others go")
        (left,) = [
            row for row in (await office.rows()).values() if row.state != DELIVERY_STATE_SENT
        ]
        assert left.state == DELIVERY_STATE_WAITING
        assert "did not answer" in left.error
    assert len(ris.messages) == 4


async def test_a_report_whose_files_are_gone_is_a_dead_letter_and_the_next_goes(
    reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    ris, gone, good = Ris(), copy(report, "gone"), copy(report, "there")
    for artefact in gone.artefacts:
        artefact.content.key += ".gone"
    async with receiving(ris), an_office(tmp_path, reports, report, [mllp(ris, "ris")]) as office:
        await office.take(gone, good)
        await office.dispatch.start()
        row = await office.become(gone, DELIVERY_STATE_REFUSED)
        assert "has no object" in row.error
        await office.become(good, DELIVERY_STATE_SENT)


async def test_a_fault_of_ours_is_said_without_its_text_and_tried_again(
    reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    ris, ready = Ris(), copy(report, "fault")
    (message,) = [one for one in ready.artefacts if one.name == "oru.hl7"]
    async with receiving(ris), an_office(tmp_path, reports, report, [mllp(ris, "ris")]) as office:
        # What cannot be parsed is our fault, and the text of the error might be anything.
        message.content.CopyFrom(office.chassis.blobs.put("odd", b"MRN-7 is no message"))
        await office.take(ready)
        await office.dispatch.start()

        async def said() -> bool:
            return bool((await office.rows())[ready.study.study_id].error)

        await until(said, 60, "it is said")
        row = (await office.rows())[ready.study.study_id]
        assert row.state == DELIVERY_STATE_WAITING
        assert row.error.startswith("a fault of ours (")
        assert "MRN-7" not in row.error
