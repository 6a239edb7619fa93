"""What the console knows of a study, and how each event changes it.

Events of different topics arrive in any order, some more than once. Three rules make the outcome
independent of that order: a newer revision starts the study afresh and an older one is ignored; a
stage that is done stays done; otherwise the progress that was made later wins. Within a revision a
newer edition of the result wins over an older one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import Message

from lungmesh.v1 import events_pb2
from lungmesh.v1.console_pb2 import (
    STUDY_OUTCOME_DONE,
    STUDY_OUTCOME_FAILED,
    STUDY_OUTCOME_IN_PROGRESS,
    StudyOutcome,
)
from lungmesh.v1.events_pb2 import StageProgress, StudyFailed
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.mdt_pb2 import MdtRecommended
from lungmesh.v1.nodule_pb2 import Category, NodulesAssessed, NodulesDetected
from lungmesh.v1.report_pb2 import ReportDelivered, ReportReady
from lungmesh.v1.study_pb2 import StudyReceived
from lungmesh.v1.volume_pb2 import VolumeReady

# The stage whose work each result event proves.
STAGE_OF_RESULT: dict[type[Message], str] = {
    StudyReceived: "ingest",
    VolumeReady: "preprocess",
    NodulesDetected: "detection",
    NodulesAssessed: "malignancy",
    FollowupUpdated: "followup",
    ReportReady: "report",
    ReportDelivered: "delivery",
    MdtRecommended: "mdt",
}
CONSUMED: tuple[type[Message], ...] = (*STAGE_OF_RESULT, StageProgress, StudyFailed)
STAGE_ORDER = tuple(STAGE_OF_RESULT.values())
_CATEGORY_GUIDELINE = "Lung-RADS"


@dataclass
class StageStatus:
    """Where one stage is with a study.

    Attributes
    ----------
    fraction
        0 … 1.
    detail
        A word on what is being done, or the reason of a failure.
    handler_seconds, queue_seconds
        Seconds in the handler, and between the event's making and the handler's start.
    at
        When the state was reported, seconds since 1970; 0 when only a result event proved it.
    """

    stage: str
    state: int = events_pb2.STAGE_STATE_UNSPECIFIED
    fraction: float = 0.0
    detail: str = ""
    handler_seconds: float = 0.0
    queue_seconds: float = 0.0
    at: float = 0.0


@dataclass
class StudyStatus:
    """What is known of the newest revision of a study.

    Attributes
    ----------
    received_at, finished_at
        Seconds since 1970; 0 when not known yet.
    category
        The exam's Lung-RADS category by the newest edition, empty until there is one.
    content_sha256
        Hash of the report's clinical content, empty until the report is ready.
    recommended
        Whether the MDT recommendation has arrived.
    study_date, due_date
        DICOM DA of the exam and of the next one; empty where unknown.
    work_up
        Whether the guideline asks for work-up instead of a next exam.
    edition, report_edition
        Of the newest result and of the newest report, 0 until there is one.
    """

    tenant: str
    study_id: str
    patient: str = ""
    revision: int = 0
    priority: int = 0
    received_at: float = 0.0
    finished_at: float = 0.0
    category: str = ""
    content_sha256: str = ""
    recommended: bool = False
    study_date: str = ""
    due_date: str = ""
    work_up: bool = False
    edition: int = 0
    report_edition: int = 0
    stages: dict[str, StageStatus] = field(default_factory=dict)

    @property
    def failure(self) -> StageStatus | None:
        """The first stage, in the mesh's order, that gave the study up."""
        failed = [
            stage for stage in self.ordered_stages() if stage.state == events_pb2.STAGE_STATE_FAILED
        ]
        return failed[0] if failed else None

    @property
    def outcome(self) -> StudyOutcome.ValueType:
        """Failed while a stage stands failed; done once report and recommendation are there."""
        if self.failure is not None:
            return STUDY_OUTCOME_FAILED
        if self.content_sha256 and self.recommended:
            return STUDY_OUTCOME_DONE
        return STUDY_OUTCOME_IN_PROGRESS

    def ordered_stages(self) -> list[StageStatus]:
        """The stages in the order of a study's way; stages unknown here come last."""
        known = [self.stages[name] for name in STAGE_ORDER if name in self.stages]
        others = sorted(name for name in self.stages if name not in STAGE_ORDER)
        return known + [self.stages[name] for name in others]


