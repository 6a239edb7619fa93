"""A real ingest process with its broker and database, and studies to send to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pydicom
from kafka import KafkaConsumer, TopicPartition
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1.ingest_pb2 import (
    CloseStudyRequest,
    CloseStudyResponse,
    GetStudyRequest,
    GetStudyResponse,
)
from lungmesh.v1.ingest_pb2_grpc import IngestServiceStub
from lungmesh.v1.study_pb2 import (
    PRIORITY_ROUTINE,
    ClinicalContext,
    Priority,
    StudyManifest,
    StudyReceived,
    StudyRef,
)
from tests.support.broker import Broker

IDENTITY_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
RESTORE_TOKEN = "a-token-for-tests"
AE_TITLE, TENANT = "LUNGMESH", "default"
_START_SECONDS = 30.0


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what the condition gives once it is true; fail naming `what` when it stays false."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)
    return found


def ct_slice(study: str, number: int = 1, **changes: Any) -> Dataset:
    """Return a small axial CT image (32 x 32) of a study; `changes` set or (None) drop elements.

    Parameters
    ----------
    study
        Any word: UIDs and PatientID are made from it.
    """
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = dicom_uid("test", study, "instance", number)
    ds.StudyInstanceUID = study_uid(study)
    ds.SeriesInstanceUID = dicom_uid("test", study, "series")
    ds.FrameOfReferenceUID = dicom_uid("test", study, "frame")
    ds.StudyDate, ds.Modality = "20260102", "CT"
    ds.PatientName, ds.PatientID = "Secret^Name", f"SECRET-{study}"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600203", "F", "065Y"
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [-16.0, -16.0, float(number)]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [1.0, 1.0]
    ds.SliceThickness = 1.0
    ds.Rows = ds.Columns = 32
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ramp = np.arange(32 * 32, dtype=np.int16) + number
    ds.PixelData = ramp.tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def study_uid(study: str) -> str:
    """Return the StudyInstanceUID of `ct_slice`."""
    return dicom_uid("test", study, "study")


def write_study(folder: Path, study: str, slices: int = 4) -> list[Path]:
    """Write a small study as DICOM files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, slices + 1):
        path = folder / f"{number:04d}.dcm"
        ct_slice(study, number).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def with_new_uids(source: Path, folder: Path, seed: str) -> list[Path]:
    """Write the study of a folder again, as another study."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for path in sorted(source.glob("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID = dicom_uid(seed, ds.StudyInstanceUID)
        ds.SeriesInstanceUID = dicom_uid(seed, ds.SeriesInstanceUID)
        ds.SOPInstanceUID = dicom_uid(seed, ds.SOPInstanceUID)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / path.name, enforce_file_format=True)
        paths.append(folder / path.name)
    return paths


class IngestProcess:
    """`python -m lungmesh.mesh.serve ingest` over a folder; ports stay the same at a restart."""

    def __init__(self, folder: Path, broker: Broker, **settings: str) -> None:
        self.folder = folder
        self.broker = broker
        self.log = folder / "ingest.log"
        self.ready_file = folder / "ready.json"
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._tap: Tap | None = None
        self._environment = {
            **os.environ,
            "LUNGMESH_BLOBS_URL": f"file://{folder}/blobs",
            "LUNGMESH_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/ingest.db",
            "LUNGMESH_KAFKA__BOOTSTRAP": broker.bootstrap,
            "LUNGMESH_KAFKA__PARTITIONS": "1",
            # Joining a group takes half of it.
            "LUNGMESH_KAFKA__SESSION_TIMEOUT_MS": "3000",
            "LUNGMESH_READY_FILE": str(self.ready_file),
            "LUNGMESH_INGEST__IDENTITY_KEY": IDENTITY_KEY,
            "LUNGMESH_INGEST__RESTORE_TOKEN": RESTORE_TOKEN,
            "LUNGMESH_INGEST__SPOOL": str(folder / "spool"),
            **{
                name
                if "__" in name or name.startswith("LUNGMESH")
                else f"LUNGMESH_INGEST__{name}": value
                for name, value in settings.items()
            },
        }

    def start(self) -> None:
        """Start and wait until it is ready."""
        self.ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lungmesh.mesh.serve", "ingest"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        process = self._process

        def ready() -> bool:
            assert process.poll() is None, self.log.read_text()
            # After a kill the group takes seconds to forget the dead member; the doors are open.
            return self._doors_are_open() if self.ports else self.ready_file.exists()

        until(ready, _START_SECONDS, "the start of ingest")
        if self.ports:
            return
        self.ports = json.loads(self.ready_file.read_text())
        for name in ("dicom", "stow"):
            self._environment[f"LUNGMESH_INGEST__{name.upper()}_PORT"] = str(self.ports[name])
        self._environment["LUNGMESH_GRPC_PORT"] = str(self.ports["grpc"])

    def _doors_are_open(self) -> bool:
        # The STOW-RS door opens last.
        try:
            socket.create_connection(("127.0.0.1", self.ports["stow"]), 0.2).close()
        except OSError:
            return False
        return True

    def set(self, **settings: str) -> None:
        """Change settings for the next start."""
        for name, value in settings.items():
            self._environment[f"LUNGMESH_INGEST__{name}"] = value

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it as an operator would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(40)
            self._process = None

    @property
    def tap(self) -> Tap:
        """What has come out; collected since the first call, from the start of the topics."""
        if self._tap is None:
            self._tap = Tap(self.broker.bootstrap)
        return self._tap

    def close(self) -> None:
        """End everything."""
        self.kill()
        self.drop_tap()

    def drop_tap(self) -> None:
        """Forget what has come out; the next look starts with what the broker has then."""
        if self._tap is not None:
            self._tap.close()
            self._tap = None

    @contextmanager
    def stub(self) -> Iterator[IngestServiceStub]:
        """Yield a gRPC client."""
        with grpc.insecure_channel(f"127.0.0.1:{self.ports['grpc']}") as channel:
            yield IngestServiceStub(channel)

    def get_study(self, study: str) -> GetStudyResponse:
        """Return the state of the study of a word."""
        request = GetStudyRequest(tenant=TENANT, study_instance_uid=study_uid(study))
        with self.stub() as stub:
            answer: GetStudyResponse = stub.GetStudy(request, timeout=20)
        return answer

    def close_study(
        self,
        study: str,
        priority: Priority.ValueType = PRIORITY_ROUTINE,
        clinical: ClinicalContext | None = None,
    ) -> StudyRef:
        """Close the study of a word by call."""
        request = CloseStudyRequest(
            tenant=TENANT,
            study_instance_uid=study_uid(study),
            priority=priority,
            clinical=clinical,
        )
        with self.stub() as stub:
            answer: CloseStudyResponse = stub.CloseStudy(request, timeout=20)
        return answer.study

    def manifest(self, event: StudyReceived) -> StudyManifest:
        """Read the manifest of an event."""
        return StudyManifest.FromString(self.blobs.get(event.manifest))

    @property
    def blobs(self) -> BlobStore:
        """Its object store."""
        return BlobStore(f"file://{self.folder}/blobs")

    def storescu(
        self, *paths: Path, options: Sequence[str] = ("-R", "--no-halt")
    ) -> subprocess.CompletedProcess[str]:
        """Send files by dcmtk's storescu over one association."""
        command = ["storescu", "-v", *options, "-aec", AE_TITLE, "127.0.0.1"]
        return subprocess.run(
            [*command, str(self.ports["dicom"]), *map(str, paths)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


class Tap:
    """Collects every StudyReceived of a broker, from the start, in a thread of its own."""

    def __init__(self, bootstrap: str) -> None:
        self.events: list[StudyReceived] = []
        self._stop = threading.Event()
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            group_id=None,
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        lanes = ("stat", "routine", "backfill")
        self._consumer.assign([TopicPartition(f"study.received.{lane}", 0) for lane in lanes])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for batch in self._consumer.poll(timeout_ms=50).values():
                self.events += [StudyReceived.FromString(record.value) for record in batch]

    def of(self, study: str) -> list[StudyReceived]:
        """Return what has come of the study of a word, by revision."""
        found = [event for event in self.events if event.study_instance_uid == study_uid(study)]
        return sorted(found, key=lambda event: event.study.revision)

    def wait(self, study: str, count: int = 1, seconds: float = 20.0) -> list[StudyReceived]:
        """Wait for a study's events; fail when there are fewer or more."""
        until(lambda: len(self.of(study)) >= count, seconds, f"{count} study.received of {study}")
        found = self.of(study)
        assert len(found) == count
        return found

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(10)
        self._consumer.close()


def multipart(files: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a STOW-RS request."""
    parts = [
        b"--b0undary\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files
    ]
    kind = 'multipart/related; type="application/dicom"; boundary=b0undary'
    return b"".join(parts) + b"--b0undary--\r\n", {"content-type": kind}
