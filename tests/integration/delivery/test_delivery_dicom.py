"""Delivery to real PACS: under the patient's own identity, and only what was confirmed counts.

Named complaints: Mirth 3858 and 4335 ("sent" shown though the PACS answered failure), MONAI Deploy
gateway 200 (an export that loops for ever on a permanent refusal such as "calling AE not
recognised").
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lungmesh.delivery.settings import DeliverySettings, Destination
from lungmesh.delivery.stage import DeliveryStage
from lungmesh.mesh import Context, Refused, Unavailable
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.stage import run_stage
from lungmesh.report.settings import ReportSettings
from lungmesh.report.stage import ReportStage
from lungmesh.v1.report_pb2 import ReportDelivered, ReportReady
from tests.support.broker import free_port
from tests.support.pacs import Orthanc, Scp, identities_of, listening
from tests.support.report import followup, made_up_case

TOKEN = "delivery-token"


@dataclass(frozen=True)
class Report:
    """A written report and where it lies."""

    ready: ReportReady
    blobs: BlobStore


@pytest.fixture
def report(tmp_path: Path) -> Report:
    case = made_up_case(tmp_path)
    stage, event = ReportStage(ReportSettings(key_image_nodules=0)), followup(case)
    (ready,) = asyncio.run(run_stage(stage, event, Context("event", case.blobs)))
    assert isinstance(ready, ReportReady)
    return Report(ready, case.blobs)


@dataclass
class Delivery:
    """The stage with its identities, ready to deliver a report."""

    report: Report
    destinations: list[Destination]
    token: str = TOKEN
    patient: str = ""
    asked: int = 0
    ingest_up: bool = True
    progress: list[str] = field(default_factory=list)

    async def run(self) -> list[ReportDelivered]:
        """Handle the report's event once."""
        patient = self.patient or self.report.ready.study.patient
        async with identities_of(patient, TOKEN) as (address, identities):
            stage = DeliveryStage(
                DeliverySettings(
                    destinations=self.destinations,
                    ingest=address if self.ingest_up else f"127.0.0.1:{free_port()}",
                    restore_token=self.token,
                )
            )
            context = Context(
                "event",
                self.report.blobs,
                _progress=lambda fraction, detail: self.progress.append(detail),
            )
            try:
                outputs = await run_stage(stage, self.report.ready, context)
            finally:
                self.asked += identities.asked
        assert all(isinstance(output, ReportDelivered) for output in outputs)
        return outputs  # type: ignore[return-value]


def destination(port: int, name: str = "pacs", **more: object) -> Destination:
    facts: dict[str, object] = {
        "name": name,
        "tenant": "hospital",
        "host": "127.0.0.1",
        "port": port,
        "ae_title": "PACS",
        "connect_seconds": 2,
        "answer_seconds": 5,
    }
    return Destination.model_validate(facts | more)


