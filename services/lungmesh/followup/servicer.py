"""The follow-up service's gRPC API."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import grpc

from lungmesh.followup import figures, programme, registry, store, treatment
from lungmesh.followup.corrections import without_effect
from lungmesh.followup.figures import Place
from lungmesh.followup.keeping import Keeper, Update, What
from lungmesh.followup.settings import FollowupSettings
from lungmesh.mesh import BadInput, Mesh, Unavailable
from lungmesh.mesh.contract import validate
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import followup_pb2, followup_pb2_grpc
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import Category

# Writers of one patient meet seldom; each time one of them goes through.
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.05
# gRPC takes 4 MiB a message by default.
_PIECE_BYTES = 1024 * 1024


class FollowupServicer(followup_pb2_grpc.FollowupServiceServicer):
    """Answers from the service's database, and changes it as the stage does."""

    def __init__(self, mesh: Mesh, keeper: Keeper, settings: FollowupSettings) -> None:
        self._mesh, self._keeper, self._settings = mesh, keeper, settings

    async def Track(
        self, request: followup_pb2.TrackRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.TrackResponse:
        """Compare an exam and keep it; what it changes in other exams goes to the bus."""
        study = request.event.study
        update = await self._settle(study.tenant, study.patient, request.event)
        own = next(one for one in update.results if one.study.study_id == study.study_id)
        return followup_pb2.TrackResponse(event=own)

    async def GetTimeline(
        self, request: followup_pb2.GetTimelineRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.GetTimelineResponse:
        """Return a patient's exams in order of study date."""
        async with self._mesh.sessions() as session:
            exams = await store.results_of(session, request.tenant, request.patient)
        return followup_pb2.GetTimelineResponse(exams=exams)

    async def Correct(
        self, request: followup_pb2.CorrectRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.CorrectResponse:
        """Keep what a person said; what it changes is returned and goes to the bus.

        Raises BadInput for a correction that says nothing, or would change nothing.
        """
        update = await self._settle(request.tenant, request.patient, request.correction)
        return followup_pb2.CorrectResponse(exams=update.news)

    async def RecordOutcome(
        self, request: followup_pb2.RecordOutcomeRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.RecordOutcomeResponse:
        """Keep what became of a patient."""
        await self._settle(request.tenant, request.patient, request.outcome)
        return followup_pb2.RecordOutcomeResponse()

    async def ListDue(
        self, request: followup_pb2.ListDueRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.ListDueResponse:
        """Return a page of what is due, the longest overdue first."""
        grace, lost = self._settings.grace_days, self._settings.lost_days
        today = programme.asked_day(request.today)
        limit = request.limit or self._settings.list_limit
        days = programme.due_days(request.escalation, today, grace, lost)
        query = figures.due_page(
            request.tenant, days, request.category, _place(request.page), limit + 1
        )
        async with self._mesh.sessions() as session:
            rows = (await session.scalars(query)).all()
        page, more = rows[:limit], rows[limit:]
        return followup_pb2.ListDueResponse(
            exams=[
                followup_pb2.DueExam(
                    patient=row.patient,
                    study_id=row.study_id,
                    study_date=row.study_date,
                    due_date=row.due_date,
                    days_late=today - row.due_day,
                    escalation=programme.escalation(today - row.due_day, grace, lost),
                    category=Category.FromString(row.described),
                    work_up=row.work_up,
                )
                for row in page
            ],
            next_page=f"{page[-1].due_day}.{page[-1].patient}" if more else "",
        )

    async def GetStatistics(
        self, request: followup_pb2.GetStatisticsRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.GetStatisticsResponse:
        """Return a programme's figures; what is due counts on the last day."""
        first, last = _time(request.from_date, request.to_date)
        grace, lost = self._settings.grace_days, self._settings.lost_days
        async with self._mesh.sessions() as session:
            found = await figures.figures(session, request.tenant, first, last, grace)
            late = (await figures.late(session, last, grace, lost, request.tenant)).get(
                request.tenant, figures.Late()
            )
        return followup_pb2.GetStatisticsResponse(
            patients=found.patients,
            exams=found.exams,
            baseline_exams=found.baseline,
            categories=[
                followup_pb2.CategoryCount(category=category, exams=count)
                for category, count in found.categories.items()
            ],
            positivity_rate=_share(found.positive, found.exams),
            participation_rate=_share(found.came, found.called),
            due=late.due,
            overdue=late.overdue,
            lost=late.lost,
            cancers_after_positive=found.cancers_after_positive,
            interval_cancers=found.interval_cancers,
        )

    async def ExportRegistry(
        self, request: followup_pb2.ExportRegistryRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[followup_pb2.ExportRegistryResponse]:
        """Stream the rows of a registry in pieces, in order of study date."""
        first, last = _time(request.from_date, request.to_date)
        as_csv = request.format == followup_pb2.REGISTRY_FORMAT_CSV
        written = registry.csv_rows if as_csv else registry.fhir_lines
        if as_csv:
            yield followup_pb2.ExportRegistryResponse(piece=registry.csv_head())
        after: Place = (first, "")
        while True:
            # A transaction a page: a slow reader must hold up nobody.
            async with self._mesh.sessions() as session:
                exams = await figures.registry_page(session, request.tenant, after, last)
            if not exams:
                return
            text = await asyncio.to_thread(written, exams)
            for start in range(0, len(text), _PIECE_BYTES):
                piece = text[start : start + _PIECE_BYTES]
                yield followup_pb2.ExportRegistryResponse(piece=piece)
            after = exams[-1].place

    async def GetResponse(
        self, request: followup_pb2.GetResponseRequest, context: grpc.aio.ServicerContext
    ) -> followup_pb2.GetResponseResponse:
        """Return the response to treatment at every exam from the baseline on."""
        async with self._mesh.sessions() as session:
            exams = await store.results_of(session, request.tenant, request.patient)
        return treatment.response(exams, request.baseline_study_id)

    async def _settle(self, tenant: str, patient: str, what: What) -> Update:
        """Keep something new; its state and its events in one transaction.

        Raises Unavailable when other writers of the patient were faster every time.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            update = await self._keeper.update(tenant, patient, what)
            if isinstance(what, followup_pb2.Correction):
                reason = without_effect(what, update.state.exams, update.state.corrections)
                if reason:
                    raise BadInput(reason, "without_effect")
            try:
                async with self._mesh.sessions() as session, session.begin():
                    await update.write(session)
                    for event in self._told(update):
                        validate(event)
                        await self._mesh.emit(session, event, _event_id(event))
                return update
            except Unavailable:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * attempt))  # noqa: S311
        raise AssertionError("the last attempt returned or raised")

    @staticmethod
    def _told(update: Update) -> Sequence[FollowupUpdated]:
        """Return what goes to the bus: not the result of the exam that the caller brought."""
        what = update.what
        if isinstance(what, (followup_pb2.Correction, followup_pb2.Outcome)):
            return update.news
        own = what.study.study_id
        return [event for event in update.news if event.study.study_id != own]


def _event_id(event: FollowupUpdated) -> str:
    study = event.study
    parts = (study.tenant, study.study_id, study.revision, event.edition, event.state_id)
    return deterministic_id("followup", "told", *parts)


def _place(page: str) -> Place | None:
    if not page:
        return None
    day, _, patient = page.partition(".")
    if not day.isdecimal() or not patient:
        raise BadInput("page is not what an earlier answer named", "bad_page")
    return int(day), patient


def _time(first: str, last: str) -> tuple[int, int]:
    days = programme.asked_day(first), programme.asked_day(last)
    if days[1] < days[0]:
        raise BadInput("to_date lies before from_date", "dates_exchanged")
    return days


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
