"""A console in this process over real files: its HTTP application, its database, its blobs.

The broker is in memory; everything else is what a process of the service has.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gdcm
import httpx
import numpy as np
import pydicom
from google.protobuf.message import Message
from opentelemetry.trace import NoOpTracer
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
)

from lungmesh.console import results
from lungmesh.console.bell import Bell
from lungmesh.console.http.app import ConsoleServer
from lungmesh.console.service import MIGRATIONS
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.users import FIRST_USER, Users
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.bus.memory import MemoryBus
from lungmesh.mesh.chassis import Chassis
from lungmesh.mesh.headers import read_headers
from lungmesh.mesh.settings import MeshSettings
from lungmesh.mesh.telemetry import Metrics
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated
from lungmesh.v1.nodule_pb2 import REVIEW_STATUS_CONFIRMED, REVIEW_STATUS_REJECTED
from lungmesh.v1.report_pb2 import Artefact, ReportReady
from lungmesh.v1.study_pb2 import StudyReceived
from tests.support.preprocess import PSEUDONYM, TENANT, receive
from tests.support.report import followup, made_up_case

# What pydicom cannot write.
_BY_GDCM = {
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
}
# What must never leave ingest.
PATIENT_NAME, PATIENT_ID, ACCESSION = "ZHENG^XIULAN", "PID-470011", "ACC-8821-X"
SECRETS = (PATIENT_NAME, "XIULAN", PATIENT_ID, ACCESSION, "19470512", "Dr Watanabe")


@dataclass
class MadeStudy:
    """A study as the mesh leaves it."""

    received: StudyReceived
    followup: FollowupUpdated
    report: ReportReady

    @property
    def study_id(self) -> str:
        """The mesh's id."""
        return self.received.study.study_id

    @property
    def events(self) -> list[Message]:
        """What the console is told."""
        return [self.received, self.followup, self.report]


def made_study(
    root: Path,
    seed: str = "console",
    patient: str = PSEUDONYM,
    syntax: UID = ExplicitVRLittleEndian,
) -> MadeStudy:
    """Keep a study with two nodules: DICOM files with an identity, masks, a report."""
    case = made_up_case(root, seed, patient)
    files = _dicom_files(root / f"files-{seed}", case.blobs, case.ready.volume, syntax)
    received = receive(case.blobs, files)
    received.study.patient = patient
    event = followup(case, prior=False)
    event.edition = 1
    event.state_id = str(uuid.uuid5(uuid.NAMESPACE_URL, seed))
    for nodule in event.nodules:
        nodule.tracking.tracking_uid = nodule.tracking.tracking_uid or "2.25.1"
    return MadeStudy(received, event, a_report(case.blobs, event))


def a_report(blobs: BlobStore, event: FollowupUpdated) -> ReportReady:
    """Keep a report of an edition and return its event."""
    study = event.study
    prefix = f"{study.tenant}/{study.study_id}/r{study.revision}e{event.edition}/report"
    files = {
        "report.en.txt": (f"Edition {event.edition}".encode(), "text/plain; charset=utf-8"),
        "report.en.html": (b"<!doctype html><p>made up", "text/html; charset=utf-8"),
        "report.pdf": (b"%PDF-1.7 made up", "application/pdf"),
    }
    return ReportReady(
        study=study,
        content_sha256=f"{event.edition:064x}",
        artefacts=[
            Artefact(name=name, content=blobs.put(f"{prefix}/{name}", data, media))
            for name, (data, media) in files.items()
        ],
        exam_categories=event.exam_categories,
        nodule_count=len(event.nodules),
        models=event.models,
        edition=event.edition,
    )


def _dicom_files(folder: Path, blobs: BlobStore, volume: Any, syntax: UID) -> list[Path]:
    folder.mkdir()
    hu = read_array(blobs, volume.hu)
    paths = []
    for z, header in enumerate(read_headers(blobs, volume.headers)):
        dataset: Dataset = header
        dataset.PatientName, dataset.PatientID = PATIENT_NAME, PATIENT_ID
        dataset.PatientBirthDate, dataset.AccessionNumber = "19470512", ACCESSION
        dataset.ReferringPhysicianName = "Dr Watanabe"
        dataset.StudyDescription = f"CT of {PATIENT_NAME}"
        dataset.WindowCenter, dataset.WindowWidth = -600, 1500
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        block = dataset.private_block(0x0011, "MAKER", create=True)
        block.add_new(0x01, "LO", PATIENT_NAME)
        dataset.PixelData = np.ascontiguousarray(hu[z]).astype("<i2").tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if syntax not in (ExplicitVRLittleEndian, *_BY_GDCM):
            dataset.compress(syntax, generate_instance_uid=False)
        path = folder / f"{z:03d}.dcm"
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
        if syntax in _BY_GDCM:
            _compress_by_gdcm(path, _BY_GDCM[syntax])
        paths.append(path)
    return paths


