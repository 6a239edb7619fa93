"""The delivery service as a process: outages, kills, signatures, dead letters; real peers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import delivery_pb2
from lungmesh.v1.console_pb2 import StudySigned
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_WAITING,
    ListDeliveriesRequest,
    ListDestinationsRequest,
    ReplayDeliveriesRequest,
)
from lungmesh.v1.delivery_pb2_grpc import DeliveryServiceStub
from lungmesh.v1.events_pb2 import FAILURE_KIND_REFUSED, StudyFailed
from lungmesh.v1.report_pb2 import ReportDelivered, ReportReady
from tests.support.broker import Broker, free_port
from tests.support.chassis import ServiceProcess, Tap, metric, tap, until
from tests.support.delivery import Ehr, Ris, receiving, serving, written
from tests.support.pacs import Scp, identities_of, listening
from tests.support.report import made_up_case

TOKEN = "service-token"
TENANT = "hospital"
DELIVERED, FAILED = "report.delivered.routine", "study.failed.routine"


def dicom(port: int, name: str = "pacs", **more: object) -> dict[str, object]:
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
    """Return the studies that a destination confirmed."""
    events = [ReportDelivered.FromString(record.value) for record in line.of(DELIVERED)]
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


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the report lies that every service here sends."""
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def report(reports: Path) -> ReportReady:
    return asyncio.run(written(made_up_case(reports)))


def copy(report: ReportReady, name: object, edition: int = 1) -> ReportReady:
    """Return the same files as the report of another study of the patient."""
    made = ReportReady()
    made.CopyFrom(report)
    made.study.study_id = deterministic_id("copy", name)
    made.edition = edition
    return made


def mllp(ris: Ris, name: str, **more: object) -> dict[str, object]:
    facts = {"kind": "mllp", "name": name, "tenant": TENANT, "host": "127.0.0.1"}
    return {**facts, "port": ris.port, **more}