def kept(blobs: BlobStore) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a store with its bytes."""
    for path in Path(blobs.url.removeprefix("file://")).rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()


def names(delivered: Sequence[ReportDelivered]) -> list[str]:
    return [event.destination for event in delivered]


async def test_orthanc_gets_both_objects_under_the_patients_own_identity(
    report: Report, orthanc: Orthanc
) -> None:
    delivery = Delivery(report, [destination(orthanc.dicom_port, ae_title="ORTHANC")])
    (delivered,) = await delivery.run()
    assert (delivered.destination, delivered.object_count) == ("pacs", 2)
    stored = await asyncio.to_thread(orthanc.instances)
    assert {tags["Modality"] for tags in stored} == {"SR", "SEG"}
    for tags in stored:
        assert (tags["PatientID"], tags["PatientName"]) == ("MRN-7", "王^小明")
        assert (tags["PatientBirthDate"], tags["PatientSex"]) == ("19500203", "M")


async def test_the_identity_is_kept_nowhere_in_the_mesh(report: Report, scp: Scp) -> None:
    delivery = Delivery(report, [destination(scp.port)])
    await delivery.run()
    assert all("王".encode() in data for data in scp.received)
    for name, data in kept(report.blobs):
        assert b"MRN-7" not in data, name
        assert "王".encode() not in data, name
    assert delivery.progress == ["sending to pacs"]


async def test_without_destinations_of_the_tenant_nothing_is_sent_or_said(
    report: Report, scp: Scp
) -> None:
    delivery = Delivery(report, [destination(scp.port, tenant="another")])
    assert await delivery.run() == []
    assert (delivery.asked, scp.associations) == (0, 0)


@pytest.mark.parametrize(("status", "error"), [(0xA900, Refused), (0xA700, Unavailable)])
async def test_an_object_that_the_pacs_answered_with_failure_is_not_delivered(
    report: Report, scp: Scp, status: int, error: type[Exception]
) -> None:
    """Mirth 3858, 4335: one of two objects fails."""
    scp.statuses = [0, status]
    with pytest.raises(error, match=f"pacs: 1 of 2 objects were not sent.*0x{status:04X}"):
        await Delivery(report, [destination(scp.port)]).run()
    assert len(scp.received) == 1


async def test_a_retry_after_a_passing_failure_delivers(report: Report, scp: Scp) -> None:
    delivery = Delivery(report, [destination(scp.port)])
    scp.statuses = [0, 0xA700, 0]
    with pytest.raises(Unavailable):
        await delivery.run()
    assert names(await delivery.run()) == ["pacs"]
    # The first object came twice, each time with the same bytes: harmless to a PACS.
    assert len(scp.received) == 3
    assert len(set(scp.received)) == 2


async def test_calling_title_not_recognised_is_refused_for_good(report: Report) -> None:
    """MONAI Deploy gateway 200."""
    with listening(Scp(allowed_calling=("SOMEONE",))) as scp:
        with pytest.raises(Refused, match=r"pacs: .*does not recognise our calling AE title"):
            await Delivery(report, [destination(scp.port)]).run()
        assert scp.associations == 1


async def test_orthanc_that_does_not_know_us_refuses_for_good(
    report: Report, orthanc: Orthanc
) -> None:
    unknown = destination(orthanc.dicom_port, ae_title="ORTHANC", calling_ae_title="STRANGER")
    with pytest.raises(Refused):
        await Delivery(report, [unknown]).run()
    assert await asyncio.to_thread(orthanc.instances) == []


async def test_what_one_destination_confirmed_is_not_sent_again_for_another(
    report: Report, scp: Scp
) -> None:
    with listening(Scp(statuses=[0xA700, 0xA700, 0])) as second:
        delivery = Delivery(report, [destination(scp.port, "a"), destination(second.port, "b")])
        with pytest.raises(Unavailable, match=r"^b: "):
            await delivery.run()
        assert names(await delivery.run()) == ["a", "b"]
        assert (scp.associations, second.associations) == (1, 2)


async def test_a_passing_failure_is_retried_though_another_destination_refuses(
    report: Report, scp: Scp
) -> None:
    scp.statuses = [0xA700]
    with listening(Scp(allowed_calling=("SOMEONE",))) as refusing:
        both = [destination(refusing.port, "a"), destination(scp.port, "b")]
        with pytest.raises(Unavailable, match=r"a: .*calling AE title.*; b: .*0xA700"):
            await Delivery(report, both).run()


async def test_a_wrong_token_is_refused_before_anything_is_sent(report: Report, scp: Scp) -> None:
    delivery = Delivery(report, [destination(scp.port)], token="wrong")
    with pytest.raises(Refused, match="LUNGMESH_DELIVERY__RESTORE_TOKEN"):
        await delivery.run()
    assert scp.associations == 0


async def test_an_unknown_pseudonym_is_refused(report: Report, scp: Scp) -> None:
    delivery = Delivery(report, [destination(scp.port)], patient="0" * 36)
    with pytest.raises(Refused, match="no patient of this pseudonym"):
        await delivery.run()


async def test_ingest_away_is_retried(report: Report, scp: Scp) -> None:
    delivery = Delivery(report, [destination(scp.port)], ingest_up=False)
    with pytest.raises(Unavailable, match="did not restore the identity"):
        await delivery.run()
    assert scp.associations == 0


async def test_a_pacs_that_is_away_is_retried(report: Report) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await Delivery(report, [destination(free_port())]).run()
