"""The delivery service as a process, on a real broker, with the real ingest and a real PACS."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
from cryptography.fernet import Fernet
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungmesh.mesh import Context, envelope
from lungmesh.mesh.dicom_scu import Peer, send_files
from lungmesh.mesh.failures import DLQ_KIND, DLQ_REASON
from lungmesh.mesh.ids import dicom_uid
from lungmesh.mesh.stage import run_stage
from lungmesh.report.settings import ReportSettings
from lungmesh.report.stage import ReportStage
from lungmesh.v1.events_pb2 import FAILURE_KIND_REFUSED, StudyFailed
from lungmesh.v1.report_pb2 import ReportDelivered, ReportReady
from lungmesh.v1.study_pb2 import StudyReceived
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, tap, until
from tests.support.pacs import Orthanc, Scp, identities_of, listening
from tests.support.report import Case, followup, made_up_case

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


async def written(case: Case) -> ReportReady:
    """Return the report of a case, with its files beside the case's."""
    stage = ReportStage(ReportSettings(key_image_nodules=0))
    (ready,) = await run_stage(stage, followup(case), Context("event", case.blobs))
    assert isinstance(ready, ReportReady)
    return ready


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
    delivery: ServiceProcess | None = None
    try:
        await ingest.start()
        async with tap(broker.bootstrap, "study.received.routine", READY, DELIVERED) as line:
            peer = Peer("127.0.0.1", ingest.ports["dicom"], "LUNGMESH")
            sent = await asyncio.to_thread(send_files, [one_slice()], peer)
            sent.require_all_sent()
            await until(lambda: line.of("study.received.routine"), 30, "the study is complete")
            received = StudyReceived.FromString(line.of("study.received.routine")[0].value)

            delivery = ServiceProcess(
                "lungmesh.mesh.serve",
                "delivery",
                tmp_path,
                broker.bootstrap,
                LUNGMESH_DELIVERY__DESTINATIONS=destination(orthanc.dicom_port),
                LUNGMESH_DELIVERY__INGEST=f"127.0.0.1:{ingest.ports['grpc']}",
                LUNGMESH_DELIVERY__RESTORE_TOKEN=TOKEN,
            )
            await delivery.start()
            case = await asyncio.to_thread(
                made_up_case, tmp_path, "returning", received.study.patient
            )
            await line.publish(await written(case))
            await until(lambda: line.of(DELIVERED), 30, f"delivery\n{delivery.log}")
            delivered = ReportDelivered.FromString(line.of(DELIVERED)[0].value)
        assert (delivered.destination, delivered.object_count) == ("pacs", 2)
        stored = await asyncio.to_thread(orthanc.instances)
        assert {(tags["Modality"], tags["PatientID"]) for tags in stored} == {
            ("SR", "MRN-7"),
            ("SEG", "MRN-7"),
        }
        assert {tags["PatientName"] for tags in stored} == {"王^小明"}
        for log in (ingest.log, delivery.log):
            assert "MRN-7" not in log
            assert "小明" not in log
    finally:
        ingest.kill()
        if delivery is not None:
            delivery.kill()


async def test_a_lasting_refusal_is_a_dead_letter_at_once_and_never_loops(
    broker: Broker, tmp_path: Path
) -> None:
    """MONAI Deploy gateway 200; Mirth 3858, 4335: nothing says that the report was delivered."""
    case = made_up_case(tmp_path)
    with listening(Scp(allowed_calling=("SOMEONE",))) as scp:
        async with identities_of(case.ready.study.patient, TOKEN) as (address, _):
            service = ServiceProcess(
                "lungmesh.mesh.serve",
                "delivery",
                tmp_path,
                broker.bootstrap,
                LUNGMESH_DELIVERY__DESTINATIONS=destination(scp.port),
                LUNGMESH_DELIVERY__INGEST=address,
                LUNGMESH_DELIVERY__RESTORE_TOKEN=TOKEN,
            )
            try:
                await service.start()
                async with tap(broker.bootstrap, READY, DELIVERED, FAILED, DEAD) as line:
                    await line.publish(await written(case))
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
