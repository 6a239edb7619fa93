"""Real DICOM peers to send to, and an ingest that restores one patient's identity."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.presentation import PresentationContext

from lungmesh.mesh.dicom_scu import Peer
from lungmesh.v1 import ingest_pb2, ingest_pb2_grpc
from tests.support.broker import free_port

T = TypeVar("T")


@dataclass
class Scp:
    """A pynetdicom SCP that answers as told and keeps the bytes it got.

    `statuses` are given out one an object, after so many `answer_seconds`; the last one stays.
    """

    statuses: list[int] = field(default_factory=lambda: [0])
    answer_seconds: list[float] = field(default_factory=lambda: [0.0])
    required_called: str = ""
    allowed_calling: tuple[str, ...] = ()
    port: int = 0
    received: list[bytes] = field(default_factory=list)
    associations: int = 0

    def peer(self, **more: object) -> Peer:
        """Return how to reach it."""
        return Peer("127.0.0.1", self.port, **more)  # type: ignore[arg-type]

    def store(self, event: evt.Event) -> int:
        """Answer one C-STORE."""
        time.sleep(_next(self.answer_seconds))
        status = _next(self.statuses)
        if status == 0:
            self.received.append(event.encoded_dataset(include_meta=False))
        return status

    def counted(self, event: evt.Event) -> None:
        """Count an association request."""
        self.associations += 1


def _next(values: list[T]) -> T:
    return values.pop(0) if len(values) > 1 else values[0]


@contextlib.contextmanager
def listening(scp: Scp, contexts: list[PresentationContext] | None = None) -> Iterator[Scp]:
    """Run an SCP until the block ends."""
    entity = AE(ae_title="PACS")
    for context in contexts or AllStoragePresentationContexts:
        syntaxes = context.transfer_syntax if contexts else ALL_TRANSFER_SYNTAXES
        entity.add_supported_context(str(context.abstract_syntax), syntaxes)
    entity.require_called_aet = bool(scp.required_called)
    entity.require_calling_aet = list(scp.allowed_calling)
    scp.port = scp.port or free_port()
    server = entity.start_server(
        ("127.0.0.1", scp.port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, scp.store), (evt.EVT_REQUESTED, scp.counted)],
    )
    assert server is not None
    try:
        yield scp
    finally:
        server.shutdown()


@pytest.fixture(scope="session")
def running_scp() -> Iterator[Scp]:
    """Starting and stopping one takes longer than most tests."""
    with listening(Scp()) as running:
        yield running


@pytest.fixture
def scp(running_scp: Scp) -> Scp:
    """An SCP that takes everything, until a test tells it otherwise."""
    running_scp.statuses, running_scp.answer_seconds = [0], [0.0]
    running_scp.received, running_scp.associations = [], 0
    return running_scp


def found(name: str) -> str | None:
    """Return the path of a system program; None where it is absent."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def program(name: str) -> str:
    """Return the path of a system program; skip where it is absent."""
    path = found(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Run a program that listens on a port until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 15
        while True:
            assert process.poll() is None, f"{command[0]} ended at its start"
            assert time.monotonic() < limit, f"{command[0]} does not listen"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc with AE title ORTHANC that knows only LUNGMESH."""

    dicom_port: int
    http_port: int

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> Any:
        """Return what its REST API answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/{path}", body, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")

    def instances(self) -> list[dict[str, Any]]:
        """Return the main tags of every stored instance, with its patient's."""
        return [self.ask(f"instances/{name}/simplified-tags") for name in self.ask("instances")]


DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextlib.contextmanager
def running_orthanc(folder: Path, dicomweb: bool = False, **more: object) -> Iterator[Orthanc]:
    """Run Debian's Orthanc over a folder; it checks called and calling AE title."""
    binary = program("Orthanc")
    if dicomweb and not DICOMWEB_PLUGIN.exists():
        pytest.skip("orthanc-dicomweb is not installed")
    server = Orthanc(free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomAet": "ORTHANC",
        "DicomPort": server.dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowEcho": False,
        "DicomModalities": {"us": ["LUNGMESH", "127.0.0.1", 104]},
        "HttpPort": server.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(DICOMWEB_PLUGIN)] if dicomweb else [],
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running([binary, str(folder / "orthanc.json")], server.dicom_port):
        yield server


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty Orthanc that knows LUNGMESH alone."""
    with running_orthanc(tmp_path) as server:
        yield server


class Identities(ingest_pb2_grpc.IngestServiceServicer):
    """Answers RestoreIdentity as ingest does, for one patient."""

    def __init__(self, patient: str, token: str) -> None:
        self.patient, self.token = patient, token
        self.asked = 0

    async def RestoreIdentity(
        self, request: ingest_pb2.RestoreIdentityRequest, context: grpc.aio.ServicerContext
    ) -> ingest_pb2.RestoreIdentityResponse:
        self.asked += 1
        given = dict(context.invocation_metadata() or ())
        if given.get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        if request.patient != self.patient:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nobody")
        return ingest_pb2.RestoreIdentityResponse(
            patient_id="MRN-7",
            patient_name="王^小明",
            patient_birth_date="19500203",
            patient_sex="M",
            issuer_of_patient_id="CITY",
        )


@contextlib.asynccontextmanager
async def identities_of(patient: str, token: str) -> AsyncIterator[tuple[str, Identities]]:
    """Serve them; yields host:port and the servicer."""
    server, servicer = grpc.aio.server(), Identities(patient, token)  # type: ignore[abstract]
    ingest_pb2_grpc.add_IngestServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        await server.stop(0)
