"""What is sent when: claims, editions, signatures, outages. PostgreSQL: in integration."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.delivery import figures, store
from lungmesh.delivery.service import MIGRATIONS
from lungmesh.delivery.store import Rule
from lungmesh.delivery.tables import DestinationRow, ItemRow
from lungmesh.mesh.db import Database
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1.console_pb2 import StudySigned
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_SUPERSEDED,
    DELIVERY_STATE_UNSIGNED,
    DELIVERY_STATE_WAITING,
)
from lungmesh.v1.report_pb2 import ReportReady
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, PRIORITY_STAT, StudyRef

PACS = Rule("hospital", "pacs", signed=False, latest_only=True)
ALL = Rule("hospital", "archive", signed=False, latest_only=False)
RIS = Rule("hospital", "ris", signed=True, latest_only=True)
ME, OTHER, LEASE = "me", "other", 30.0


@pytest.fixture
async def session(tmp_path: Path):  # type: ignore[no-untyped-def]
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/delivery.db", "delivery")
    await database.migrate(MIGRATIONS)
    async with database.sessions() as opened:
        await store.know(opened, (PACS, ALL, RIS))
        await store.know(opened, (PACS,))
        yield opened
    await database.close()


def report(
    study: str = "a", edition: int = 1, revision: int = 1, stat: bool = False
) -> ReportReady:
    return ReportReady(
        study=StudyRef(
            tenant="hospital",
            patient=deterministic_id("patient"),
            study_id=deterministic_id(study),
            revision=revision,
            priority=PRIORITY_STAT if stat else PRIORITY_ROUTINE,
        ),
        content_sha256="0" * 64,
        edition=edition,
    )


def signed(ready: ReportReady) -> StudySigned:
    return StudySigned(study=ready.study, edition=max(1, ready.edition))


async def states(session: AsyncSession, rule: Rule) -> list[tuple[int, int]]:
    rows = await session.scalars(
        select(ItemRow)
        .where(ItemRow.destination == rule.name)
        .order_by(ItemRow.revision, ItemRow.edition)
        .execution_options(populate_existing=True)
    )
    return [(row.edition, row.state) for row in rows]


async def claim(session: AsyncSession, rule: Rule, now: float, who: str = ME) -> ItemRow | None:
    return await store.claim(session, rule, who, now, LEASE)


async def test_an_item_is_claimed_once_until_its_lease_ends(session: AsyncSession) -> None:
    await store.take_in(session, report(), [PACS], 100)
    mine = await claim(session, PACS, 100)
    assert mine is not None
    assert await claim(session, PACS, 101, OTHER) is None
    await store.renew(session, [ME], 101 + LEASE)
    assert await claim(session, PACS, 100 + LEASE, OTHER) is None
    taken = await claim(session, PACS, 102 + LEASE, OTHER)
    assert taken is not None
    assert (taken.claimed_by, taken.attempts) == (OTHER, 2)
    await store.release(session, [OTHER])
    assert await claim(session, PACS, 103 + LEASE) is not None


async def test_the_same_event_again_changes_nothing(session: AsyncSession) -> None:
    await store.take_in(session, report(), [PACS], 100)
    row = await claim(session, PACS, 100)
    assert row is not None
    row.state, row.due_at = DELIVERY_STATE_SENT, None
    await store.take_in(session, report(), [PACS], 200)
    assert await states(session, PACS) == [(1, DELIVERY_STATE_SENT)]
    assert await claim(session, PACS, 300) is None


async def test_stat_goes_before_what_came_earlier(session: AsyncSession) -> None:
    await store.take_in(session, report("routine"), [PACS], 100)
    await store.take_in(session, report("stat", stat=True), [PACS], 101)
    first = await claim(session, PACS, 102)
    assert first is not None
    assert first.study_id == deterministic_id("stat")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["in order", "out of order"])
async def test_a_newer_edition_overtakes_an_unsent_one(
    session: AsyncSession, order: tuple[int, int]
) -> None:
    for edition in order:
        await store.take_in(session, report(edition=edition), [PACS], 100)
    assert await states(session, PACS) == [
        (1, DELIVERY_STATE_SUPERSEDED),
        (2, DELIVERY_STATE_WAITING),
    ]


async def test_a_destination_that_wants_all_gets_editions_in_order(session: AsyncSession) -> None:
    for edition in (2, 1):
        await store.take_in(session, report(edition=edition), [ALL], 100)
    first = await claim(session, ALL, 101)
    assert first is not None
    assert first.edition == 1
    # While the first is under way, and while it is tried again, the second waits.
    assert await claim(session, ALL, 101, OTHER) is None
    await store.failed(session, first, ALL, "away", 500)
    assert await claim(session, ALL, 101) is None
    again = await claim(session, ALL, 500)
    assert again is not None
    again.state, again.due_at, again.claimed_until = DELIVERY_STATE_SENT, None, 0
    second = await claim(session, ALL, 501)
    assert second is not None
    assert second.edition == 2


async def test_an_edition_being_sent_ends_before_the_newer_one_begins(
    session: AsyncSession,
) -> None:
    await store.take_in(session, report(edition=1), [PACS], 100)
    sending = await claim(session, PACS, 100)
    assert sending is not None
    await store.take_in(session, report(edition=2), [PACS], 101)
    assert await claim(session, PACS, 102, OTHER) is None
    # It fails: now the newer one goes instead.
    await store.failed(session, sending, PACS, "away", 110)
    assert sending.state == DELIVERY_STATE_SUPERSEDED
    newer = await claim(session, PACS, 103)
    assert newer is not None
    assert newer.edition == 2


async def test_a_new_revision_overtakes_too(session: AsyncSession) -> None:
    await store.take_in(session, report(edition=3), [PACS], 100)
    await store.take_in(session, report(revision=2), [PACS], 101)
    assert await states(session, PACS) == [
        (3, DELIVERY_STATE_SUPERSEDED),
        (1, DELIVERY_STATE_WAITING),
    ]


@pytest.mark.parametrize("signature_first", [False, True])
async def test_a_signed_destination_waits_for_the_signature_in_any_order(
    session: AsyncSession, signature_first: bool
) -> None:
    ready = report()
    if signature_first:
        await store.sign(session, signed(ready), [RIS], 100)
    await store.take_in(session, ready, [PACS, RIS], 101)
    if not signature_first:
        assert await states(session, RIS) == [(1, DELIVERY_STATE_UNSIGNED)]
        assert await claim(session, RIS, 102) is None
        await store.sign(session, signed(ready), [RIS], 103)
    row = await claim(session, RIS, 104)
    assert row is not None
    assert await store.corrects(session, row) is False
    await store.sign(session, signed(ready), [RIS], 105)
    assert await states(session, RIS) == [(1, DELIVERY_STATE_WAITING)]


async def test_only_a_signature_on_an_earlier_edition_makes_it_a_correction(
    session: AsyncSession,
) -> None:
    for edition in (1, 2, 3):
        await store.take_in(session, report(edition=edition), [ALL], 100)
    await store.sign(session, signed(report(edition=2)), [], 101)
    rows = {
        row.edition: await store.corrects(session, row)
        for row in await session.scalars(select(ItemRow))
    }
    assert rows == {1: None, 2: False, 3: None}
    await store.sign(session, signed(report(edition=3)), [], 102)
    third = await session.get_one(ItemRow, ("hospital", "archive", deterministic_id("a"), 1, 3))
    assert await store.corrects(session, third) is True


async def test_an_unsigned_newer_edition_does_not_stop_a_signed_one(session: AsyncSession) -> None:
    await store.take_in(session, report(edition=1), [RIS], 100)
    await store.sign(session, signed(report(edition=1)), [RIS], 101)
    await store.take_in(session, report(edition=2), [RIS], 102)
    row = await claim(session, RIS, 103)
    assert row is not None
    assert row.edition == 1


async def test_a_destination_that_is_away_is_tried_with_one_item(session: AsyncSession) -> None:
    for name in "abc":
        await store.take_in(session, report(name), [PACS], 100)
    first = await claim(session, PACS, 100)
    assert first is not None
    _, place = await store.hold(session, first)
    await store.failed(session, first, PACS, "away", 110)
    store.away(place, "away", 100, 105)
    assert await claim(session, PACS, 104) is None
    probe = await claim(session, PACS, 105)
    assert probe is not None
    # Another one: an item that always fails must not hold up the rest.
    assert probe.study_id != first.study_id
    assert await claim(session, PACS, 106, OTHER) is None
    await store.failed(session, probe, PACS, "away", 200)
    store.away(place, "away", 106, 120)
    assert (place.failures, place.down_since) == (2, 100)
    assert await store.next_look(session, PACS) == 120
    third = await claim(session, PACS, 120)
    assert third is not None
    assert store.answered(place)
    await store.hurry(session, place, 121)
    # All go now, though their own next tries were later.
    assert await claim(session, PACS, 121, OTHER) is not None
    assert await claim(session, PACS, 121, "third") is not None


async def test_a_worker_takes_up_again_what_it_could_not_settle(session: AsyncSession) -> None:
    await store.take_in(session, report(), [PACS], 100)
    assert await claim(session, PACS, 100) is not None
    assert await claim(session, PACS, 101) is not None


async def test_figures_and_replay_by_destination_and_by_study(session: AsyncSession) -> None:
    for name in "abc":
        await store.take_in(session, report(name), [PACS], 100)
    rows = {row.study_id: row for row in await session.scalars(select(ItemRow))}
    refused, sent = rows[deterministic_id("a")], rows[deterministic_id("b")]
    await store.failed(session, refused, PACS, "no", None)
    sent.state, sent.due_at = DELIVERY_STATE_SENT, None
    one = (await figures.destinations(session, {"hospital"}))[1]
    assert (one.name, one.waiting, one.sent, one.refused, one.oldest) == ("pacs", 1, 1, 1, 100)
    assert await figures.destinations(session, {"another"}) == []

    async def chosen(study: str) -> list[ItemRow]:
        return list(await store.to_replay(session, "hospital", "pacs", study))

    assert await chosen("") == [refused]
    assert await chosen(deterministic_id("a")) == [refused]
    assert await chosen(deterministic_id("b")) == [sent]
    assert await chosen(deterministic_id("c")) == []
    store.send_again(refused, 500)
    assert (refused.state, refused.attempts, refused.error) == (DELIVERY_STATE_WAITING, 0, "")
    assert refused.state != DELIVERY_STATE_REFUSED
    place = await session.get_one(DestinationRow, ("hospital", "pacs"))
    assert place.failures == 0
