"""Destinations and deliveries by gRPC, for operators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from lungmesh.delivery import figures, store
from lungmesh.delivery.sending import receipt_of
from lungmesh.delivery.settings import Destination as Setting
from lungmesh.delivery.store import Rule
from lungmesh.delivery.tables import ItemRow
from lungmesh.delivery.telling import delivery_id
from lungmesh.mesh import Mesh
from lungmesh.mesh.db import READS_ONLY, after_commit
from lungmesh.v1 import delivery_pb2, delivery_pb2_grpc

_LIST_LIMIT = 100
_KINDS = {
    "dicom": delivery_pb2.DESTINATION_KIND_DICOM,
    "stow": delivery_pb2.DESTINATION_KIND_STOW,
    "fhir": delivery_pb2.DESTINATION_KIND_FHIR,
    "mllp": delivery_pb2.DESTINATION_KIND_MLLP,
}


class DeliveryServicer(delivery_pb2_grpc.DeliveryServiceServicer):
    """Answers from the service's tables."""

    def __init__(
        self,
        mesh: Mesh,
        destinations: Mapping[Rule, Setting],
        ring: Callable[[Rule], None],
    ) -> None:
        self._mesh, self._ring = mesh, ring
        self._settings = {(rule.tenant, rule.name): one for rule, one in destinations.items()}
        self._rules = {(rule.tenant, rule.name): rule for rule in destinations}

    async def ListDestinations(
        self, request: delivery_pb2.ListDestinationsRequest, context: grpc.aio.ServicerContext
    ) -> delivery_pb2.ListDestinationsResponse:
        """List the tenants' destinations; one without settings as long as it has something."""
        async with self._mesh.sessions() as session:
            await session.connection(execution_options=READS_ONLY)
            found = await figures.destinations(session, set(request.tenants))
        return delivery_pb2.ListDestinationsResponse(
            destinations=[
                self._destination(one)
                for one in found
                if (one.tenant, one.name) in self._settings or one.waiting or one.refused
            ]
        )

    def _destination(self, one: figures.Figures) -> delivery_pb2.Destination:
        setting = self._settings.get((one.tenant, one.name))
        return delivery_pb2.Destination(
            tenant=one.tenant,
            name=one.name,
            kind=_KINDS[setting.kind] if setting else delivery_pb2.DESTINATION_KIND_UNSPECIFIED,
            signed_only=setting is not None and setting.when == "signed",
            unsigned=one.unsigned,
            waiting=one.waiting,
            uncommitted=one.uncommitted,
            sent=one.sent,
            refused=one.refused,
            oldest_waiting_since=_time(one.oldest),
            last_sent_at=_time(one.last_sent_at),
            down_since=_time(one.down_since),
            next_try_at=_time(one.next_try_at),
            last_error=one.error,
        )

    async def ListDeliveries(
        self, request: delivery_pb2.ListDeliveriesRequest, context: grpc.aio.ServicerContext
    ) -> delivery_pb2.ListDeliveriesResponse:
        """List deliveries, the newest first."""
        asked = select(ItemRow).where(ItemRow.tenant.in_(set(request.tenants)))
        if request.destination:
            asked = asked.where(ItemRow.destination == request.destination)
        if request.state:
            asked = asked.where(ItemRow.state == request.state)
        if request.study_id:
            asked = asked.where(ItemRow.study_id == request.study_id)
        asked = asked.order_by(ItemRow.since.desc(), ItemRow.study_id, ItemRow.destination)
        async with self._mesh.sessions() as session:
            await session.connection(execution_options=READS_ONLY)
            rows = (await session.scalars(asked.limit(request.limit or _LIST_LIMIT))).all()
        return delivery_pb2.ListDeliveriesResponse(deliveries=[_delivery(row) for row in rows])

    async def ReplayDeliveries(
        self, request: delivery_pb2.ReplayDeliveriesRequest, context: grpc.aio.ServicerContext
    ) -> delivery_pb2.ReplayDeliveriesResponse:
        """Put dead letters on their way again; of a named study without one, what went last."""
        chosen = (request.tenant, request.destination, request.study_id)
        rule = self._rules.get((request.tenant, request.destination))
        blobs = self._mesh.blobs
        async with self._mesh.sessions() as session, session.begin():
            rows = await store.to_replay(session, *chosen)
            for row in rows:
                await asyncio.to_thread(blobs.delete, receipt_of(row))
                store.send_again(row, time.time())
            if rule is not None:
                after_commit(session, partial(self._ring, rule))
        return delivery_pb2.ReplayDeliveriesResponse(replayed=len(rows))


def _delivery(row: ItemRow) -> delivery_pb2.Delivery:
    return delivery_pb2.Delivery(
        tenant=row.tenant,
        destination=row.destination,
        study_id=row.study_id,
        revision=row.revision,
        edition=row.edition,
        state=row.state,  # type: ignore[arg-type]
        attempts=row.attempts,
        since=_time(row.since),
        next_try_at=_time(row.due_at or 0.0),
        sent_at=_time(row.sent_at),
        last_error=row.error,
        delivery_id=delivery_id(row),
    )


def _time(seconds: float) -> Timestamp | None:
    if not seconds:
        return None
    time_ = Timestamp()
    time_.FromMicroseconds(round(seconds * 1e6))
    return time_
