"""One study: what was found, corrections, the signature, the report's files."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache

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
from lungmesh.console.results import Held
from lungmesh.console.store import StudyRow
from lungmesh.console.views import Json, iso, study_view
from lungmesh.mesh import Mesh
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.headers import read_headers
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated
from lungmesh.v1.study_pb2 import BlobRef

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[a-z0-9_.]{1,64}")

# (tenant, patient, correction) in, the exams that it changed out.
Correct = Callable[[str, str, Correction], Awaitable[Sequence[FollowupUpdated]]]


class Signing(Body):
    """The password once more, and the edition that was read."""

    password: str = ""
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

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        guard, study = self._guard, "/api/studies/{study_id}"
        mask = f"{study}/nodules/{{nodule_id}}/mask"
        return [
            guard.route(study, self._study, READERS, "study"),
            guard.route(mask, self._mask, READERS, "mask", kept=False),
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
            ref = held.followup.exam.volume.headers
            slices = await asyncio.to_thread(_slices, self._mesh.blobs, ref.key, ref.sha256)
        return study_view(held, shown, slices, signatures, here)

    async def _mask(self, request: Request, caller: Caller, note: Note) -> Response:
        async with self._mesh.sessions() as session:
            held = await self._held(session, request, caller, note)
        nodule_id = valid_id(request.path_params["nodule_id"])
        event = held.followup or FollowupUpdated()
        for nodule in (*event.nodules, *event.rejected):
            if nodule.nodule_id == nodule_id:
                labels = await asyncio.to_thread(read_array, self._mesh.blobs, nodule.mask.voxels)
                return JSONResponse(
                    {
                        "offset": list(nodule.mask.offset),
                        "size": list(nodule.mask.size),
                        "rle": run_lengths(labels),
                    }
                )
        raise Refusal("not_found")

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
            if body.edition is not None and body.edition != row.edition:
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
        name = request.path_params["name"]
        artefacts = held.report.artefacts if held.report is not None else ()
        for artefact in artefacts:
            if artefact.name == name and _NAME.fullmatch(name):
                note.detail = name
                data = await asyncio.to_thread(self._mesh.blobs.get, artefact.content)
                headers = {"Content-Disposition": f'inline; filename="{name}"'}
                media = artefact.content.media_type or "application/octet-stream"
                return Response(data, 200, headers, media)
        raise Refusal("not_found")


@lru_cache(maxsize=256)
def _slices(blobs: BlobStore, key: str, sha256: str) -> tuple[str, ...]:
    headers = read_headers(blobs, BlobRef(key=key, sha256=sha256))
    return tuple(str(header.SOPInstanceUID) for header in headers)
