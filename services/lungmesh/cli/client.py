"""What the commands ask of a running mesh, over gRPC."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from lungmesh.cli.exits import CommandError, Exit, writing
from lungmesh.embedded.state import TENANT, MeshState
from lungmesh.v1.console_pb2 import (
    STUDY_OUTCOME_DONE,
    STUDY_OUTCOME_FAILED,
    StudyView,
    WatchStudiesRequest,
)
from lungmesh.v1.console_pb2_grpc import ConsoleServiceStub
from lungmesh.v1.delivery_pb2 import (
    Delivery,
    Destination,
    ListDeliveriesRequest,
    ListDestinationsRequest,
    ReplayDeliveriesRequest,
)
from lungmesh.v1.delivery_pb2_grpc import DeliveryServiceStub
from lungmesh.v1.events_pb2 import STAGE_STATE_DONE
from lungmesh.v1.followup_pb2 import (
    Correction,
    CorrectRequest,
    DueExam,
    ExportRegistryRequest,
    FollowupUpdated,
    GetResponseRequest,
    GetResponseResponse,
    GetTimelineRequest,
    ListDueRequest,
)
from lungmesh.v1.followup_pb2_grpc import FollowupServiceStub
from lungmesh.v1.ingest_pb2 import CloseStudyRequest
from lungmesh.v1.ingest_pb2_grpc import IngestServiceStub
from lungmesh.v1.mdt_pb2 import GetRecommendationRequest, MdtRecommended
from lungmesh.v1.mdt_pb2_grpc import MdtServiceStub
from lungmesh.v1.report_pb2 import FetchReportRequest
from lungmesh.v1.report_pb2_grpc import ReportServiceStub
from lungmesh.v1.study_pb2 import ClinicalContext, Priority, StudyRef

_CALL_SECONDS = 30.0
_AGAIN_SECONDS = 0.5
_TIMES_SECONDS = 3.0
# A registry may hold the exams of years.
_EXPORT_SECONDS = 3600.0


class MeshClient:
    """Calls to one mesh; every wait has a limit.

    Raises CommandError (NO_MESH) when a service does not answer, and CommandError with the
    service's own sentence when it refuses.
    """

    def __init__(self, mesh: MeshState) -> None:
        self._mesh = mesh

    def close_study(
        self, study_instance_uid: str, priority: Priority.ValueType, clinical: ClinicalContext
    ) -> StudyRef:
        """Declare a study complete, so that nothing waits for a quiet period."""
        request = CloseStudyRequest(
            tenant=TENANT,
            study_instance_uid=study_instance_uid,
            priority=priority,
            clinical=clinical,
        )
        with self._channel("ingest") as channel:
            answer = IngestServiceStub(channel).CloseStudy(request, timeout=_CALL_SECONDS)
        study: StudyRef = answer.study
        return study

    def follow(self, study: StudyRef, limit_seconds: float) -> Iterator[StudyView]:
        """Yield a study's state at every change, up to the one that ends it.

        A stage's result may be seen before its time is, so at the end up to some seconds are given
        to stages to tell theirs.

        Raises CommandError (TIME_LIMIT).
        """
        view = StudyView()
        for view in self._changes(study, time.monotonic() + limit_seconds):
            yield view
            if view.outcome in (STUDY_OUTCOME_DONE, STUDY_OUTCOME_FAILED):
                break
        else:
            raise CommandError(
                f"the study did not end within {limit_seconds:.0f} s", Exit.TIME_LIMIT
            )
        if view.outcome == STUDY_OUTCOME_DONE and not _timed(view):
            for view in self._changes(study, time.monotonic() + _TIMES_SECONDS):
                yield view
                if _timed(view):
                    return

    def _changes(self, study: StudyRef, limit: float) -> Iterator[StudyView]:
        """Yield the states of a study, its revision or a newer one, until a `monotonic` time."""
        request = WatchStudiesRequest(tenant=TENANT, study_id=study.study_id)
        while (left := limit - time.monotonic()) > 0:
            try:
                with grpc.insecure_channel(self._mesh.address("console")) as channel:
                    for answer in ConsoleServiceStub(channel).WatchStudies(request, timeout=left):
                        if answer.study.study.revision >= study.revision:
                            yield answer.study
            except grpc.RpcError as error:
                code = error.code()
                if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise _told("console", error) from error
            # The console was restarted: its state is kept, so ask again.
            time.sleep(min(_AGAIN_SECONDS, max(0.0, limit - time.monotonic())))

    def watch(self) -> Iterator[StudyView]:
        """Yield every study of the tenant as it stands, then each change, without end."""
        request = WatchStudiesRequest(tenant=TENANT)
        with self._channel("console") as channel:
            for answer in ConsoleServiceStub(channel).WatchStudies(request):
                yield answer.study

    def fetch_report(self, study: StudyRef, out: Path) -> list[str]:
        """Write the report's files into a folder and return their names.

        Raises CommandError (OUTPUT) when the folder does not take them.
        """
        request = FetchReportRequest(
            tenant=study.tenant, study_id=study.study_id, revision=study.revision
        )
        names: list[str] = []
        with self._channel("report") as channel:
            for part in ReportServiceStub(channel).FetchReport(request, timeout=_CALL_SECONDS * 4):
                new = part.name not in names
                if new:
                    names.append(part.name)
                # The name's letters are checked at the service's edge; this keeps us in `out`.
                path = out / Path(part.name).name
                with writing(path), path.open("wb" if new else "ab") as file:
                    file.write(part.data)
        return names

    def recommendation(self, study: StudyRef) -> MdtRecommended:
        """Return what is recommended to the multidisciplinary team."""
        request = GetRecommendationRequest(
            tenant=study.tenant, study_id=study.study_id, revision=study.revision
        )
        with self._channel("mdt") as channel:
            answer = MdtServiceStub(channel).GetRecommendation(request, timeout=_CALL_SECONDS)
        event: MdtRecommended = answer.event
        return event

    def timeline(self, tenant: str, patient: str) -> Sequence[FollowupUpdated]:
        """Return a patient's exams in order of study date."""
        request = GetTimelineRequest(tenant=tenant, patient=patient)
        with self._channel("followup") as channel:
            answer = FollowupServiceStub(channel).GetTimeline(request, timeout=_CALL_SECONDS)
        exams: Sequence[FollowupUpdated] = answer.exams
        return exams

    def correct(
        self, tenant: str, patient: str, correction: Correction
    ) -> Sequence[FollowupUpdated]:
        """Say a radiologist's word and return the exams whose result it changed."""
        request = CorrectRequest(tenant=tenant, patient=patient, correction=correction)
        with self._channel("followup") as channel:
            answer = FollowupServiceStub(channel).Correct(request, timeout=_CALL_SECONDS)
        exams: Sequence[FollowupUpdated] = answer.exams
        return exams

    def due(self, request: ListDueRequest) -> Iterator[DueExam]:
        """Yield what is due, the longest overdue first, all pages."""
        asked = ListDueRequest()
        asked.CopyFrom(request)
        with self._channel("followup") as channel:
            stub = FollowupServiceStub(channel)
            while True:
                answer = stub.ListDue(asked, timeout=_CALL_SECONDS)
                yield from answer.exams
                if not answer.next_page:
                    return
                asked.page = answer.next_page

    def registry(self, request: ExportRegistryRequest) -> Iterator[bytes]:
        """Yield a registry's file in pieces."""
        with self._channel("followup") as channel:
            for part in FollowupServiceStub(channel).ExportRegistry(
                request, timeout=_EXPORT_SECONDS
            ):
                yield part.piece

    def response(self, tenant: str, patient: str, baseline_study_id: str) -> GetResponseResponse:
        """Return the response to treatment at every exam from the baseline on."""
        request = GetResponseRequest(
            tenant=tenant, patient=patient, baseline_study_id=baseline_study_id
        )
        with self._channel("followup") as channel:
            answer: GetResponseResponse = FollowupServiceStub(channel).GetResponse(
                request, timeout=_CALL_SECONDS
            )
        return answer

    def destinations(self, tenant: str) -> Sequence[Destination]:
        """Return a tenant's destinations and how each does."""
        request = ListDestinationsRequest(tenants=[tenant])
        with self._channel("delivery") as channel:
            answer = DeliveryServiceStub(channel).ListDestinations(request, timeout=_CALL_SECONDS)
        found: Sequence[Destination] = answer.destinations
        return found

    def deliveries(self, request: ListDeliveriesRequest) -> Sequence[Delivery]:
        """Return reports on their way to destinations."""
        with self._channel("delivery") as channel:
            answer = DeliveryServiceStub(channel).ListDeliveries(request, timeout=_CALL_SECONDS)
        found: Sequence[Delivery] = answer.deliveries
        return found

    def replay_deliveries(self, request: ReplayDeliveriesRequest) -> int:
        """Send dead letters again and return how many."""
        with self._channel("delivery") as channel:
            answer = DeliveryServiceStub(channel).ReplayDeliveries(request, timeout=_CALL_SECONDS)
        return int(answer.replayed)

    @contextmanager
    def _channel(self, service: str) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self._mesh.address(service)) as channel:
            try:
                yield channel
            except grpc.RpcError as error:
                raise _told(service, error) from error


def _timed(view: StudyView) -> bool:
    """Return whether every stage that is done has told its time."""
    return all(
        stage.handler_seconds > 0 for stage in view.stages if stage.state == STAGE_STATE_DONE
    )


def _told(service: str, error: grpc.RpcError) -> CommandError:
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return CommandError(f"{service} does not answer: {error.details()}", Exit.NO_MESH)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CommandError(f"{service} did not answer in time", Exit.TIME_LIMIT)
    wrong = code is grpc.StatusCode.INVALID_ARGUMENT
    return CommandError(f"{service}: {error.details()}", Exit.USAGE if wrong else Exit.STAGE_FAILED)