def apply(study: StudyStatus, event: Message, now: float) -> bool:
    """Change a study by an event; return whether anything changed.

    Parameters
    ----------
    event
        One of `CONSUMED`, of this study.
    now
        Seconds since 1970; becomes `finished_at` when the event ends the study.

    Raises TypeError for an event of another type.
    """
    if type(event) not in CONSUMED:
        raise TypeError(f"the console does not take {type(event).__name__}")
    reference = event.study  # type: ignore[attr-defined]
    if reference.revision < study.revision:
        return False
    before = _picture(study)
    if reference.revision > study.revision:
        _start_afresh(study, reference.revision)
    study.patient, study.priority = reference.patient, reference.priority
    if isinstance(event, StageProgress):
        _report(study, event)
    elif isinstance(event, StudyFailed):
        _fail(study, event)
    else:
        _result(study, event)
    if study.outcome == STUDY_OUTCOME_IN_PROGRESS:
        study.finished_at = 0.0
    elif not study.finished_at:
        study.finished_at = now
    return _picture(study) != before


def _picture(study: StudyStatus) -> str:
    return repr(study)


def _start_afresh(study: StudyStatus, revision: int) -> None:
    study.revision = revision
    study.finished_at = 0.0
    study.category = study.content_sha256 = study.study_date = study.due_date = ""
    study.recommended = study.work_up = False
    study.edition = study.report_edition = 0
    study.stages = {}


def _stage(study: StudyStatus, name: str) -> StageStatus:
    return study.stages.setdefault(name, StageStatus(name))


def _report(study: StudyStatus, event: StageProgress) -> None:
    stage = _stage(study, event.stage)
    at = event.at.ToMicroseconds() / 1e6
    if event.state == events_pb2.STAGE_STATE_DONE:
        _finish(stage, at)
        # A repeat of a handled event costs no time; the first figure is the true one.
        stage.handler_seconds = event.handler_seconds or stage.handler_seconds
        if event.handler_seconds or not stage.queue_seconds:
            stage.queue_seconds = event.queue_seconds
        return
    if stage.state == events_pb2.STAGE_STATE_DONE or at < stage.at:
        return
    stage.state, stage.at = event.state, at
    stage.detail = event.detail
    stage.fraction = event.fraction
    stage.handler_seconds = event.handler_seconds
    stage.queue_seconds = event.queue_seconds


def _fail(study: StudyStatus, event: StudyFailed) -> None:
    stage = _stage(study, event.stage)
    at = event.at.ToMicroseconds() / 1e6
    if stage.state == events_pb2.STAGE_STATE_DONE or at < stage.at:
        return
    stage.state, stage.at, stage.detail = events_pb2.STAGE_STATE_FAILED, at, event.reason


def _result(study: StudyStatus, event: Message) -> None:
    _finish(_stage(study, STAGE_OF_RESULT[type(event)]), 0.0)
    if isinstance(event, StudyReceived):
        study.received_at = event.received_at.ToMicroseconds() / 1e6
    elif isinstance(event, FollowupUpdated):
        _updated(study, event)
    elif isinstance(event, ReportReady):
        _reported(study, event)
    elif isinstance(event, MdtRecommended):
        study.recommended = True


def edition_of(event: FollowupUpdated | ReportReady) -> int:
    """Return which edition of a revision's result an event is, 1 or more."""
    return max(1, event.edition)


def _updated(study: StudyStatus, event: FollowupUpdated) -> None:
    edition = edition_of(event)
    if edition < study.edition:
        return
    if edition >= study.report_edition:
        study.category = _lung_rads(event.exam_categories)
    study.edition = edition
    study.study_date = event.exam.volume.acquisition.study_date
    study.due_date = event.next.due_date
    study.work_up = event.next.work_up


def _reported(study: StudyStatus, event: ReportReady) -> None:
    edition = edition_of(event)
    if edition < study.report_edition:
        return
    if edition >= study.edition:
        study.category = _lung_rads(event.exam_categories)
    study.report_edition = edition
    study.content_sha256 = event.content_sha256


def _finish(stage: StageStatus, at: float) -> None:
    stage.state = events_pb2.STAGE_STATE_DONE
    stage.fraction = 1.0
    stage.detail = ""
    stage.at = max(stage.at, at)


def _lung_rads(categories: object) -> str:
    found: list[Category] = [
        category
        for category in categories  # type: ignore[attr-defined]
        if category.guideline.name == _CATEGORY_GUIDELINE
    ]
    return found[0].category if found else ""
