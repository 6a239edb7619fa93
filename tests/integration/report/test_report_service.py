"""The report service as a process, on a real broker, with the real ingest and a real PACS."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography.fernet import Fernet
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungmesh.mesh import envelope
from lungmesh.mesh.dicom_scu import Peer, send_files
from lungmesh.mesh.failures import DLQ_KIND, DLQ_REASON
from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1.events_pb2 import FAILURE_KIND_REFUSED, StudyFailed
from lungmesh.v1.report_pb2 import (
    FetchReportRequest,
    ReportDelivered,
    WriteRequest,
    WriteResponse,
)
from lungmesh.v1.report_pb2_grpc import ReportServiceStub
from lungmesh.v1.study_pb2 import StudyReceived
from tests.integration.report.conftest import Orthanc, Scp, identities_of, listening
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, tap, until
from tests.support.report import followup, made_up_case

TOKEN = "service-token"
READY, DELIVERED = "report.ready.routine", "report.delivered.routine"
FAILED, DEAD = "study.failed.routine", "delivery.dlq"


def destination(port: int, **more: object) -> str:
    facts = {"name": "pacs", "tenant": "hospital", "host": "127.0.0.1", "port": port}
    return json.dumps([{**facts, "ae_title": "ORTHANC", "connect_seconds": 3, **more}])


def one_slice() -> Dataset:
    """A CT image of a patient with a Chinese name."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.Modality = CTImageStorage, "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(ds, keyword, dicom_uid("report service", keyword))
    ds.FrameOfReferenceUID = dicom_uid("report service", "frame")
    ds.PatientID, ds.PatientName = "MRN-7", "王^小明"
    ds.PatientBirthDate, ds.PatientSex = "19500203", "M"
    ds.StudyDate, ds.InstanceNumber = "20000101", 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
    ds.Rows = ds.Columns = 32
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ds.PixelData = np.arange(1024, dtype="<i2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


async def test_a_written_report_can_be_fetched_whole_by_study_and_revision(
    broker: Broker, tmp_path: Path
) -> None:
    event = followup(made_up_case(tmp_path))
    service = ServiceProcess("lungmesh.mesh.serve", "report", tmp_path, broker.bootstrap)
    try:
        await service.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
            stub = ReportServiceStub(channel)
            answer: WriteResponse = await stub.Write(WriteRequest(event=event))
            study = event.study
            for revision in (0, study.revision):
                request = FetchReportRequest(
                    tenant=study.tenant, study_id=study.study_id, revision=revision
                )
                files: dict[str, bytes] = {}
                async for part in stub.FetchReport(request):
                    files[part.name] = files.get(part.name, b"") + part.data
                sizes = {a.name: a.content.size_bytes for a in answer.event.artefacts}
                assert {name: len(data) for name, data in files.items()} == sizes
            for missing in (
                FetchReportRequest(tenant=study.tenant, study_id=str(uuid.uuid4())),
                FetchReportRequest(tenant="other", study_id=study.study_id),
                FetchReportRequest(tenant=study.tenant, study_id=study.study_id, revision=7),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    async for _ in stub.FetchReport(missing):
                        pass
                assert error.value.code() is grpc.StatusCode.NOT_FOUND
    finally:
        service.kill()


async def test_a_study_comes_back_to_the_pacs_under_its_own_identity(
    broker: Broker, tmp_path: Path, orthanc: Orthanc
) -> None:
    ingest = ServiceProcess(
        "lungmesh.mesh.serve",
        "ingest",
        tmp_path,
        broker.bootstrap,
        LUNGMESH_INGEST__IDENTITY_KEY=Fernet.generate_key().decode(),
        LUNGMESH_INGEST__RESTORE_TOKEN=TOKEN,
        LUNGMESH_INGEST__SPOOL=str(tmp_path / "spool"),
        LUNGMESH_INGEST__TENANTS='{"LUNGMESH": "hospital"}',
        LUNGMESH_INGEST__RELEASE_GRACE_SECONDS="0",
        LUNGMESH_INGEST__MIN_FREE_BYTES="0",
    )
    report: ServiceProcess | None = None
    try:
        await ingest.start()
        async with tap(broker.bootstrap, "study.received.routine", READY, DELIVERED) as line:
            peer = Peer("127.0.0.1", ingest.ports["dicom"], "LUNGMESH")
            sent = await asyncio.to_thread(send_files, [one_slice()], peer)
            sent.require_all_sent()
            await until(lambda: line.of("study.received.routine"), 30, "the study is complete")
            received = StudyReceived.FromString(line.of("study.received.routine")[0].value)

            report = ServiceProcess(
                "lungmesh.mesh.serve",
                "report",
                tmp_path,
                broker.bootstrap,
                LUNGMESH_REPORT__DESTINATIONS=destination(orthanc.dicom_port),
                LUNGMESH_REPORT__INGEST=f"127.0.0.1:{ingest.ports['grpc']}",
                LUNGMESH_REPORT__RESTORE_TOKEN=TOKEN,
            )
            await report.start()
            case = await asyncio.to_thread(
                made_up_case, tmp_path, "returning", received.study.patient
            )
            await line.publish(followup(case))
            await until(lambda: line.of(DELIVERED), 30, f"delivery\n{report.log}")
            delivered = ReportDelivered.FromString(line.of(DELIVERED)[0].value)
        assert (delivered.destination, delivered.object_count) == ("pacs", 2)
        stored = await asyncio.to_thread(orthanc.instances)
        assert {(tags["Modality"], tags["PatientID"]) for tags in stored} == {
            ("SR", "MRN-7"),
            ("SEG", "MRN-7"),
        }
        assert {tags["PatientName"] for tags in stored} == {"王^小明"}
        for log in (ingest.log, report.log):
            assert "MRN-7" not in log
            assert "小明" not in log
    finally:
        ingest.kill()
        if report is not None:
            report.kill()


async def test_a_lasting_refusal_is_a_dead_letter_at_once_and_never_loops(
    broker: Broker, tmp_path: Path
) -> None:
    """MONAI Deploy gateway 200; Mirth 3858, 4335: nothing says that the report was delivered."""
    case = made_up_case(tmp_path)
    with listening(Scp(allowed_calling=("SOMEONE",))) as scp:
        async with identities_of(case.ready.study.patient, TOKEN) as (address, _):
            service = ServiceProcess(
                "lungmesh.mesh.serve",
                "report",
                tmp_path,
                broker.bootstrap,
                LUNGMESH_REPORT__DESTINATIONS=destination(scp.port),
                LUNGMESH_REPORT__INGEST=address,
                LUNGMESH_REPORT__RESTORE_TOKEN=TOKEN,
            )
            try:
                await service.start()
                async with tap(broker.bootstrap, READY, DELIVERED, FAILED, DEAD) as line:
                    await line.publish(followup(case))
                    await until(lambda: line.of(FAILED), 30, f"the failure is said: {service.log}")
                    # Longer than the first retry of a passing failure would take.
                    await asyncio.sleep(4)
            finally:
                service.kill()
        assert scp.associations == 1
    assert len(line.of(READY)) == len(line.of(FAILED)) == len(line.of(DEAD)) == 1
    assert line.of(DELIVERED) == []
    failed = StudyFailed.FromString(line.of(FAILED)[0].value)
    assert (failed.stage, failed.kind) == ("delivery", FAILURE_KIND_REFUSED)
    assert "does not recognise our calling AE title LUNGMESH" in failed.reason
    letter = line.of(DEAD)[0]
    assert envelope.text(letter, DLQ_KIND) == "refused"
    assert envelope.text(letter, DLQ_REASON) == failed.reason
