"""The delivery service as a process: outages, kills, signatures, dead letters; real peers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from lungmesh.cli import app
from lungmesh.embedded.layout import Layout
from lungmesh.embedded.state import MeshState, started_at
from lungmesh.v1.console_pb2 import StudySigned
from lungmesh.v1.delivery_pb2 import (
    DELIVERY_STATE_REFUSED,
    DELIVERY_STATE_SENT,
    DELIVERY_STATE_WAITING,
    ReplayDeliveriesRequest,
)
from lungmesh.v1.events_pb2 import FAILURE_KIND_REFUSED, StudyFailed
from lungmesh.v1.report_pb2 import ReportReady
from tests.support.broker import Broker, free_port
from tests.support.chassis import ServiceProcess, metric, tap, until
from tests.support.delivering import (
    DELIVERED,
    FAILED,
    TENANT,
    TOKEN,
    ask,
    copy,
    delivered,
    delivering,
    dicom,
    mllp,
    place_of,
    process,
    states,
)
from tests.support.delivery import Ehr, Ris, receiving, serving
from tests.support.pacs import Scp, identities_of, listening


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


def commands(service: ServiceProcess, data: Path, *words: str) -> dict[str, Any]:
    """Run `lungmesh deliveries …` and return the rows of each table."""
    own, ports = os.getpid(), {"delivery": service.ports}
    MeshState("up", own, started_at(own), "", ports, {}).write(Layout(data).state_file)
    options = ["--tenant", TENANT, "--data", str(data), "--json"]
    ended = CliRunner().invoke(app, ["deliveries", *words, *options])
    assert ended.exception is None, ended.exception
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    return {item["event"]: item.get("rows") for item in said}


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

            told = await asyncio.to_thread(commands, service, tmp_path, "list")
            (place,) = [row for row in told["destinations"] if row["destination"] == "pacs"]
            assert (place["kind"], place["dead"]) == ("dicom", 1)
            assert [row["study_id"] for row in told["deliveries"]] == [study]
            scp.statuses = [0]
            await asyncio.to_thread(commands, service, tmp_path, "replay", "pacs")
            await until(lambda: delivered(line, "pacs") == [study], 60, "the replay arrives")
            replay = ReplayDeliveriesRequest(tenant=TENANT, destination="pacs", study_id=study)
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
