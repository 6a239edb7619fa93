"""Delivery: the report's DICOM objects go to the tenant's PACS under the patient's own identity."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
from google.protobuf.message import Message
from pydicom.dataset import Dataset

from lungmesh.delivery.identity import PatientIdentity, with_identity
from lungmesh.delivery.settings import DeliverySettings, Destination
from lungmesh.mesh import Context, MeshError, Refused, RetryPolicy, Stage, Unavailable
from lungmesh.mesh.dicom_scu import Peer, send_files
from lungmesh.v1 import ingest_pb2, ingest_pb2_grpc, report_pb2, study_pb2

_RESTORE_SECONDS = 15.0
# What ingest says for good; anything else may pass.
_LASTING = {
    grpc.StatusCode.PERMISSION_DENIED: "it does not take LUNGMESH_DELIVERY__RESTORE_TOKEN",
    grpc.StatusCode.UNAUTHENTICATED: "it does not take LUNGMESH_DELIVERY__RESTORE_TOKEN",
    grpc.StatusCode.NOT_FOUND: "it knows no patient of this pseudonym",
    grpc.StatusCode.INVALID_ARGUMENT: "it does not take the request",
    grpc.StatusCode.UNIMPLEMENTED: "LUNGMESH_DELIVERY__INGEST is not the address of ingest",
}


class DeliveryStage(Stage):
    """Sends SR and SEG to every destination of the tenant.

    A study counts as delivered when each destination has confirmed each object. What one
    destination confirmed is noted, so that a retry for another one does not send it again.
    """

    name = "delivery"
    consumes = (report_pb2.ReportReady,)
    produces = (report_pb2.ReportDelivered,)
    # A PACS that is away must not hold up the reports for another.
    concurrency = 4
    retry = RetryPolicy(unavailable_delays=(2.0, 10.0, 60.0, 300.0))

    def __init__(self, settings: DeliverySettings) -> None:
        self._destinations = settings.destinations
        self._ingest = settings.ingest
        self._token = settings.restore_token
        self.deadline_seconds = settings.deadline_seconds

    async def handle(self, event: report_pb2.ReportReady, ctx: Context) -> Sequence[Message]:
        """Send the objects; no destinations, no events.

        Raises Unavailable while a destination may still take them, Refused when those left refuse
        for good.
        """
        mine = [d for d in self._destinations if d.tenant == event.study.tenant]
        delivered: list[report_pb2.ReportDelivered] = []
        failures: list[tuple[Destination, MeshError]] = []
        for done, destination in enumerate(mine):
            ctx.progress(done / len(mine), f"sending to {destination.name}")
            try:
                delivered.append(await self._deliver(event, destination, ctx))
            except (Refused, Unavailable) as error:
                failures.append((destination, error))
        if failures:
            reason = "; ".join(f"{destination.name}: {error}" for destination, error in failures)
            if any(isinstance(error, Unavailable) for _, error in failures):
                raise Unavailable(reason)
            raise Refused(reason)
        return delivered

    async def _deliver(
        self, event: report_pb2.ReportReady, destination: Destination, ctx: Context
    ) -> report_pb2.ReportDelivered:
        study = event.study
        receipt = (
            f"{study.tenant}/{study.study_id}/r{study.revision}/{self.name}/"
            f"{destination.name}-{event.content_sha256[:16]}"
        )
        artefacts = [a for a in event.artefacts if a.name.endswith(".dcm")]
        delivered = report_pb2.ReportDelivered(
            study=study, destination=destination.name, object_count=len(artefacts)
        )
        if await asyncio.to_thread(ctx.blobs.exists, receipt):
            return delivered
        identity = await self._restore(study)
        await asyncio.to_thread(_send, artefacts, identity, destination, ctx)
        data = delivered.SerializeToString(deterministic=True)
        await asyncio.to_thread(ctx.blobs.put, receipt, data)
        return delivered

    async def _restore(self, study: study_pb2.StudyRef) -> PatientIdentity:
        request = ingest_pb2.RestoreIdentityRequest(tenant=study.tenant, patient=study.patient)
        token = self._token.get_secret_value()
        async with grpc.aio.insecure_channel(self._ingest) as channel:
            try:
                answer = await ingest_pb2_grpc.IngestServiceStub(channel).RestoreIdentity(
                    request,
                    timeout=_RESTORE_SECONDS,
                    metadata=(("authorization", f"Bearer {token}"),),
                )
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code in _LASTING:
                    raise Refused(
                        f"ingest does not restore the identity: {_LASTING[code]}"
                    ) from None
                raise Unavailable(
                    f"ingest at {self._ingest} did not restore the identity ({code.name})"
                ) from None
        return PatientIdentity(
            patient_id=answer.patient_id,
            patient_name=answer.patient_name,
            patient_birth_date=answer.patient_birth_date,
            patient_sex=answer.patient_sex,
            issuer_of_patient_id=answer.issuer_of_patient_id,
        )


def _send(
    artefacts: Sequence[report_pb2.Artefact],
    identity: PatientIdentity,
    destination: Destination,
    ctx: Context,
) -> None:
    """Send the objects and return only when each is confirmed.

    Raises Refused or Unavailable.
    """
    objects: list[Dataset] = [
        with_identity(ctx.blobs.get(artefact.content), identity) for artefact in artefacts
    ]
    peer = Peer(
        host=destination.host,
        port=destination.port,
        ae_title=destination.ae_title,
        calling_ae_title=destination.calling_ae_title,
        connect_seconds=destination.connect_seconds,
        answer_seconds=destination.answer_seconds,
    )
    send_files(objects, peer).require_all_sent()
