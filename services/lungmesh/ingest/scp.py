"""The DICOM door: C-ECHO, C-STORE and a study-level C-FIND (pynetdicom).

Each association has threads of its own; a bad object never ends its association.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from lungmesh.ingest.find import Finder
from lungmesh.ingest.intake import Intake, StorageFull
from lungmesh.ingest.refusals import SUCCESS
from lungmesh.ingest.settings import IngestSettings
from lungmesh.ingest.status import failure
from lungmesh.ingest.syntaxes import COMPANIONS, CT, REFUSED, TRANSFER_SYNTAXES
from lungmesh.ingest.transport import tune
from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.telemetry import tracer
from lungmesh.mesh.tls import listener_context

log = logging.getLogger(__name__)

# A-ASSOCIATE-RJ (PS3.8 Table 9-21): result, source, reason.
_CALLING_UNKNOWN = (0x01, 0x01, 0x03)
_CALLED_UNKNOWN = (0x01, 0x01, 0x07)
_LOCAL_LIMIT = (0x02, 0x03, 0x02)
_LOOK_SECONDS = 0.05


class Scp:
    """The listener."""

    def __init__(self, settings: IngestSettings, intake: Intake, finder: Finder) -> None:
        self._settings, self._intake, self._finder = settings, intake, finder
        # The trace of each open association, which is that of the studies it brings.
        self._spans: dict[Any, trace.Span] = {}
        self._ae = AE()
        self._server: Any = None
        # pynetdicom's own handlers would format every message, patient data included.
        _config.LOG_HANDLER_LEVEL = "none"
        self._ae.maximum_associations = settings.max_associations
        self._ae.maximum_pdu_size = settings.max_pdu_bytes
        self._ae.network_timeout = settings.association_idle_seconds
        self._ae.implementation_version_name = "LUNGMESH"
        for sop_class in (CT, *sorted(COMPANIONS), *sorted(REFUSED)):
            self._ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        self._ae.add_supported_context(Verification)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)

    def start(self) -> int:
        """Listen; return the port.

        Raises SettingsError when the port is taken or a TLS file cannot be used.
        """
        host, port = self._settings.dicom_host, self._settings.dicom_port
        tls = self._settings.dicom_tls
        try:
            self._server = self._ae.start_server(
                (host, port),
                block=False,
                ssl_context=listener_context(tls) if tls else None,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, tune, [self._settings.association_idle_seconds]),
                    (evt.EVT_REQUESTED, self._requested),
                    (evt.EVT_C_ECHO, lambda event: SUCCESS),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_C_FIND, self._find),
                    (evt.EVT_RELEASED, self._released),
                    (evt.EVT_ABORTED, self._broken),
                    (evt.EVT_CONN_CLOSE, self._broken),
                ],
            )
        except OSError as error:
            raise SettingsError(
                f"LUNGMESH_INGEST__DICOM_PORT: {host}:{port} cannot be bound: {error.strerror}"
            ) from error
        bound: int = self._server.server_address[1]
        return bound

    def stop(self, patience_seconds: float) -> None:
        """Take no new association, let the open ones end, then abort what is left. Blocks."""
        if self._server is None:
            return
        self._server.shutdown()
        limit = time.monotonic() + patience_seconds
        while self._ae.active_associations and time.monotonic() < limit:
            time.sleep(_LOOK_SECONDS)
        self._ae.shutdown()

    def _requested(self, event: Any) -> None:
        """Turn an association away before it is negotiated."""
        request = event.assoc.requestor.primitive
        if request.called_ae_title not in self._settings.tenants:
            self._reject(event.assoc, _CALLED_UNKNOWN, "called_ae_title")
        elif (
            self._settings.calling_ae_titles
            and request.calling_ae_title not in self._settings.calling_ae_titles
        ):
            self._reject(event.assoc, _CALLING_UNKNOWN, "calling_ae_title")
        else:
            try:
                self._intake.check_room()
            except StorageFull as error:
                log.warning("associations are refused: %s", error)
                self._reject(event.assoc, _LOCAL_LIMIT, "storage_full")

    def _reject(self, association: Any, why: tuple[int, int, int], reason: str) -> None:
        self._intake.metrics.rejected_associations.labels(reason).inc()
        association.acse.send_reject(*why)
        # Waits until the answer is sent.
        association.kill()

    def _store(self, event: Any) -> Any:
        association = event.assoc
        tenant = self._settings.tenants[association.requestor.primitive.called_ae_title]
        with trace.use_span(
            self._span(association, tenant),
            record_exception=False,
            set_status_on_exception=False,
        ):
            answer = self._intake.keep(tenant, event.encoded_dataset(), association, "dicom")
        return SUCCESS if answer.status == SUCCESS else failure(answer.status, answer.comment)

    def _find(self, event: Any) -> Iterator[tuple[Any, Any]]:
        tenant = self._settings.tenants[event.assoc.requestor.primitive.called_ae_title]
        yield from self._finder.find(tenant, event)

    def _span(self, association: Any, tenant: str) -> trace.Span:
        """Return the association's span, begun with its first object: an echo leaves none."""
        span = self._spans.get(association)
        if span is None:
            span = self._spans[association] = tracer().start_span(
                "receive dicom",
                # Nobody traces a scanner: the trace begins here.
                context=Context(),
                kind=trace.SpanKind.SERVER,
                attributes={"network.protocol.name": "dicom", "lungmesh.tenant": tenant},
            )
        return span

    def _end_span(self, association: Any, released: bool) -> None:
        span = self._spans.pop(association, None)
        if span is not None:
            span.set_attribute("lungmesh.dicom.released", released)
            span.end()

    def _released(self, event: Any) -> None:
        self._end_span(event.assoc, released=True)
        self._intake.ended(event.assoc, released=True)

    def _broken(self, event: Any) -> None:
        """Abort, or the connection is gone; after a release it changes nothing."""
        self._end_span(event.assoc, released=False)
        self._intake.ended(event.assoc, released=False)
