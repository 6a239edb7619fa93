"""One study: what was found, corrections, the signature, the report's files."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from lungmesh.console import results
from lungmesh.console.access import READERS, SIGNERS, Caller, Refusal
from lungmesh.console.audit import Note
from lungmesh.console.bell import Bell
from lungmesh.console.correcting import CorrectionBody, correction_of, said_before
from lungmesh.console.http.guard import Body, Guard, address_of, read_json
from lungmesh.console.http.worklist import Rows
from lungmesh.console.masks import run_lengths
from lungmesh.console.pixels import DICOM_JSON
from lungmesh.console.results import Held
from lungmesh.console.slices import Slices, read_slices
from lungmesh.console.store import StudyRow
from lungmesh.console.views import Json, iso, study_view
from lungmesh.console.worklist import edition_of
from lungmesh.mesh import Mesh
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated
from lungmesh.v1.nodule_pb2 import Nodule
from lungmesh.v1.report_pb2 import ReportReady
from lungmesh.v1.study_pb2 import BlobRef

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[a-z0-9_.]{1,64}")
# A written report is a page by itself: it loads and runs nothing.
_REPORT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox allow-popups",
    )
)
# Studies whose slices' headers are kept, some 20 KB each.
_SLICES_KEPT = 64

# (tenant, patient, correction) in, the exams that it changed out.
Correct = Callable[[str, str, Correction], Awaitable[Sequence[FollowupUpdated]]]


class Signing(Body):
    """The password once more, and the revision and edition that were read."""

    password: str = ""
    revision: int | None = None
    edition: int | None = None


def valid_id(text: str) -> str:
    """Return an id of a path.

    Raises Refusal (not_found) for what cannot be one.
    """
    if not _ID.fullmatch(text):
        raise Refusal("not_found")
    return text


class Studies:
    """Endpoints of one study."""

    def __init__(self, guard: Guard, mesh: Mesh, bell: Bell, rows: Rows, correct: Correct) -> None:
        self._guard, self._mesh, self._bell, self._rows = guard, mesh, bell, rows
        self._correct = correct
        # By checksum of the headers' object; a second request waits for the first one's reading.
        self._slices: dict[str, asyncio.Task[Slices]] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        guard, study = self._guard, "/api/studies/{study_id}"
        return [
            guard.route(study, self._study, READERS, "study"),
            guard.route(f"{study}/headers", self._headers, READERS, "headers", kept=False),
            guard.route(f"{study}/masks", self._masks, READERS, "masks", kept=False),
            guard.route(f"{study}/corrections", self._corrected, SIGNERS, "correction", "POST"),
            guard.route(f"{study}/sign", self._sign, SIGNERS, "sign", "POST"),
            guard.route(f"{study}/report/{{name}}", self._report, READERS, "report"),
        ]

    async def _held(
        self, session: AsyncSession, request: Request, caller: Caller, note: Note
    ) -> Held:
        study_id = valid_id(request.path_params["study_id"])
        note.object = study_id
        held = await results.read(session, caller.tenants, study_id)
        if held is None:
            raise Refusal("not_found")
        return held

    async def _study(self, request: Request, caller: Caller, note: Note) -> Response:
        async with self._mesh.sessions() as session:
            held = await self._held(session, request, caller, note)
            view = await self._view(session, held)
        return JSONResponse(view)

    async def _view(self, session: AsyncSession, held: Held) -> Json:
        row = held.row
        priors = [prior.study_id for prior in held.followup.priors] if held.followup else []
        here = await results.held_studies(session, row.tenant, row.patient, priors)
        signatures = await results.signatures(session, row.tenant, row.study_id)
        (shown,) = await self._rows.views(session, [row])
        slices: Sequence[str] = ()
        if held.followup is not None:
            slices = (await self._slices_of(held.followup.exam.volume.headers)).uids
        return study_view(held, shown, slices, signatures, here)

    async def _slices_of(self, ref: BlobRef) -> Slices:
        reading = self._slices.pop(ref.sha256, None)
        if reading is None or (reading.done() and reading.exception() is not None):
            reading = asyncio.create_task(asyncio.to_thread(read_slices, self._mesh.blobs, ref))
        self._slices[ref.sha256] = reading
        while len(self._slices) > _SLICES_KEPT:
            self._slices.pop(next(iter(self._slices)))
        # A reader who goes away must not end the reading of another.
        return await asyncio.shield(reading)

    async def _headers(self, request: Request, caller: Caller, note: Note) -> Response:
        async with self._mesh.sessions() as session:
            held = await self._held(session, request, caller, note)
        if held.followup is None:
            raise Refusal("not_found")
        slices = await self._slices_of(held.followup.exam.volume.headers)
        return Response(slices.headers, 200, {"Content-Encoding": "gzip"}, DICOM_JSON)

    async def _masks(self, request: Request, caller: Caller, note: Note) -> Response:
        async with self._mesh.sessions() as session:
            held = await self._held(session, request, caller, note)
        event = held.followup or FollowupUpdated()
        nodules = [*event.nodules, *event.rejected]
        masks = await asyncio.to_thread(
            lambda: {nodule.nodule_id: _mask(self._mesh.blobs, nodule) for nodule in nodules}
        )
        return JSONResponse({"masks": masks})

    async def _corrected(self, request: Request, caller: Caller, note: Note) -> Response:
        async with self._mesh.sessions() as session:
            held = await self._held(session, request, caller, note)
            body = await read_json(request, CorrectionBody)
            note.detail = body.kind
            other = None
            if body.other is not None:
                other = await results.read(session, (held.row.tenant,), body.other.study_id)
                if other is None or other.row.patient != held.row.patient:
                    raise Refusal("not_found")
        correction = correction_of(body, held, other, caller.user, time.time())
        known = said_before(held, correction)
        if not known:
            changed = await self._correct(held.row.tenant, held.row.patient, correction)
            async with self._mesh.sessions() as session, session.begin():
                for event in changed:
                    await results.fold(session, event, time.time())
                self._bell.ring_after(session)
        async with self._mesh.sessions() as session:
            held = await self._held(session, request, caller, note)
            return JSONResponse(await self._view(session, held))

    async def _sign(self, request: Request, caller: Caller, note: Note) -> Response:
        async with self._mesh.sessions() as session:
            await self._held(session, request, caller, note)
        body = await read_json(request, Signing)
        await self._guard.users.prove(caller, body.password, address_of(request))
        async with self._mesh.sessions() as session, session.begin():
            held = await self._held(session, request, caller, note)
            key = (held.row.tenant, held.row.study_id)
            row = await session.get_one(StudyRow, key, with_for_update=True)
            if body.revision not in (None, row.revision) or body.edition not in (None, row.edition):
                raise Refusal("edition_changed")
            if held.report is None or not row.edition or row.report_edition != row.edition:
                raise Refusal("report_not_ready")
            event = await results.sign(session, held, held.report, caller.user)
            if event is None:
                raise Refusal("already_signed")
            name = deterministic_id("signed", *key, row.revision, row.edition)
            await self._mesh.emit(session, event, name)
            self._bell.ring_after(session)
        note.detail = f"edition {row.edition}"
        return JSONResponse(
            {"signed_by": row.signed_by, "signed_at": iso(row.signed_at), "edition": row.edition}
        )

    async def _report(self, request: Request, caller: Caller, note: Note) -> Response:
        async with self._mesh.sessions() as session:
            held = await self._held(session, request, caller, note)
        if held.report is None:
            raise Refusal("not_found")
        _check_edition(request, held.report)
        name = request.path_params["name"]
        for artefact in held.report.artefacts:
            if artefact.name == name and _NAME.fullmatch(name):
                note.detail = name
                data = await asyncio.to_thread(self._mesh.blobs.get, artefact.content)
                headers = {"Content-Disposition": f'inline; filename="{name}"'}
                if name.endswith(".html"):
                    headers["Content-Security-Policy"] = _REPORT_POLICY
                media = artefact.content.media_type or "application/octet-stream"
                return Response(data, 200, headers, media)
        raise Refusal("not_found")


def _check_edition(request: Request, held: ReportReady) -> None:
    """Raise Refusal (edition_changed) when another report than the held one is asked for."""
    for name, number in (("revision", held.study.revision), ("edition", edition_of(held))):
        if request.query_params.get(name, "") not in ("", str(number)):
            raise Refusal("edition_changed")


def _mask(blobs: BlobStore, nodule: Nodule) -> Json:
    return {
        "offset": list(nodule.mask.offset),
        "size": list(nodule.mask.size),
        "rle": run_lengths(read_array(blobs, nodule.mask.voxels)),
    }
