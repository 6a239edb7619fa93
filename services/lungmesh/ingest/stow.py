"""The DICOMweb door: STOW-RS (PS3.18 10.5) on Starlette."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator
from email.message import Message

from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lungmesh.ingest import stow_answer
from lungmesh.ingest.intake import Intake, StorageFull
from lungmesh.ingest.settings import IngestSettings
from lungmesh.ingest.stow_body import BadBody, Body, ObjectReader, OneObject, TooLarge
from lungmesh.mesh.http import HttpServer
from lungmesh.mesh.telemetry import span, trace_of

_DICOM = "application/dicom"
_JSON = "application/dicom+json"
_UID = re.compile(r"[0-9.]{1,64}")
_TAKEN_ANSWERS = {_JSON, "application/*", "*/*", "application/json"}


class StowServer:
    """The HTTP listener; it shares the service's event loop, work runs in threads."""

    def __init__(self, settings: IngestSettings, intake: Intake) -> None:
        self._settings, self._intake = settings, intake
        app = Starlette(
            routes=[
                Route("/dicomweb/studies", self._post, methods=["POST"]),
                Route("/dicomweb/studies/{study}", self._post, methods=["POST"]),
            ]
        )
        self._server = HttpServer(app, "LUNGMESH_INGEST__STOW_PORT", drain_seconds=10)

    async def start(self) -> int:
        """Listen; return the port.

        Raises SettingsError when the port is taken.
        """
        return await self._server.start(self._settings.stow_host, self._settings.stow_port)

    async def stop(self) -> None:
        """Take no new request and let those in hand finish."""
        await self._server.close()

    async def _post(self, request: Request) -> Response:
        tenant = self._tenant(request)
        if tenant is None:
            return _say(401, "Send a bearer token.", {"WWW-Authenticate": "Bearer"})
        study = request.path_params.get("study", "")
        if study and not _UID.fullmatch(study):
            return _say(400, "The study in the path is no StudyInstanceUID.")
        if not _takes_json(request.headers.get("accept", "*/*")):
            return _say(406, f"The answer is {_JSON} and nothing else.")
        try:
            await asyncio.to_thread(self._intake.check_room)
        except StorageFull as error:
            return _say(503, str(error), {"Retry-After": "60"})
        kind = _content_type(request)
        reader = ObjectReader(self._intake, tenant, study)
        try:
            if kind.get_content_type() == _DICOM:
                body: Body = OneObject(reader)
            elif kind.get_content_type() == "multipart/related":
                if kind.get_param("type") not in (_DICOM, None):
                    return _say(415, f"Parts of type {kind.get_param('type')} are not taken.")
                body = reader.parser(str(kind.get_param("boundary") or ""))
            else:
                return _say(415, f"Send multipart/related of {_DICOM}, or one {_DICOM}.")
            sender = {name: value.encode("latin-1") for name, value in request.headers.items()}
            with span("receive stow", SpanKind.SERVER, trace_of(sender), tenant=tenant):
                await self._read(request, reader, body)
        except BadBody as error:
            return _say(error.status, str(error))
        except TooLarge as error:
            return _say(413, str(error))
        except StorageFull as error:
            return _say(503, str(error), {"Retry-After": "60"})
        except ClientDisconnect:
            return _say(400, "The sender left.")
        finally:
            await asyncio.to_thread(reader.close)
        if not reader.answers:
            return _say(400, "The request holds no object.")
        status = stow_answer.status_of(reader.answers)
        headers = {"Retry-After": "60"} if status == 503 else {}
        return Response(stow_answer.body_of(reader.answers), status, headers, _JSON)

    async def _read(self, request: Request, reader: ObjectReader, body: Body) -> None:
        limit = self._settings.max_request_bytes
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > limit:
            raise TooLarge(f"The request has {stated} bytes and at most {limit} are taken.")
        total = 0
        async for piece in _pieces(request):
            total += len(piece)
            if total > limit:
                raise TooLarge(f"The request has more than {limit} bytes.")
            await asyncio.to_thread(reader.feed, body, piece)
        await asyncio.to_thread(reader.finish, body)

    def _tenant(self, request: Request) -> str | None:
        tokens = self._settings.stow_tokens
        if not tokens:
            return self._settings.stow_tenant
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        found = None
        # Every token is compared, so the time tells nothing.
        for token, tenant in tokens.items():
            if hmac.compare_digest(token.encode(), given):
                found = tenant
        return found


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in pieces of about 1 MiB: a turn of a thread for each is then cheap."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= 1 << 20:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _content_type(request: Request) -> Message:
    kind = Message()
    kind["content-type"] = request.headers.get("content-type", "")
    return kind


def _takes_json(accept: str) -> bool:
    return any(part.split(";")[0].strip() in _TAKEN_ANSWERS for part in accept.split(","))


def _say(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{sentence}\n", status, headers)
