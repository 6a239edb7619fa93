"""The delivery service as a process with its destinations, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from google.protobuf.message import Message

from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import delivery_pb2
from lungmesh.v1.delivery_pb2 import ListDeliveriesRequest, ListDestinationsRequest
from lungmesh.v1.delivery_pb2_grpc import DeliveryServiceStub
from lungmesh.v1.report_pb2 import ReportDelivered, ReportReady
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, Tap, tap
from tests.support.delivery import Ris
from tests.support.pacs import identities_of

TOKEN = "service-token"
TENANT = "hospital"
DELIVERED, FAILED = "report.delivered.routine", "study.failed.routine"


def dicom(port: int, name: str = "pacs", **more: object) -> dict[str, object]:
    """Return a PACS as a setting."""
    facts = {"kind": "dicom", "name": name, "tenant": TENANT, "host": "127.0.0.1", "port": port}
    return {**facts, "ae_title": "PACS", "objects": ["sr", "seg"], **more}


def process(
    broker: Broker,
    folder: Path,
    blobs: Path,
    ingest: str,
    *destinations: Mapping[str, object],
    replica: str = "",
    **more: str,
) -> ServiceProcess:
    """Return the service, quick to try again."""
    return ServiceProcess(
        "lungmesh.mesh.serve",
        "delivery",
        folder,
        broker.bootstrap,
        replica,
        LUNGMESH_BLOBS_URL=f"file://{blobs}/blobs",
        LUNGMESH_DELIVERY__DESTINATIONS=json.dumps(destinations),
        LUNGMESH_DELIVERY__INGEST=ingest,
        LUNGMESH_DELIVERY__RESTORE_TOKEN=TOKEN,
        LUNGMESH_DELIVERY__FIRST_BACKOFF_SECONDS="0.2",
        LUNGMESH_DELIVERY__MOST_BACKOFF_SECONDS="1",
        LUNGMESH_DELIVERY__COUNT_SECONDS="0.5",
        **more,
    )


@asynccontextmanager
async def delivering(
    broker: Broker,
    folder: Path,
    blobs: Path,
    report: ReportReady,
    *destinations: Mapping[str, object],
    **more: str,
) -> AsyncIterator[tuple[ServiceProcess, Tap]]:
    """Run the service with an ingest that restores the report's patient; yields it and a tap."""
    async with identities_of(report.study.patient, TOKEN) as (address, _):
        service = process(broker, folder, blobs, address, *destinations, **more)
        try:
            await service.start(120)
            async with tap(broker.bootstrap, DELIVERED, FAILED) as line:
                yield service, line
        finally:
            service.kill()


def delivered(line: Tap, name: str) -> list[str]:
    """Return the studies that a destination confirmed, as a stage of the mesh counts them.

    An event whose publisher was killed comes twice under one id, and is one.
    """
    once = {record.headers["ce_id"]: record.value for record in line.of(DELIVERED)}
    events = [ReportDelivered.FromString(value) for value in once.values()]
    return [event.study.study_id for event in events if event.destination == name]


async def ask(service: ServiceProcess, method: str, request: Message) -> Message:
    """Call the service's API."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        answer: Message = await getattr(DeliveryServiceStub(channel), method)(request)
        return answer


async def states(service: ServiceProcess, name: str) -> dict[str, delivery_pb2.Delivery]:
    """Return a destination's deliveries by study."""
    request = ListDeliveriesRequest(tenants=[TENANT], destination=name)
    answer = await ask(service, "ListDeliveries", request)
    return {one.study_id: one for one in answer.deliveries}  # type: ignore[attr-defined]


async def place_of(service: ServiceProcess, name: str) -> delivery_pb2.Destination:
    """Return a destination as operators see it."""
    answer = await ask(service, "ListDestinations", ListDestinationsRequest(tenants=[TENANT]))
    found: list[delivery_pb2.Destination] = list(answer.destinations)  # type: ignore[attr-defined]
    return next(one for one in found if one.name == name)


def copy(report: ReportReady, name: object, edition: int = 1) -> ReportReady:
    """Return the same files as the report of another study of the patient."""
    made = ReportReady()
    made.CopyFrom(report)
    made.study.study_id = deterministic_id("copy", name)
    made.edition = edition
    return made


def mllp(ris: Ris, name: str, **more: object) -> dict[str, object]:
    """Return a RIS as a setting."""
    facts = {"kind": "mllp", "name": name, "tenant": TENANT, "host": "127.0.0.1"}
    return {**facts, "port": ris.port, **more}
