"""A one-machine mesh for several hospitals, each with an AE title of its own to send to."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from lungmesh.embedded import broker, services, triton
from lungmesh.embedded.layout import Layout
from lungmesh.embedded.mesh import START_LIMIT_SECONDS, STOP_LIMIT_SECONDS
from lungmesh.embedded.supervisor import Supervisor
from lungmesh.mesh.dicom_scu import Peer
from lungmesh.v1.console_pb2 import ListStudiesRequest, StudyView
from lungmesh.v1.console_pb2_grpc import ConsoleServiceStub
from lungmesh.v1.ingest_pb2 import CloseStudyRequest
from lungmesh.v1.ingest_pb2_grpc import IngestServiceStub
from lungmesh.v1.study_pb2 import Priority, StudyRef

HOSPITALS = tuple(f"hospital-{number}" for number in range(8))
# Its report goes to an archive that answers slowly.
SLOW_HOSPITAL = HOSPITALS[0]
_CALL_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """The mesh at work."""

    supervisor: Supervisor
    ports: services.Ports
    layout: Layout

    def peer(self, hospital: str) -> Peer:
        """Return where a hospital sends to."""
        return Peer("127.0.0.1", self.ports.dicom, ae_title=ae_title(hospital))

    def close(self, hospital: str, uid: str, priority: Priority.ValueType) -> StudyRef:
        """Declare a study complete."""
        request = CloseStudyRequest(tenant=hospital, study_instance_uid=uid, priority=priority)
        with grpc.insecure_channel(f"127.0.0.1:{self.ports.grpc['ingest']}") as channel:
            answer = IngestServiceStub(channel).CloseStudy(request, timeout=_CALL_SECONDS)
        study: StudyRef = answer.study
        return study

    def views(self, hospital: str) -> list[StudyView]:
        """Return a hospital's studies as the console has them."""
        request = ListStudiesRequest(tenant=hospital, limit=1000)
        with grpc.insecure_channel(f"127.0.0.1:{self.ports.grpc['console']}") as channel:
            answer = ConsoleServiceStub(channel).ListStudies(request, timeout=_CALL_SECONDS)
        return list(answer.studies)


def ae_title(hospital: str) -> str:
    """Return the AE title of ingest that a hospital sends to."""
    return hospital.upper()


@contextmanager
def running(data: Path, say: Callable[[str], None]) -> Iterator[Running]:
    """Run the mesh until the block ends; a destination that is slow listens beside it."""
    layout = Layout(data.resolve())
    layout.create()
    ports = services.choose_ports(services.SERVICES, None)
    with slow_archive() as archive, layout.locked():
        more = _settings(archive)
        programs = [broker.program(layout, ports.broker), triton.program(layout, ports)]
        for name in services.SERVICES:
            made = services.program(name, layout, ports)
            programs.append(replace(made, environment={**made.environment, **more.get(name, {})}))
        supervisor = Supervisor(programs, say)
        supervisor.start(4 * START_LIMIT_SECONDS)
        try:
            yield Running(supervisor, ports, layout)
        finally:
            supervisor.stop(STOP_LIMIT_SECONDS)


def _settings(archive: int) -> Mapping[str, Mapping[str, str]]:
    tenants = {ae_title(hospital): hospital for hospital in HOSPITALS}
    destination = {
        "kind": "dicom",
        "name": "slow",
        "tenant": SLOW_HOSPITAL,
        "host": "127.0.0.1",
        "port": archive,
        "ae_title": "SLOW",
        "objects": ["sr"],
    }
    return {
        "ingest": {"LUNGMESH_INGEST__TENANTS": json.dumps(tenants)},
        "delivery": {"LUNGMESH_DELIVERY__DESTINATIONS": json.dumps([destination])},
    }


@contextmanager
def slow_archive() -> Iterator[int]:
    """Listen for associations and never answer them: the slowest destination there is."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port: int = listener.getsockname()[1]
        yield port
