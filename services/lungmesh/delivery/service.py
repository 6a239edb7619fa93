"""The delivery service: reports out of the mesh, to every destination of their tenant."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc

from lungmesh.delivery.dicom import DicomSender
from lungmesh.delivery.fhir import FhirSender
from lungmesh.delivery.metrics import Counts
from lungmesh.delivery.mllp import MllpSender
from lungmesh.delivery.parcel import Sender
from lungmesh.delivery.sending import Dispatch, rule_of
from lungmesh.delivery.servicer import DeliveryServicer
from lungmesh.delivery.settings import (
    DeliverySettings,
    Destination,
    DicomDestination,
    FhirDestination,
    StowDestination,
)
from lungmesh.delivery.stage import DeliveryStage
from lungmesh.delivery.stow import StowSender
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.dicom_commitment import Commitment, CommitmentListener
from lungmesh.mesh.settings import load
from lungmesh.mesh.tasks import finish
from lungmesh.v1 import delivery_pb2, delivery_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
# A PACS waits about so long for our answer to its report.
_KEEP_SECONDS = 20.0


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_DELIVERY__ setting is wrong or no database is set.
    """
    settings = load(DeliverySettings)
    destinations = {rule_of(one): one for one in settings.destinations}
    senders = {rule: sender_of(one) for rule, one in destinations.items()}
    counts = Counts(mesh, settings.count_seconds)
    dispatch = Dispatch(mesh, settings, senders, counts)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(
            DeliveryServicer(mesh, destinations, dispatch.ring), server
        )
        return [delivery_pb2.DESCRIPTOR.services_by_name["DeliveryService"].full_name]

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[dict[str, int]]:
        async with _listening(dispatch, settings) as ports:
            counting = asyncio.create_task(counts.run())
            await dispatch.start()
            try:
                yield ports
            finally:
                await dispatch.stop()
                counting.cancel()
                await finish({counting}, 1.0)

    return Service(
        name="delivery",
        stages=[DeliveryStage(senders, dispatch.ring)],
        register=register,
        lifespan=lifespan,
        migrations=MIGRATIONS,
    )


def sender_of(destination: Destination) -> Sender:
    """Return the way to a destination."""
    if isinstance(destination, DicomDestination):
        return DicomSender(destination)
    if isinstance(destination, StowDestination):
        return StowSender(destination)
    if isinstance(destination, FhirDestination):
        return FhirSender(destination)
    return MllpSender(destination)


@contextlib.asynccontextmanager
async def _listening(
    dispatch: Dispatch, settings: DeliverySettings
) -> AsyncIterator[dict[str, int]]:
    """Hear commitments where a destination is asked for them; yields the port."""
    asked = [
        one for one in settings.destinations if isinstance(one, DicomDestination) and one.commitment
    ]
    if not asked:
        yield {}
        return
    loop = asyncio.get_running_loop()

    def keep(said: Commitment) -> bool:
        kept = asyncio.run_coroutine_threadsafe(dispatch.committed(said), loop)
        return kept.result(_KEEP_SECONDS)

    listener = CommitmentListener(keep)
    calling = sorted({one.ae_title for one in asked})
    port = listener.start(settings.dicom_host, settings.dicom_port, calling)
    try:
        yield {"dicom": port}
    finally:
        # A report may be in hand, and is kept by this loop.
        await asyncio.to_thread(listener.close)
