"""The stage: a report that is written or signed is put on its way to the tenant's destinations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.delivery import store
from lungmesh.delivery.parcel import Sender
from lungmesh.delivery.store import Rule
from lungmesh.mesh import Context, Stage
from lungmesh.mesh.db import after_commit
from lungmesh.v1.console_pb2 import StudySigned
from lungmesh.v1.report_pb2 import ReportDelivered, ReportReady


class DeliveryStage(Stage):
    """Writes a row for each destination and goes on: sending is the workers' matter.

    So a destination that is away holds up neither the bus nor another destination.
    """

    name = "delivery"
    consumes = (ReportReady, StudySigned)
    # Not by this stage but by the workers, when a destination has confirmed.
    produces = (ReportDelivered,)
    # The workers tell how far it is.
    visible = False
    deadline_seconds = 30

    def __init__(self, senders: Mapping[Rule, Sender], ring: Callable[[Rule], None]) -> None:
        self._senders = senders
        self._ring = ring

    async def handle(self, event: ReportReady | StudySigned, ctx: Context) -> Sequence[Message]:
        """Keep what is to be sent, in the transaction that ends the event; gives no events."""
        rules = [rule for rule in self._senders if rule.tenant == event.study.tenant]

        async def write(session: AsyncSession) -> None:
            if isinstance(event, ReportReady):
                taking = [rule for rule in rules if self._senders[rule].wanted(event)]
                await store.take_in(session, event, taking, time.time())
            else:
                await store.sign(session, event, rules, time.time())
            after_commit(session, wake)

        def wake() -> None:
            for rule in rules:
                self._ring(rule)

        if rules:
            ctx.on_commit(write)
        return []
