"""C-STORE to real PACS: under the patient's own identity, and only what was confirmed counts.

Named complaints: Mirth 3858 and 4335 ("sent" shown though the PACS answered failure), MONAI Deploy
gateway 200 (an export that loops for ever on a permanent refusal such as "calling AE not
recognised").
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lungmesh.delivery.dicom import DicomSender
from lungmesh.delivery.parcel import Parcel
from lungmesh.delivery.settings import DicomDestination
from lungmesh.mesh import Refused, Unavailable
from lungmesh.mesh.blobs import BlobStore
from tests.support.broker import free_port
from tests.support.delivery import kept, parcel
from tests.support.pacs import Orthanc, Scp, listening


def sender(port: int, **more: object) -> DicomSender:
    facts: dict[str, object] = {
        "kind": "dicom",
        "name": "pacs",
        "tenant": "hospital",
        "host": "127.0.0.1",
        "port": port,
        "ae_title": "PACS",
        "connect_seconds": 30,
        "answer_seconds": 30,
        "objects": ["sr", "seg"],
    }
    return DicomSender(DicomDestination.model_validate(facts | more))


async def test_orthanc_gets_both_objects_under_the_patients_own_identity(
    to_send: Parcel, orthanc: Orthanc
) -> None:
    pacs = sender(orthanc.dicom_port, ae_title="ORTHANC")
    assert pacs.wanted(to_send.report) == 2
    await pacs.send(to_send)
    stored = await asyncio.to_thread(orthanc.instances)
    assert {tags["Modality"] for tags in stored} == {"SR", "SEG"}
    for tags in stored:
        assert (tags["PatientID"], tags["PatientName"]) == ("MRN-7", "Wang^Xiaoming=王^小明")
        assert (tags["PatientBirthDate"], tags["PatientSex"]) == ("19500203", "M")


async def test_orthanc_that_does_not_know_us_refuses_for_good(
    to_send: Parcel, orthanc: Orthanc
) -> None:
    with pytest.raises(Refused):
        await sender(orthanc.dicom_port, ae_title="ORTHANC", calling_ae_title="WHO").send(to_send)
    assert await asyncio.to_thread(orthanc.instances) == []


async def test_the_identity_is_kept_nowhere_in_the_mesh(
    to_send: Parcel, reports: Path, scp: Scp
) -> None:
    await sender(scp.port).send(to_send)
    assert all("王".encode() in data for data in scp.received)
    for name, data in kept(BlobStore(f"file://{reports}/blobs")).items():
        assert b"MRN-7" not in data, name
        assert "王".encode() not in data, name


async def test_a_destination_gets_the_objects_that_it_chose(to_send: Parcel, scp: Scp) -> None:
    chosen = sender(scp.port, objects=["sr"])
    assert chosen.wanted(to_send.report) == 1
    await chosen.send(to_send)
    assert len(scp.received) == 1
    assert sender(scp.port, objects=["rtstruct"]).wanted(to_send.report) == 0


@pytest.mark.parametrize(("status", "error"), [(0xA900, Refused), (0xA700, Unavailable)])
async def test_an_object_that_the_pacs_answered_with_failure_is_not_delivered(
    to_send: Parcel, scp: Scp, status: int, error: type[Exception]
) -> None:
    """Mirth 3858, 4335: one of two objects fails."""
    scp.statuses = [0, status]
    with pytest.raises(error, match=f"1 of 2 objects were not sent.*0x{status:04X}"):
        await sender(scp.port).send(to_send)
    assert len(scp.received) == 1


async def test_a_repeat_sends_the_same_bytes(to_send: Parcel, scp: Scp) -> None:
    scp.statuses = [0, 0xA700, 0]
    pacs = sender(scp.port)
    with pytest.raises(Unavailable):
        await pacs.send(to_send)
    await pacs.send(to_send)
    assert len(scp.received) == 3
    assert len(set(scp.received)) == 2


async def test_calling_title_not_recognised_is_refused_for_good(to_send: Parcel) -> None:
    """MONAI Deploy gateway 200."""
    with listening(Scp(allowed_calling=("SOMEONE",))) as scp:
        with pytest.raises(Refused, match="does not recognise our calling AE title"):
            await sender(scp.port).send(to_send)
        assert scp.associations == 1


async def test_a_pacs_that_is_away_is_retried(to_send: Parcel) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await sender(free_port()).send(to_send)


async def test_a_missing_file_of_the_report_is_no_matter_of_the_pacs(
    to_send: Parcel, scp: Scp, tmp_path: Path
) -> None:
    empty = BlobStore(f"file://{tmp_path}")
    with pytest.raises(Exception, match="has no object"):
        await sender(scp.port).send(parcel(to_send.report, empty))
    assert scp.associations == 0