def _compress_by_gdcm(path: Path, kind: int) -> None:
    changer, reader, writer = (
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageReader(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(path))
    assert reader.Read()
    changer.SetTransferSyntax(gdcm.TransferSyntax(kind))
    changer.SetInput(reader.GetImage())
    assert changer.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(changer.GetOutput())
    assert writer.Write()


@dataclass
class PlainFollowup:
    """Stands where the follow-up service is: keeps a correction, gives the next edition.

    What the service itself makes of corrections is tested with the service.
    """

    events: dict[str, FollowupUpdated] = field(default_factory=dict)
    asked: list[tuple[str, str, Correction]] = field(default_factory=list)

    async def correct(
        self, tenant: str, patient: str, correction: Correction
    ) -> Sequence[FollowupUpdated]:
        """Return the exam with the correction in it."""
        self.asked.append((tenant, patient, correction))
        event = self.events[correction.nodule.study_id]
        event.edition += 1
        event.corrections.append(correction)
        status = {1: REVIEW_STATUS_CONFIRMED, 2: REVIEW_STATUS_REJECTED}.get(correction.kind, 0)
        for nodule in event.nodules:
            if nodule.nodule_id == correction.nodule.nodule_id:
                nodule.review.status = status  # type: ignore[assignment]
                nodule.review.correction_ids.append(correction.correction_id)
        return [event]


@dataclass
class Console:
    """The console's parts, and a client of its application."""

    chassis: Chassis
    bus: MemoryBus
    settings: ConsoleSettings
    users: Users
    bell: Bell
    server: ConsoleServer
    followup: PlainFollowup
    password: str

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return a browser without a session."""
        transport = httpx.ASGITransport(app=self.server.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", **options)

    async def signed_in(self, user: str = FIRST_USER, password: str = "") -> httpx.AsyncClient:
        """Return a browser with a session, which sends the CSRF token by itself."""
        client = self.client()
        answer = await client.post(
            "/api/login", json={"user": user, "password": password or self.password}
        )
        assert answer.status_code == 204, answer.text
        client.headers["X-CSRF-Token"] = (await client.get("/api/session")).json()["csrf"]
        return client

    async def add_user(self, name: str, *roles: str, tenants: Sequence[str] = (TENANT,)) -> str:
        """Make a user and return the password."""
        password = f"correct horse {name}"
        await self.users.put(name, list(roles), list(tenants), False, password)
        return password

    async def tell(self, *events: Message, at: float = 1000.0) -> None:
        """Fold events as the stage does."""
        async with self.chassis.sessions() as session, session.begin():
            for event in events:
                await results.fold(session, event, at)
            self.bell.ring_after(session)
        for event in events:
            if isinstance(event, FollowupUpdated):
                self.followup.events[event.study.study_id] = event


@asynccontextmanager
async def a_console(root: Path, database_url: str = "", **settings: Any) -> AsyncIterator[Console]:
    """Open a console over a folder; the first user may see the tests' tenant."""
    bus = MemoryBus()
    chassis = Chassis(
        "console",
        MeshSettings(
            blobs_url=f"file://{root}/blobs",
            database_url=database_url or f"sqlite+aiosqlite:///{root}/console.db",
        ),
        bus,
        Metrics(),
        NoOpTracer(),
    )
    await chassis.open_database(MIGRATIONS)
    chassis.start_relay()
    chosen = ConsoleSettings(
        first_password_file=root / "secrets" / "console.password",
        first_tenants=[TENANT],
        watch_interval_seconds=0.05,
        **settings,
    )
    users = Users(chassis.sessions, chosen)
    await users.make_first()
    bell, followup_service = Bell(), PlainFollowup()
    server = ConsoleServer(chassis, chosen, users, bell, followup_service.correct)
    password = (root / "secrets" / "console.password").read_text().strip()
    try:
        yield Console(chassis, bus, chosen, users, bell, server, followup_service, password)
    finally:
        await chassis.close()