async def test_a_destination_that_is_down_delays_nobody_and_loses_nothing(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    """One is down for the whole run; meanwhile the service is killed; then it comes back."""
    ehr, ris, down = Ehr(), Ris(), Ris(port=free_port())
    sent = [copy(report, f"outage {number}") for number in range(6)]
    ids = sorted(one.study.study_id for one in sent)
    with listening(Scp()) as scp:
        async with serving(ehr) as url, receiving(ris):
            fhir = {"kind": "fhir", "name": "ehr", "tenant": TENANT, "url": url}
            places = (
                dicom(scp.port),
                {**fhir, "patient_system": "urn:test"},
                mllp(ris, "ris"),
                mllp(down, "down"),
            )
            async with delivering(broker, tmp_path, reports, report, *places) as (service, line):
                await line.publish(*sent)
                for name in ("pacs", "ehr", "ris"):
                    await until(
                        lambda name=name: sorted(delivered(line, name)) == ids,  # type: ignore[misc]
                        120,
                        f"{name} has all: {service.log}",
                    )
                waiting = await states(service, "down")
                assert {one.state for one in waiting.values()} == {DELIVERY_STATE_WAITING}
                assert delivered(line, "down") == []
                place = await place_of(service, "down")
                assert (place.waiting, place.sent) == (6, 0)
                assert place.HasField("down_since")
                assert "cannot be reached" in place.last_error
                gauge = f'lungmesh_delivery_waiting{{destination="down",tenant="{TENANT}"}}'
                await until(
                    lambda: _is(metric(service, gauge), 6), 30, "what waits is counted as metric"
                )
                service.kill()
                await service.start(120)
                async with receiving(down):
                    await until(
                        lambda: sorted(delivered(line, "down")) == ids,
                        120,
                        f"the one that was down has all: {service.log}",
                    )
                    # Longer than a repeat would take.
                    await asyncio.sleep(2)
                place = await place_of(service, "down")
                assert (place.waiting, place.sent, place.last_error) == (0, 6, "")
                assert not place.HasField("down_since")
                log = service.log
    assert len(scp.received) == 2 * len(sent)
    for receiver in (ris, down):
        assert len(receiver.messages) == len(set(receiver.control_ids())) == len(sent)
    assert ehr.requests == len(sent)
    assert len(ehr.of("Patient")) == 1
    for name in ("pacs", "ehr", "ris", "down"):
        assert sorted(delivered(line, name)) == ids
    assert "MRN-7" not in log
    assert "小明" not in log


async def _is(value: Awaitable[float], wanted: float) -> bool:
    return await value == wanted


async def test_killed_amid_a_send_it_repeats_the_very_same_message(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    ris = Ris(answers=["AA", "AA", "silent", "AA"])
    sent = [copy(report, f"kill {number}") for number in range(5)]
    ids = sorted(one.study.study_id for one in sent)
    async with (
        receiving(ris),
        delivering(broker, tmp_path, reports, report, mllp(ris, "ris")) as (service, line),
    ):
        await line.publish(*sent)
        await until(lambda: len(ris.messages) == 3, 120, f"the third is sent: {service.log}")
        service.kill()
        await service.start(120)
        await until(
            lambda: sorted(delivered(line, "ris")) == ids, 120, f"all arrive: {service.log}"
        )
        await asyncio.sleep(1)
    # The one that was not acknowledged came twice, byte for byte: the receiver knows its MSH-10.
    assert len(ris.messages) == 6
    assert len(set(ris.raw)) == len(set(ris.control_ids())) == 5
    assert sorted(delivered(line, "ris")) == ids


async def test_signatures_corrections_dead_letters_and_replay(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path
) -> None:
    """MONAI Deploy gateway 200; Mirth 3858, 4335: nothing says that a refused report went."""
    ris = Ris()
    first, second = copy(report, "signed"), copy(report, "signed", edition=2)
    study = first.study.study_id
    scp = Scp(statuses=[0xA900])
    with listening(scp):
        async with (
            receiving(ris),
            delivering(
                broker,
                tmp_path,
                reports,
                report,
                mllp(ris, "ris", when="signed"),
                dicom(scp.port, objects=["sr"]),
            ) as (service, line),
        ):
            await line.publish(first)
            await until(lambda: line.of(FAILED), 120, f"the refusal is said: {service.log}")
            failed = StudyFailed.FromString(line.of(FAILED)[0].value)
            assert (failed.stage, failed.kind) == ("delivery", FAILURE_KIND_REFUSED)
            assert "pacs: 1 of 1 objects were not sent" in failed.reason
            # Longer than the first tries of a passing failure would take.
            await asyncio.sleep(2)
            assert scp.associations == 1
            assert (await states(service, "pacs"))[study].state == DELIVERY_STATE_REFUSED
            assert (await place_of(service, "pacs")).refused == 1

            scp.statuses = [0]
            replay = ReplayDeliveriesRequest(tenant=TENANT, destination="pacs")
            answer = await ask(service, "ReplayDeliveries", replay)
            assert answer.replayed == 1  # type: ignore[attr-defined]
            await until(lambda: delivered(line, "pacs") == [study], 60, "the replay arrives")
            replay.study_id = study
            await ask(service, "ReplayDeliveries", replay)
            await until(lambda: len(scp.received) == 2, 60, "a named study goes again")

            assert ris.messages == []
            for number, edition in enumerate((first, second), 1):
                await line.publish(edition)
                signature = StudySigned(
                    study=edition.study,
                    edition=edition.edition,
                    content_sha256=edition.content_sha256,
                    author="dr.li",
                )
                signature.at.GetCurrentTime()
                await line.publish(signature)
                await until(
                    lambda n=number: len(ris.messages) == n,  # type: ignore[misc]
                    60,
                    f"edition {number}",
                )
            await until(lambda: len(delivered(line, "ris")) == 2, 30, "both are delivered")
            assert (await states(service, "ris"))[study].state == DELIVERY_STATE_SENT
    assert [str(one.segment("OBR")[25]) for one in ris.messages] == ["F", "C"]
    assert len(line.of(FAILED)) == 1


async def test_two_processes_share_the_work_and_send_nothing_twice(
    broker: Broker, reports: Path, report: ReportReady, tmp_path: Path, postgres_url: str
) -> None:
    ris = Ris()
    sent = [copy(report, f"shared {number}") for number in range(24)]
    ids = sorted(one.study.study_id for one in sent)
    async with (
        receiving(ris),
        identities_of(report.study.patient, TOKEN) as (address, _),
        tap(broker.bootstrap, DELIVERED) as line,
    ):
        both = [
            process(
                broker,
                tmp_path,
                reports,
                address,
                mllp(ris, "ris"),
                replica=replica,
                LUNGMESH_DATABASE_URL=postgres_url,
                LUNGMESH_DELIVERY__LOOK_SECONDS="0.1",
            )
            for replica in ("-1", "-2")
        ]
        try:
            await asyncio.gather(*(one.start(120) for one in both))
            await line.publish(*sent)
            # Each process may publish what stands in their outbox: the same event, twice.
            await until(
                lambda: sorted({*delivered(line, "ris")}) == ids, 120, f"all arrive: {both[0].log}"
            )
            shares = [await metric(one, "lungmesh_delivery_sent_total") for one in both]
        finally:
            for one in both:
                one.kill()
    assert sum(shares) == len(sent)
    assert min(shares) > 0
    assert len(ris.messages) == len(set(ris.control_ids())) == len(sent)
