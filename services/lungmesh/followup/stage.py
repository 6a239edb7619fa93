"""The stage: exams and corrections in, the results that they change out, one patient in order."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter

from lungmesh.followup import programme, timeline
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

    def __init__(
        self,
        keeper: Keeper,
        settings: FollowupSettings,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Take the keeper, the settings, and where exams are counted."""
        self._keeper = keeper
        # Each exam once, as it was first judged; category is empty where facts were missing.
        self._exams = Counter(
            "lungmesh_followup_exams",
            "Exams judged, by category of the programme's guideline",
            ("tenant", "category", "positive"),
            registry=registry or CollectorRegistry(),
        )
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
        results = told(update, study.study_id)
        if results[0].edition <= 1:
            positive = "yes" if programme.is_positive(results[0]) else "no"
            self._exams.labels(study.tenant, results[0].next.category, positive).inc()
        return results


def told(update: Update, study_id: str) -> list[FollowupUpdated]:
    """Return the result of an exam that came, then the others that it changed."""
    own = next(one for one in update.results if one.study.study_id == study_id)
    return [own, *(one for one in update.news if one.study.study_id != study_id)]
