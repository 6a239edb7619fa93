"""A written report, parcels of it, and the hospital's systems that take it: an EHR and a RIS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hl7
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lungmesh.delivery.identity import PatientIdentity
from lungmesh.delivery.parcel import Parcel, Standing
from lungmesh.mesh import Context
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.http import HttpServer
from lungmesh.mesh.stage import run_stage
from lungmesh.report.settings import ReportSettings
from lungmesh.report.stage import ReportStage
from lungmesh.v1.report_pb2 import ReportReady
from tests.support.report import Case, followup

# Whom `tests.support.pacs.Identities` restores.
IDENTITY = PatientIdentity("MRN-7", "Wang^Xiaoming=王^小明", "19500203", "M", "CITY")
MADE_AT = 1_700_000_000.0


async def written(case: Case, key_images: int = 0) -> ReportReady:
    """Return the report of a case, with its files beside the case's."""
    stage = ReportStage(ReportSettings(key_image_nodules=key_images))
    (ready,) = await run_stage(stage, followup(case), Context("event", case.blobs))
    assert isinstance(ready, ReportReady)
    return ready


def parcel(report: ReportReady, blobs: BlobStore, standing: Standing = Standing.UNSIGNED) -> Parcel:
    """Return a report to send, of the one patient."""
    return Parcel(report, IDENTITY, standing, MADE_AT, blobs.get)


def kept(blobs: BlobStore) -> dict[str, bytes]:
    """Return every file of a store with its bytes."""
    root = Path(blobs.url.removeprefix("file://"))
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@dataclass
class Ehr:
    """A FHIR server that knows transactions with conditional creates and updates, and no more.

    Every body must be valid R4. `answers` are statuses given instead of working, one a request.
    """

    answers: list[int] = field(default_factory=list)
    requests: int = 0
    authorization: str = ""
    # By type and identifier, as `system|value`.
    resources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    versions: dict[tuple[str, str], int] = field(default_factory=dict)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the resources of a type."""
        return [one for (known, _), one in self.resources.items() if known == kind]

    async def take(self, request: Request) -> Response:
        """Answer a transaction."""
        self.requests += 1
        self.authorization = request.headers.get("authorization", "")
        if self.answers:
            return Response(status_code=self.answers.pop(0))
        said = json.loads(await request.body())
        bundle = Bundle.model_validate(said)
        assert bundle.type == "transaction"
        assert request.headers["content-type"].startswith("application/fhir+json")
        statuses = [self._put(entry) for entry in said["entry"]]
        entries = [{"response": {"status": status}} for status in statuses]
        return JSONResponse(
            {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
        )

    def _put(self, entry: dict[str, Any]) -> str:
        resource, asked = entry["resource"], entry["request"]
        kind = resource["resourceType"]
        get_fhir_model_class(kind).model_validate(resource)
        if asked["method"] == "POST":
            assert asked["url"] == kind
            key = (kind, asked["ifNoneExist"].removeprefix("identifier="))
            if key in self.resources:
                return "200 OK"
        elif "?" in asked["url"]:
            key = (kind, asked["url"].removeprefix(f"{kind}?identifier="))
            system, _, value = key[1].partition("|")
            assert {"system": system, "value": value} in resource["identifier"]
        else:
            key = (kind, asked["url"].removeprefix(f"{kind}/"))
            assert key[1] == resource["id"]
        known = key in self.resources
        self.resources[key] = resource
        self.versions[key] = self.versions.get(key, 0) + 1
        return "200 OK" if known else "201 Created"


@asynccontextmanager
async def http_server(app: Starlette, port: int = 0) -> AsyncIterator[int]:
    """Serve an application; yields its port."""
    server = HttpServer(app, "test", drain_seconds=1)
    bound = await server.start("127.0.0.1", port)
    try:
        yield bound
    finally:
        await server.close()


@asynccontextmanager
async def serving(ehr: Ehr, port: int = 0) -> AsyncIterator[str]:
    """Serve a FHIR server; yields its base URL."""
    app = Starlette(routes=[Route("/fhir", ehr.take, methods=["POST"])])
    async with http_server(app, port) as bound:
        yield f"http://127.0.0.1:{bound}/fhir"


@dataclass
class Ris:
    """An MLLP receiver that parses by python-hl7, which the mesh does not use.

    `answers` are acknowledgement codes given one a message, the last of which stays; `none` breaks
    the connection instead, and `silent` says nothing more on it.
    """

    answers: list[str] = field(default_factory=lambda: ["AA"])
    raw: list[bytes] = field(default_factory=list)
    messages: list[hl7.Message] = field(default_factory=list)
    port: int = 0

    def control_ids(self) -> list[str]:
        """Return the MSH-10 of every message."""
        return [str(message.segment("MSH")[10]) for message in self.messages]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take messages of one connection."""
        try:
            while True:
                framed = await reader.readuntil(b"\x1c\r")
                assert framed[:1] == b"\x0b"
                self.raw.append(framed[1:-2])
                message = hl7.parse(framed[1:-2].decode())
                self.messages.append(message)
                code = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if code == "none":
                    return
                if code == "silent":
                    continue
                ack = str(message.create_ack(code)).encode()
                writer.write(b"\x0b" + ack + b"\x1c\r")
                await writer.drain()
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def receiving(ris: Ris, **options: Any) -> AsyncIterator[Ris]:
    """Run a receiver; its port is set."""
    server = await asyncio.start_server(
        ris.serve, "127.0.0.1", ris.port, limit=64 * 1024 * 1024, **options
    )
    ris.port = server.sockets[0].getsockname()[1]
    try:
        yield ris
    finally:
        server.close()
        await server.wait_closed()
