"""Orthanc sends a study to the real ingest, and its report comes back into that study.

What lies between, from preprocess to follow-up, is made up here; the whole way is in
`tests/e2e/test_e2e_round_trip.py`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cryptography.fernet import Fernet

from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1.study_pb2 import StudyReceived
from tests.support.bad_dicom import encoded
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, tap, until
from tests.support.delivering import DELIVERED, TENANT, TOKEN, delivered, dicom, process
from tests.support.delivery import written
from tests.support.ingest import ct_slice
from tests.support.pacs import running_orthanc
from tests.support.report import made_up_case

RECEIVED = "study.received.routine"


def one_slice(seed: str) -> bytes:
    """Return a CT image of a patient with a Chinese name, of the made-up case's study."""
    return encoded(
        ct_slice(
            seed,
            StudyInstanceUID=dicom_uid(seed, "st"),
            SeriesInstanceUID=dicom_uid(seed, "se"),
            FrameOfReferenceUID=dicom_uid(seed, "fr"),
            StudyDate="20000101",
            PatientID="MRN-7",
            PatientName="王^小明",
            PatientBirthDate="19500203",
            PatientSex="M",
            PatientAge=None,
        )
    )


async def test_a_study_comes_back_to_the_pacs_under_its_own_identity(
    broker: Broker, tmp_path: Path
) -> None:
    ingest = ServiceProcess(
        "lungmesh.mesh.serve",
        "ingest",
        tmp_path,
        broker.bootstrap,
        LUNGMESH_INGEST__IDENTITY_KEY=Fernet.generate_key().decode(),
        LUNGMESH_INGEST__RESTORE_TOKEN=TOKEN,
        LUNGMESH_INGEST__SPOOL=str(tmp_path / "spool"),
        LUNGMESH_INGEST__TENANTS=json.dumps({"LUNGMESH": TENANT}),
        LUNGMESH_INGEST__RELEASE_GRACE_SECONDS="0",
        LUNGMESH_INGEST__MIN_FREE_BYTES="0",
    )
    delivery: ServiceProcess | None = None
    with running_orthanc(tmp_path, DefaultEncoding="Utf8") as pacs:
        try:
            await ingest.start(120)
            async with tap(broker.bootstrap, RECEIVED, DELIVERED) as line:
                kept = pacs.ask("instances", "POST", one_slice("returning"))
                modality = json.dumps(["LUNGMESH", "127.0.0.1", ingest.ports["dicom"]]).encode()
                pacs.ask("modalities/mesh", "PUT", modality)
                study = kept["ParentStudy"].encode()
                sent = await asyncio.to_thread(pacs.ask, "modalities/mesh/store", "POST", study)
                assert sent["FailedInstancesCount"] == 0
                await until(lambda: line.of(RECEIVED), 60, "the study is complete")
                received = StudyReceived.FromString(line.of(RECEIVED)[0].value)
                case = made_up_case(tmp_path, "returning", received.study.patient)
                assert case.ready.study.study_id == received.study.study_id
                delivery = process(
                    broker,
                    tmp_path,
                    tmp_path,
                    f"127.0.0.1:{ingest.ports['grpc']}",
                    dicom(pacs.dicom_port, ae_title="ORTHANC"),
                )
                await delivery.start(120)
                await line.publish(await written(case))
                await until(lambda: delivered(line, "pacs"), 60, f"delivery: {delivery.log}")
            (only,) = pacs.ask("studies")
            series = pacs.ask(f"studies/{only}/series")
            assert {one["MainDicomTags"]["Modality"] for one in series} == {"CT", "SR", "SEG"}
            for tags in await asyncio.to_thread(pacs.instances):
                assert (tags["PatientID"], tags["PatientName"]) == ("MRN-7", "王^小明")
                assert (tags["PatientBirthDate"], tags["PatientSex"]) == ("19500203", "M")
            for log in (ingest.log, delivery.log):
                assert "MRN-7" not in log
                assert "小明" not in log
        finally:
            ingest.kill()
            if delivery is not None:
                delivery.kill()
