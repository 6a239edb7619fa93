"""The stage: NodulesAssessed in, FollowupUpdated out, one patient's exams in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from lungmesh.followup import growth, matching, registration, store, tracker
from lungmesh.followup.guidelines import c_lung_rads, lung_rads
from lungmesh.followup.registration import Exam
from lungmesh.followup.settings import FollowupSettings
from lungmesh.followup.tracker import Comparison, days_between
from lungmesh.mesh import Context, Stage
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.geometry import Grid
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import NodulesAssessed
from lungmesh.v1.volume_pb2 import VolumeReady

_RULES = (
    registration.RULES,
    matching.RULES,
    tracker.RULES,
    growth.RULES,
    (lung_rads.LUNG_RADS.name, lung_rads.LUNG_RADS.edition),
    (c_lung_rads.C_LUNG_RADS.name, c_lung_rads.C_LUNG_RADS.edition),
)


class FollowupStage(Stage):
    """Compares an exam with the patient's earlier ones and applies the guidelines."""

    name = "followup"
    consumes = (NodulesAssessed,)
    produces = (FollowupUpdated,)
    ordered = True

    def __init__(
        self, sessions: Callable[[], async_sessionmaker[AsyncSession]], settings: FollowupSettings
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        # What changes a result is part of the event's id, settings too.
        self.version = "+".join(
            (*("-".join(rules) for rules in _RULES), f"{settings.priors}/{settings.least_dice:g}")
        )
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds

    async def handle(self, event: NodulesAssessed, ctx: Context) -> Sequence[Message]:
        """Return the FollowupUpdated of an exam, and keep it as a prior of later ones."""
        study = event.study
        async with self._sessions()() as session:
            exams = await store.exams_of(session, study.tenant, study.patient)
        others = [exam for exam in exams if exam.study.study_id != study.study_id]
        updated = await asyncio.to_thread(self._compare, event, others, ctx)
        ctx.on_commit(lambda session: store.keep(session, updated))
        return [updated]

    def _compare(
        self, event: NodulesAssessed, others: Sequence[FollowupUpdated], ctx: Context
    ) -> FollowupUpdated:
        priors, dated = priors_of(event, others)
        chosen = priors[: self._settings.priors]
        comparisons: list[Comparison] = []
        if chosen:
            current = _exam(ctx.blobs, event.exam)
            for number, (days, prior) in enumerate(chosen):
                ctx.progress((number + 0.1) / (len(chosen) + 1), "comparing with an earlier exam")
                then = _exam(ctx.blobs, prior.exam)
                laid = registration.register(then, current)
                trusted = laid if laid.dice >= self._settings.least_dice else None
                comparisons.append(
                    tracker.compare(event, current, prior, then, days, trusted, laid.dice)
                )
        return tracker.track(event, comparisons, priors, dated)


def priors_of(
    event: NodulesAssessed, others: Sequence[FollowupUpdated]
) -> tuple[list[tuple[float, FollowupUpdated]], bool]:
    """Return the exams before this one with their age in days, most recent first.

    The second value is False when other exams of the patient cannot be put before or after it,
    because one of the dates is missing. An exam of the same day is no prior.
    """
    date = event.exam.volume.acquisition.study_date
    aged = [
        (days_between(other.exam.volume.acquisition.study_date, date), other) for other in others
    ]
    before = [(days, other) for days, other in aged if days is not None and days > 0]
    before.sort(key=lambda item: (item[0], item[1].study.study_id))
    unknown = any(days is None for days, _ in aged)
    return before, bool(before) or not unknown


def _exam(blobs: BlobStore, ready: VolumeReady) -> Exam:
    return Exam(read_array(blobs, ready.volume.lobes), Grid.from_proto(ready.volume.geometry))
