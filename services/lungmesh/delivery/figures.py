"""How the destinations do, in numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.delivery.tables import DestinationRow, ItemRow
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_COMMITTED,
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_UNSIGNED,
    DELIVERY_STATE_WAITING,
)


@dataclass
class Figures:
    """A destination: reports by state; times in seconds since 1970, 0 where there is none."""

    tenant: str
    name: str
    unsigned: int = 0
    waiting: int = 0
    uncommitted: int = 0
    sent: int = 0
    refused: int = 0
    oldest: float = 0.0
    last_sent_at: float = 0.0
    down_since: float = 0.0
    next_try_at: float = 0.0
    error: str = ""


async def destinations(session: AsyncSession, tenants: Collection[str] | None) -> list[Figures]:
    """Return every destination of tenants (None: of all), by tenant and name."""
    places = select(DestinationRow)
    counted = select(
        ItemRow.tenant,
        ItemRow.destination,
        ItemRow.state,
        func.count(),
        func.min(ItemRow.since),
        # What is due although it is sent: a commitment.
        func.count(ItemRow.due_at),
    ).group_by(ItemRow.tenant, ItemRow.destination, ItemRow.state)
    if tenants is not None:
        places = places.where(DestinationRow.tenant.in_(tenants))
        counted = counted.where(ItemRow.tenant.in_(tenants))
    found: dict[tuple[str, str], Figures] = {}
    for place in await session.scalars(places):
        found[place.tenant, place.name] = Figures(
            place.tenant,
            place.name,
            last_sent_at=place.last_sent_at,
            down_since=place.down_since,
            next_try_at=place.resume_at,
            error=place.error,
        )
    for tenant, name, state, count, since, due in await session.execute(counted):
        one = found.setdefault((tenant, name), Figures(tenant, name))
        if state == DELIVERY_STATE_UNSIGNED:
            one.unsigned = count
        elif state == DELIVERY_STATE_WAITING:
            one.waiting, one.oldest = count, since
        elif state == DELIVERY_STATE_REFUSED:
            one.refused = count
        elif state in (DELIVERY_STATE_SENT, DELIVERY_STATE_COMMITTED):
            one.sent += count
            one.uncommitted += due
    return [found[key] for key in sorted(found)]
