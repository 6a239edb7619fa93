"""A real ingest process with its broker and database, and studies to send to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pydicom
from kafka import KafkaConsumer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1.ingest_pb2_grpc import IngestServiceStub
from lungmesh.v1.study_pb2 import StudyReceived

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

    def __init__(self, folder: Path, bootstrap: str, **settings: str) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self.log = folder / "ingest.log"
        self.ready_file = folder / "ready.json"
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "LUNGMESH_BLOBS_URL": f"file://{folder}/blobs",
            "LUNGMESH_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/ingest.db",
            "LUNGMESH_KAFKA__BOOTSTRAP": bootstrap,
            "LUNGMESH_KAFKA__PARTITIONS": "1",
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
            return self.ready_file.exists()

        until(ready, _START_SECONDS, "the start of ingest")
        self.ports = json.loads(self.ready_file.read_text())
        for name in ("dicom", "stow"):
            self._environment[f"LUNGMESH_INGEST__{name.upper()}_PORT"] = str(self.ports[name])
        self._environment["LUNGMESH_GRPC_PORT"] = str(self.ports["grpc"])

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

    @contextmanager
    def stub(self) -> Iterator[IngestServiceStub]:
        """Yield a gRPC client."""
        with grpc.insecure_channel(f"127.0.0.1:{self.ports['grpc']}") as channel:
            yield IngestServiceStub(channel)

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

    def received(self, count: int, seconds: float = 20.0) -> list[StudyReceived]:
        """Read every StudyReceived from the broker, from the start; fail when there are fewer."""
        found: list[StudyReceived] = []
        consumer = KafkaConsumer(
            *(f"study.received.{lane}" for lane in ("stat", "routine", "backfill")),
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            group_id=None,
            enable_auto_commit=False,
        )
        try:
            limit = time.monotonic() + seconds
            quiet = 0
            # A little longer than needed, so that one too many is seen.
            while quiet < 3 and time.monotonic() < limit:
                records = consumer.poll(timeout_ms=300)
                for batch in records.values():
                    found += [StudyReceived.FromString(record.value) for record in batch]
                quiet = quiet + 1 if len(found) >= count and not records else 0
        finally:
            consumer.close()
        assert len(found) >= count, f"{len(found)} of {count} study.received came"
        return found
