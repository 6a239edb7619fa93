"""The gRPC door, and what the mesh asks of ingest."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from typing import NoReturn

import grpc

from lungmesh.ingest import store
from lungmesh.ingest.closing import timestamp
from lungmesh.ingest.find import state_of
from lungmesh.ingest.identity import Vault
from lungmesh.ingest.intake import Answer, Intake, StorageFull
from lungmesh.ingest.keeper import Keeper, UnknownStudy
from lungmesh.ingest.settings import IngestSettings
from lungmesh.ingest.spool import Part
from lungmesh.ingest.store import QuarantineRow, StudyRow
from lungmesh.mesh import Mesh
from lungmesh.mesh.errors import BadInput, Unavailable
from lungmesh.mesh.ids import study_id
from lungmesh.v1 import ingest_pb2_grpc
from lungmesh.v1.ingest_pb2 import (
    STUDY_STATE_RECEIVING,
    CloseStudyRequest,
    CloseStudyResponse,
    GetStudyRequest,
    GetStudyResponse,
    ListQuarantineRequest,
    ListQuarantineResponse,
    QuarantineEntry,
    RestoreIdentityRequest,
    RestoreIdentityResponse,
    StoreOutcome,
    StoreRequest,
    StoreResponse,
)
from lungmesh.v1.study_pb2 import BlobRef

_MOST_QUARANTINED = 1000


class IngestServicer(ingest_pb2_grpc.IngestServiceServicer):
    """Answers over gRPC."""

    def __init__(
        self, mesh: Mesh, settings: IngestSettings, intake: Intake, keeper: Keeper, vault: Vault
    ) -> None:
        self._mesh, self._settings = mesh, settings
        self._intake, self._keeper, self._vault = intake, keeper, vault

    async def Store(
        self, request_iterator: AsyncIterator[StoreRequest], context: grpc.aio.ServicerContext
    ) -> StoreResponse:
        """Take files in; the end of the stream is for a study what a release is.

        Raises BadInput for an unknown tenant, Unavailable below the storage watermark.
        """
        stream = object()
        outcomes: list[StoreOutcome] = []
        part: Part | None = None
        whole = False
        try:
            async for request in request_iterator:
                if part is None:
                    part = await asyncio.to_thread(self._begin, request.tenant)
                await asyncio.to_thread(part.write, request.data)
                if request.last:
                    answer = await asyncio.to_thread(self._finish, part, stream)
                    part = None
                    outcomes.append(_outcome(answer))
            if part is not None:
                raise BadInput("the stream ended inside a file: set last on its last part")
            whole = True
        except OSError as error:
            answer = self._intake.no_room(error, "", "grpc")
            raise Unavailable(answer.sentence) from error
        finally:
            if part is not None:
                await asyncio.to_thread(part.abandon)
            self._intake.ended(stream, released=whole)
        return StoreResponse(outcomes=outcomes)

    async def CloseStudy(
        self, request: CloseStudyRequest, context: grpc.aio.ServicerContext
    ) -> CloseStudyResponse:
        """Declare a study complete."""
        try:
            study = await self._keeper.close_study(
                request.tenant, request.study_instance_uid, request.priority, request.clinical
            )
        except UnknownStudy as error:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, str(error))
        return CloseStudyResponse(study=study)

    async def GetStudy(
        self, request: GetStudyRequest, context: grpc.aio.ServicerContext
    ) -> GetStudyResponse:
        """Tell a study's state, since when, and why."""
        await self._keeper.settle()
        name = study_id(request.tenant, request.study_instance_uid)
        async with self._mesh.sessions() as session:
            row = await store.study(session, request.tenant, name)
            counts = await store.counts(session, request.tenant, [name])
        if row is None:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, "no object of this study has come")
        return GetStudyResponse(
            study=row.reference(),
            state=state_of(row),
            reason=self._reason(row),
            instance_count=counts.get(name, (0, 0, []))[0],
            since=timestamp(row.since),
        )

    def _reason(self, row: StudyRow) -> str:
        if state_of(row) != STUDY_STATE_RECEIVING:
            return row.reason
        waiting = self._keeper.waits_for(row.tenant, row.study_instance_uid)
        if row.revision:
            return f"late objects for revision {row.revision + 1}: {waiting}"
        return waiting

    async def ListQuarantine(
        self, request: ListQuarantineRequest, context: grpc.aio.ServicerContext
    ) -> ListQuarantineResponse:
        """List the newest refused objects of a tenant."""
        await self._keeper.settle()
        async with self._mesh.sessions() as session:
            rows = await store.quarantine(session, request.tenant, _MOST_QUARANTINED)
        return ListQuarantineResponse(entries=[_entry(row) for row in rows])

    async def RestoreIdentity(
        self, request: RestoreIdentityRequest, context: grpc.aio.ServicerContext
    ) -> RestoreIdentityResponse:
        """Turn a pseudonym back, for the delivery service alone."""
        if not self._may_restore(context):
            await _refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                "RestoreIdentity needs the bearer token of LUNGMESH_INGEST__RESTORE_TOKEN",
            )
        async with self._mesh.sessions() as session:
            row = await store.patient_by_pseudonym(session, request.tenant, request.patient)
        if row is None:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, "nobody has this pseudonym")
        identity = self._vault.open(row.sealed)
        return RestoreIdentityResponse(
            patient_id=identity.patient_id,
            patient_name=identity.patient_name,
            patient_birth_date=identity.patient_birth_date,
            patient_sex=identity.patient_sex,
            issuer_of_patient_id=identity.issuer_of_patient_id,
        )

    def _may_restore(self, context: grpc.aio.ServicerContext) -> bool:
        token = self._settings.restore_token
        if token is None or not token.get_secret_value():
            return False
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        expected = f"Bearer {token.get_secret_value()}"
        return hmac.compare_digest(expected.encode(), str(given).encode())

    def _begin(self, tenant: str) -> Part:
        if tenant not in self._settings.tenant_names():
            raise BadInput("tenant is none of this mesh's: see LUNGMESH_INGEST__TENANTS")
        try:
            self._intake.check_room()
        except StorageFull as error:
            raise Unavailable(str(error)) from error
        return self._intake.spool.begin(tenant)

    def _finish(self, part: Part, stream: object) -> Answer:
        file = part.finish()
        return self._intake.receive(file, file.read(), stream, "grpc")


async def _refuse(
    context: grpc.aio.ServicerContext, code: grpc.StatusCode, sentence: str
) -> NoReturn:
    await context.abort(code, sentence)
    raise AssertionError("abort always raises")


def _outcome(answer: Answer) -> StoreOutcome:
    return StoreOutcome(
        sop_instance_uid=answer.sop_instance_uid,
        status=answer.status,
        comment=answer.sentence,
    )


def _entry(row: QuarantineRow) -> QuarantineEntry:
    return QuarantineEntry(
        object=BlobRef(
            key=row.key,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            media_type="application/octet-stream",
        ),
        code=row.code,
        reason=row.reason,
        status=row.status,
        at=timestamp(row.at),
    )
