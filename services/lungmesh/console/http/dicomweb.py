"""DICOMweb for the viewer: QIDO-RS and WADO-RS (PS3.18) over the received objects."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from lungmesh.console import results
from lungmesh.console.access import READERS, Caller, Refusal
from lungmesh.console.audit import Note
from lungmesh.console.http.guard import Guard
from lungmesh.console.pixels import (
    DICOM_JSON,
    Frame,
    NoFrame,
    StudyFiles,
    dicom_json,
    series_answer,
    study_answer,
)
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.ids import study_id
from lungmesh.v1.study_pb2 import ManifestInstance

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_DICOM = "application/dicom"
_BOUNDARY = "lungmesh-part"
# For so long a study's list of objects is not read again: a viewer asks for hundreds of frames.
_FILES_SECONDS = 10.0
_HEADERS_KEPT = 16


class DicomWeb:
    """Endpoints under /dicomweb."""

    def __init__(
        self, guard: Guard, sessions: async_sessionmaker[AsyncSession], blobs: BlobStore
    ) -> None:
        self._guard, self._sessions, self._blobs = guard, sessions, blobs
        self._files: dict[tuple[tuple[str, ...], str], tuple[float, StudyFiles, str]] = {}
        # Metadata of a series as JSON, by manifest and series: reading it means every file.
        self._headers: OrderedDict[tuple[str, ...], bytes] = OrderedDict()

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        studies = "/dicomweb/studies"
        study = f"{studies}/{{study}}"
        series = f"{study}/series/{{series}}"
        instance = f"{series}/instances/{{instance}}"
        route = self._guard.route
        return [
            route(studies, self._find_study, READERS, "dicom_query"),
            route(f"{study}/series", self._find_series, READERS, "dicom_query"),
            route(f"{series}/instances", self._find_instances, READERS, "dicom_query"),
            route(f"{study}/metadata", self._metadata, READERS, "dicom_metadata"),
            route(f"{series}/metadata", self._metadata, READERS, "dicom_metadata"),
            route(f"{instance}/metadata", self._metadata, READERS, "dicom_metadata"),
            route(f"{instance}/frames/{{frame}}", self._frame, READERS, "dicom_frame", kept=False),
            route(instance, self._instance, READERS, "dicom_instance"),
        ]

    async def _study(self, uid: str, caller: Caller, note: Note) -> tuple[StudyFiles, str]:
        """Return the objects of a study of the caller's tenants and its patient's pseudonym."""
        if len(uid) > 64 or not _UID.fullmatch(uid):
            raise Refusal("bad_request", "The study in the path is no StudyInstanceUID.")
        key = (caller.tenants, uid)
        at, files, patient = self._files.get(key, (0.0, None, ""))
        if files is None or time.monotonic() - at > _FILES_SECONDS:
            async with self._sessions() as session:
                for tenant in caller.tenants:
                    held = await results.read(session, (tenant,), study_id(tenant, uid))
                    if held is not None and held.received is not None:
                        break
                else:
                    raise Refusal("not_found")
            files = await asyncio.to_thread(StudyFiles, self._blobs, held.received)
            patient = held.row.patient
            self._files = {
                name: kept
                for name, kept in self._files.items()
                if time.monotonic() - kept[0] <= _FILES_SECONDS
            }
            self._files[key] = (time.monotonic(), files, patient)
        note.object = files.study_id
        return files, patient

    async def _find_study(self, request: Request, caller: Caller, note: Note) -> Response:
        uid = request.query_params.get("StudyInstanceUID", "")
        if not uid:
            raise Refusal("bad_request", "Ask for a StudyInstanceUID.")
        try:
            files, patient = await self._study(uid, caller, note)
        except Refusal as refusal:
            if refusal.code == "not_found":
                return Response(status_code=204)
            raise
        answer = await asyncio.to_thread(study_answer, files, patient)
        return _as_json(dicom_json([answer]))

    async def _find_series(self, request: Request, caller: Caller, note: Note) -> Response:
        files, _ = await self._study(request.path_params["study"], caller, note)
        answers = await asyncio.to_thread(
            lambda: dicom_json(series_answer(files, series) for series in files.series)
        )
        return _as_json(answers)

    async def _find_instances(self, request: Request, caller: Caller, note: Note) -> Response:
        return await self._metadata(request, caller, note)

    async def _metadata(self, request: Request, caller: Caller, note: Note) -> Response:
        places = request.path_params
        files, _ = await self._study(places["study"], caller, note)
        series, sop = places.get("series", ""), places.get("instance", "")
        key = (files.manifest_sha256, series, sop)
        body = self._headers.get(key)
        if body is None:
            instances = _found(files.instances(series, sop))
            body = await asyncio.to_thread(_metadata, files, instances)
            self._headers[key] = body
        self._headers.move_to_end(key)
        while len(self._headers) > _HEADERS_KEPT:
            self._headers.popitem(last=False)
        return Response(body, 200, media_type=DICOM_JSON)

    async def _frame(self, request: Request, caller: Caller, note: Note) -> Response:
        places = request.path_params
        files, _ = await self._study(places["study"], caller, note)
        (instance,) = _found(files.instances(places["series"], places["instance"]))[:1]
        if not places["frame"].isdecimal() or len(places["frame"]) > 6:
            raise Refusal("bad_request", "Ask for one frame by its number.")
        accepted = _accepted(request.headers.get("accept", "*/*"))
        try:
            frame = await asyncio.to_thread(files.frame, instance, int(places["frame"]), accepted)
        except NoFrame as error:
            raise Refusal("not_found") from error
        return _multipart(frame)

    async def _instance(self, request: Request, caller: Caller, note: Note) -> Response:
        places = request.path_params
        files, _ = await self._study(places["study"], caller, note)
        (instance,) = _found(files.instances(places["series"], places["instance"]))[:1]
        accept = request.headers.get("accept", "*/*")
        if not any(taken in accept for taken in (_DICOM, "*/*", "multipart/related")):
            raise Refusal("not_acceptable")
        data = await asyncio.to_thread(files.instance, instance)
        if "multipart/related" in accept:
            return _multipart(Frame(data, _DICOM, instance.transfer_syntax_uid))
        return Response(data, 200, media_type=_DICOM)


def _found(instances: Sequence[ManifestInstance]) -> Sequence[ManifestInstance]:
    if not instances:
        raise Refusal("not_found")
    return instances


def _metadata(files: StudyFiles, instances: Sequence[ManifestInstance]) -> bytes:
    return json.dumps(dicom_json(files.headers(instances))).encode()


def _as_json(answers: Iterable[object]) -> Response:
    return Response(json.dumps(list(answers)), 200, media_type=DICOM_JSON)


def _accepted(accept: str) -> frozenset[str]:
    """Return the transfer syntaxes that an Accept header takes; `*` is any."""
    return frozenset(re.findall(r'transfer-syntax="?([0-9.]+|\*)', accept))


def _multipart(frame: Frame) -> Response:
    head = (
        f"--{_BOUNDARY}\r\nContent-Type: {frame.media_type}; "
        f"transfer-syntax={frame.transfer_syntax}\r\n"
        f"Content-Length: {len(frame.data)}\r\n\r\n"
    )
    body = b"".join((head.encode(), frame.data, f"\r\n--{_BOUNDARY}--\r\n".encode()))
    kind = f'multipart/related; type="{frame.media_type}"; boundary={_BOUNDARY}'
    return Response(body, 200, {"Content-Type": kind})
