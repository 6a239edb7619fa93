"""The stage: exams and corrections in, the results that they change out, one patient in order."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from lungmesh.followup import timeline
from lungmesh.followup.keeping import Keeper, Update
from lungmesh.followup.settings import FollowupSettings
from lungmesh.mesh import Context, Stage
from lungmesh.v1.followup_pb2 import FollowupUpdated, NodulesCorrected
from lungmesh.v1.nodule_pb2 import NodulesAssessed


class FollowupStage(Stage):
    """Compares an exam with the patient's others and applies the guidelines.

    An exam that comes late, and a correction, give a new edition of each result that they change.
    """

    name = "followup"
    consumes = (NodulesAssessed, NodulesCorrected)
    produces = (FollowupUpdated,)
    ordered = True

    def __init__(self, keeper: Keeper, settings: FollowupSettings) -> None:
        self._keeper = keeper
        # What changes a result is part of the event's id, settings too.
        rules = ("-".join(rules) for rules in timeline.RULES)
        self.version = "+".join((*rules, settings.version))
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds

    async def handle(
        self, event: NodulesAssessed | NodulesCorrected, ctx: Context
    ) -> Sequence[Message]:
        """Keep it, and return the results that are new; that of an exam that came in any case."""
        what = event.correction if isinstance(event, NodulesCorrected) else event
        study = event.study
        update = await self._keeper.update(study.tenant, study.patient, what, ctx.progress)
        ctx.on_commit(update.write)
        if isinstance(event, NodulesCorrected):
            return update.news
        return told(update, study.study_id)


def told(update: Update, study_id: str) -> list[FollowupUpdated]:
    """Return the result of an exam that came, then the others that it changed."""
    own = next(one for one in update.results if one.study.study_id == study_id)
    return [own, *(one for one in update.news if one.study.study_id != study_id)]
