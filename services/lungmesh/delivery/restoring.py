"""Asks ingest who a pseudonym is."""

from __future__ import annotations

import grpc

from lungmesh.delivery.identity import PatientIdentity
from lungmesh.delivery.settings import DeliverySettings
from lungmesh.mesh import Refused, Unavailable
from lungmesh.mesh.settings import TlsSettings
from lungmesh.mesh.telemetry import trace_headers
from lungmesh.mesh.tls import open_channel
from lungmesh.v1 import ingest_pb2, ingest_pb2_grpc, study_pb2

_RESTORE_SECONDS = 15.0
# What ingest says for good; anything else may pass.
_LASTING = {
    grpc.StatusCode.PERMISSION_DENIED: "it does not take LUNGMESH_DELIVERY__RESTORE_TOKEN",
    grpc.StatusCode.UNAUTHENTICATED: "it does not take LUNGMESH_DELIVERY__RESTORE_TOKEN",
    grpc.StatusCode.NOT_FOUND: "it knows no patient of this pseudonym",
    grpc.StatusCode.INVALID_ARGUMENT: "it does not take the request",
    grpc.StatusCode.UNIMPLEMENTED: "LUNGMESH_DELIVERY__INGEST is not the address of ingest",
}


class Restorer:
    """Turns pseudonyms back; what it returns is kept nowhere."""

    def __init__(self, settings: DeliverySettings, tls: TlsSettings | None = None) -> None:
        self._ingest, self._tls = settings.ingest, tls
        self._token = settings.restore_token

    async def restore(self, study: study_pb2.StudyRef) -> PatientIdentity:
        """Return who the study's patient is.

        Raises Refused when ingest will not say, Unavailable when it may later.
        """
        request = ingest_pb2.RestoreIdentityRequest(tenant=study.tenant, patient=study.patient)
        token = self._token.get_secret_value()
        async with open_channel(self._ingest, self._tls) as channel:
            try:
                answer = await ingest_pb2_grpc.IngestServiceStub(channel).RestoreIdentity(
                    request,
                    timeout=_RESTORE_SECONDS,
                    metadata=(("authorization", f"Bearer {token}"), *trace_headers().items()),
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
