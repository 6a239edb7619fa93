"""What is sent when: the service's tables, read and written.

`due_at` says when something is to be done for an item; None means nothing. An item is worked on by
whoever claimed it, until the lease ends; a newer edition waits while an older one is under way.
Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from lungmesh.delivery.tables import DestinationRow, ItemRow, SignatureRow
from lungmesh.mesh.telemetry import trace_headers
from lungmesh.v1.console_pb2 import StudySigned
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_COMMITTED,
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_SUPERSEDED,
    DELIVERY_STATE_UNSIGNED,
    DELIVERY_STATE_WAITING,
)
from lungmesh.v1.report_pb2 import ReportReady


@dataclass(frozen=True)
class Rule:
    """What the store must know of a destination."""

    tenant: str
    name: str
    signed: bool
    latest_only: bool


def edition_of(report: ReportReady) -> int:
    """Return the edition of a report; 0 counts as 1."""
    return max(1, report.edition)


async def take_in(
    session: AsyncSession, report: ReportReady, rules: Iterable[Rule], now: float
) -> None:
    """Put a report on its way to destinations."""
    study, edition = report.study, edition_of(report)
    signed = await session.get(
        SignatureRow, (study.tenant, study.study_id, study.revision, edition)
    )
    data = report.SerializeToString(deterministic=True)
    for rule in rules:
        key = (rule.tenant, rule.name, study.study_id, study.revision, edition)
        row = await session.get(ItemRow, key, with_for_update=True)
        if row is not None:
            # The same edition made again: what has not gone yet goes as it is now.
            if row.state in (DELIVERY_STATE_UNSIGNED, DELIVERY_STATE_WAITING):
                row.event = data
            continue
        row = ItemRow(
            tenant=rule.tenant,
            destination=rule.name,
            study_id=study.study_id,
            revision=study.revision,
            edition=edition,
            priority=study.priority,
            state=DELIVERY_STATE_UNSIGNED,
            since=now,
            due_at=None,
            traceparent=trace_headers().get("traceparent", ""),
            event=data,
        )
        session.add(row)
        await session.flush()
        if signed is not None or not rule.signed:
            await _set_off(session, row, rule, now)


async def sign(
    session: AsyncSession, event: StudySigned, rules: Iterable[Rule], now: float
) -> None:
    """Keep a signature, and put what waited for it on its way."""
    study = event.study
    key = (study.tenant, study.study_id, study.revision, event.edition)
    if await session.get(SignatureRow, key) is None:
        session.add(
            SignatureRow(
                tenant=study.tenant,
                study_id=study.study_id,
                revision=study.revision,
                edition=event.edition,
                at=event.at.ToMicroseconds() / 1e6,
            )
        )
        await session.flush()
    for rule in rules:
        row = await session.get(ItemRow, (rule.tenant, rule.name, *key[1:]), with_for_update=True)
        if row is not None and row.state == DELIVERY_STATE_UNSIGNED:
            await _set_off(session, row, rule, now)


async def _set_off(session: AsyncSession, row: ItemRow, rule: Rule, now: float) -> None:
    """Have an item wait to be sent; of several editions the newest alone, where asked."""
    if rule.latest_only and await _newer(session, row):
        row.state, row.due_at = DELIVERY_STATE_SUPERSEDED, None
        return
    row.state, row.since, row.due_at = DELIVERY_STATE_WAITING, now, now
    if rule.latest_only:
        await session.execute(
            update(ItemRow)
            .where(
                *_same_study(ItemRow, row),
                tuple_(ItemRow.revision, ItemRow.edition) < tuple_(*row.order),
                ItemRow.state.in_((DELIVERY_STATE_UNSIGNED, DELIVERY_STATE_WAITING)),
                # One that is being sent now ends first.
                ItemRow.claimed_until <= now,
            )
            .values(state=DELIVERY_STATE_SUPERSEDED, due_at=None)
        )


async def _newer(session: AsyncSession, row: ItemRow) -> bool:
    """Return whether a newer edition is on its way or gone."""
    found = await session.scalar(
        select(func.count()).where(
            *_same_study(ItemRow, row),
            tuple_(ItemRow.revision, ItemRow.edition) > tuple_(*row.order),
            ItemRow.state != DELIVERY_STATE_UNSIGNED,
        )
    )
    return bool(found)


def _same_study(table: Any, row: Any) -> tuple[ColumnElement[bool], ...]:
    return (
        table.tenant == row.tenant,
        table.destination == row.destination,
        table.study_id == row.study_id,
    )


async def corrects(session: AsyncSession, row: ItemRow) -> bool | None:
    """Return whether a signed edition corrects an earlier signed one; None when it is unsigned."""
    signed = await session.execute(
        select(SignatureRow.revision, SignatureRow.edition).where(
            SignatureRow.tenant == row.tenant, SignatureRow.study_id == row.study_id
        )
    )
    orders = [(revision, edition) for revision, edition in signed]
    if row.order not in orders:
        return None
    return any(order < row.order for order in orders)


async def know(session: AsyncSession, rules: Iterable[Rule]) -> None:
    """Make the rows of destinations that have none."""
    rows = [{"tenant": rule.tenant, "name": rule.name} for rule in rules]
    if not rows:
        return
    postgres = session.get_bind().dialect.name == "postgresql"
    new = (postgresql if postgres else sqlite).insert(DestinationRow)
    await session.execute(new.on_conflict_do_nothing(), rows)


async def claim(
    session: AsyncSession, rule: Rule, who: str, now: float, lease: float
) -> ItemRow | None:
    """Take the next thing to do for a destination, for a lease; None when there is none now.

    Several processes may ask at once. While a destination fails there is one claim at a time.
    """
    # Its row is held: two claims see each other.
    place = await session.get(DestinationRow, (rule.tenant, rule.name), with_for_update=True)
    if place is None or place.resume_at > now or (place.failures and place.probe_until > now):
        return None
    older = aliased(ItemRow)
    under_way = (
        select(older.edition)
        .where(
            *_same_study(older, ItemRow),
            tuple_(older.revision, older.edition) < tuple_(ItemRow.revision, ItemRow.edition),
            older.state == DELIVERY_STATE_WAITING,
        )
        .exists()
    )
    row: ItemRow | None = await session.scalar(
        select(ItemRow)
        .where(
            ItemRow.tenant == rule.tenant,
            ItemRow.destination == rule.name,
            ItemRow.due_at <= now,
            # What this very worker holds it could not settle.
            or_(ItemRow.claimed_until <= now, ItemRow.claimed_by == who),
            ~under_way,
        )
        # An item that fails again and again must not stand before the others.
        .order_by(ItemRow.attempts, ItemRow.priority, ItemRow.since, ItemRow.study_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    row.attempts += 1
    row.claimed_by, row.claimed_until = who, now + lease
    if place.failures:
        place.probe_until = now + lease
    return row


async def renew(session: AsyncSession, whose: Collection[str], until: float) -> None:
    """Lengthen the leases that workers hold."""
    await session.execute(
        update(ItemRow).where(ItemRow.claimed_by.in_(whose)).values(claimed_until=until)
    )


async def release(session: AsyncSession, whose: Collection[str] | None) -> None:
    """Give up the leases of workers, or of all."""
    held = ItemRow.claimed_by != "" if whose is None else ItemRow.claimed_by.in_(whose)
    await session.execute(update(ItemRow).where(held).values(claimed_by="", claimed_until=0.0))
    if whose is None:
        await session.execute(update(DestinationRow).values(probe_until=0.0))


async def next_look(session: AsyncSession, rule: Rule) -> float | None:
    """Return when something may be due for a destination; None when nothing waits."""
    due: float | None = await session.scalar(
        select(func.min(ItemRow.due_at)).where(
            ItemRow.tenant == rule.tenant, ItemRow.destination == rule.name
        )
    )
    if due is None:
        return None
    place = await session.get(DestinationRow, (rule.tenant, rule.name))
    return max(due, place.resume_at) if place is not None else due


async def hold(session: AsyncSession, row: ItemRow) -> tuple[ItemRow, DestinationRow]:
    """Return an item and its destination as they stand now, held until the transaction ends."""
    place = await session.get_one(
        DestinationRow, (row.tenant, row.destination), with_for_update=True
    )
    now = await session.get_one(ItemRow, row.key, with_for_update=True)
    return now, place


def answered(place: DestinationRow) -> bool:
    """Note that a destination is there; return whether it had been away."""
    was_away = place.failures > 1
    place.failures, place.error = 0, ""
    place.down_since = place.resume_at = place.probe_until = 0.0
    return was_away


def away(place: DestinationRow, error: str, now: float, resume_at: float) -> None:
    """Note that a destination did not take something, and when it is tried again."""
    place.failures += 1
    place.down_since = place.down_since or now
    place.error, place.resume_at, place.probe_until = error, resume_at, 0.0


async def hurry(session: AsyncSession, place: DestinationRow, now: float) -> None:
    """Have what waits for a destination that is back go at once."""
    await session.execute(
        update(ItemRow)
        .where(
            ItemRow.tenant == place.tenant,
            ItemRow.destination == place.name,
            ItemRow.state == DELIVERY_STATE_WAITING,
            ItemRow.due_at > now,
        )
        .values(due_at=now)
    )


async def failed(
    session: AsyncSession, row: ItemRow, rule: Rule, error: str, due_at: float | None
) -> None:
    """Note a failure: the item is due again, or a dead letter when `due_at` is None."""
    row.error = error
    row.let_go()
    if due_at is None:
        row.state, row.due_at = DELIVERY_STATE_REFUSED, None
    elif row.state == DELIVERY_STATE_WAITING and rule.latest_only and await _newer(session, row):
        row.state, row.due_at = DELIVERY_STATE_SUPERSEDED, None
    else:
        row.due_at = due_at


async def by_transaction(session: AsyncSession, transaction_uid: str) -> ItemRow | None:
    """Return the item that a storage commitment was asked for, held; None when there is none."""
    found: ItemRow | None = await session.scalar(
        select(ItemRow).where(ItemRow.transaction_uid == transaction_uid).with_for_update()
    )
    return found


async def to_replay(
    session: AsyncSession, tenant: str, destination: str, study_id: str
) -> Sequence[ItemRow]:
    """Return a destination's dead letters, held; of a study without one, its newest that went."""
    asked = select(ItemRow).where(ItemRow.tenant == tenant, ItemRow.destination == destination)
    if study_id:
        asked = asked.where(ItemRow.study_id == study_id)
    asked = asked.with_for_update()
    dead = (await session.scalars(asked.where(ItemRow.state == DELIVERY_STATE_REFUSED))).all()
    if dead or not study_id:
        return dead
    gone = asked.where(ItemRow.state.in_((DELIVERY_STATE_SENT, DELIVERY_STATE_COMMITTED)))
    newest = gone.order_by(ItemRow.revision.desc(), ItemRow.edition.desc()).limit(1)
    return (await session.scalars(newest)).all()


def send_again(row: ItemRow, now: float) -> None:
    """Put an item on its way as if it had just come."""
    row.state, row.since, row.due_at = DELIVERY_STATE_WAITING, now, now
    row.attempts, row.error, row.transaction_uid = 0, "", ""
