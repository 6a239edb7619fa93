"""The delivery service, as far as the operators' page needs it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import grpc
from google.protobuf.message import Message

from lungmesh.console.settings import ConsoleSettings
from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.settings import TlsSettings
from lungmesh.mesh.tls import open_channel
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_REFUSED,
    Delivery,
    Destination,
    ListDeliveriesRequest,
    ListDestinationsRequest,
    ReplayDeliveriesRequest,
)
from lungmesh.v1.delivery_pb2_grpc import DeliveryServiceStub

log = logging.getLogger(__name__)

_CALL_SECONDS = 5.0
_MOST_DEAD = 200


class Deliveries:
    """Calls to the delivery service; without an address it says nothing."""

    def __init__(self, settings: ConsoleSettings, tls: TlsSettings | None) -> None:
        self._address, self._tls = settings.delivery, tls

    async def destinations(self, tenants: Collection[str]) -> Sequence[Destination] | None:
        """Return the tenants' destinations; None when the service is not there to tell."""
        answer = await self._told("ListDestinations", ListDestinationsRequest(tenants=tenants))
        return None if answer is None else answer.destinations  # type: ignore[attr-defined]

    async def dead(self, tenants: Collection[str]) -> Sequence[Delivery]:
        """Return the tenants' dead letters, the newest first; none when it is not there to tell."""
        request = ListDeliveriesRequest(
            tenants=tenants, state=DELIVERY_STATE_REFUSED, limit=_MOST_DEAD
        )
        answer = await self._told("ListDeliveries", request)
        return [] if answer is None else answer.deliveries  # type: ignore[attr-defined]

    async def replay(self, letter: Delivery) -> int:
        """Put a dead letter on its way again; return how many went.

        Raises Unavailable when the service does not answer.
        """
        request = ReplayDeliveriesRequest(
            tenant=letter.tenant, destination=letter.destination, study_id=letter.study_id
        )
        try:
            answer = await self._call("ReplayDeliveries", request)
        except grpc.aio.AioRpcError as error:
            raise Unavailable("the delivery service does not answer") from error
        return int(answer.replayed)  # type: ignore[attr-defined]

    async def _told(self, method: str, request: Message) -> Message | None:
        if not self._address or not request.tenants:  # type: ignore[attr-defined]
            return None
        try:
            return await self._call(method, request)
        except grpc.aio.AioRpcError as error:
            log.warning("the delivery service does not answer (%s)", error.code().name)
            return None

    async def _call(self, method: str, request: Message) -> Message:
        async with open_channel(self._address, self._tls) as channel:
            answer: Message = await getattr(DeliveryServiceStub(channel), method)(
                request, timeout=_CALL_SECONDS
            )
        return answer
