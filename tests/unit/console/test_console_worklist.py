"""How events change a study of the worklist."""

from __future__ import annotations

import itertools

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.console.worklist import StudyStatus, apply
from lungmesh.v1 import events_pb2
from lungmesh.v1.console_pb2 import (
    STUDY_OUTCOME_DONE,
    STUDY_OUTCOME_FAILED,
    STUDY_OUTCOME_IN_PROGRESS,
)
from lungmesh.v1.events_pb2 import StageProgress, StageState, StudyFailed
from lungmesh.v1.followup_pb2 import FollowupUpdated, NextExam
from lungmesh.v1.mdt_pb2 import MdtRecommended
from lungmesh.v1.nodule_pb2 import Category
from lungmesh.v1.report_pb2 import ReportReady
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, StudyReceived, StudyRef
from lungmesh.v1.volume_pb2 import ModelVersion, VolumeReady

PATIENT = "00000000-0000-0000-0000-000000000001"
STUDY = "00000000-0000-0000-0000-000000000002"


def reference(revision: int = 1) -> StudyRef:
    return StudyRef(
        tenant="t", patient=PATIENT, study_id=STUDY, revision=revision, priority=PRIORITY_ROUTINE
    )


def progress(
    state: StageState.ValueType,
    at: int,
    stage: str = "detection",
    fraction: float = 0.0,
    seconds: float = 0.0,
    revision: int = 1,
) -> StageProgress:
    return StageProgress(
        study=reference(revision),
        stage=stage,
        state=state,
        fraction=fraction,
        handler_seconds=seconds,
        queue_seconds=0.25,
        at=Timestamp(seconds=at),
    )


def failed(at: int, stage: str = "detection", reason: str = "Triton is away") -> StudyFailed:
    return StudyFailed(
        study=reference(),
        stage=stage,
        kind=events_pb2.FAILURE_KIND_UNAVAILABLE,
        error_class="Unavailable",
        reason=reason,
        event_id="e",
        at=Timestamp(seconds=at),
    )


def followed(edition: int, category: str, due: str = "20270101") -> FollowupUpdated:
    lung_rads = Category(guideline=ModelVersion(name="Lung-RADS"), category=category)
    return FollowupUpdated(
        study=reference(),
        edition=edition,
        exam_categories=[lung_rads],
        next=NextExam(due_date=due),
    )


def report_of(edition: int, category: str) -> ReportReady:
    lung_rads = Category(guideline=ModelVersion(name="Lung-RADS"), category=category)
    return ReportReady(
        study=reference(),
        edition=edition,
        content_sha256=f"{edition:064x}",
        exam_categories=[lung_rads],
    )


def report_ready(revision: int = 1) -> ReportReady:
    lung_rads = Category(guideline=ModelVersion(name="Lung-RADS", version="v2022"), category="4X")
    chinese = Category(guideline=ModelVersion(name="C-Lung-RADS", version="2024"), category="4")
    return ReportReady(
        study=reference(revision), content_sha256="ab" * 32, exam_categories=[chinese, lung_rads]
    )


def folded(*events: Message) -> StudyStatus:
    study = StudyStatus("t", STUDY)
    for now, event in enumerate(events, start=1000):
        apply(study, event, float(now))
    return study


def test_a_study_is_done_only_with_report_and_recommendation() -> None:
    recommended = MdtRecommended(study=reference())
    assert folded(report_ready()).outcome == STUDY_OUTCOME_IN_PROGRESS
    assert folded(recommended).outcome == STUDY_OUTCOME_IN_PROGRESS
    for events in itertools.permutations((report_ready(), recommended)):
        study = folded(*events)
        assert study.outcome == STUDY_OUTCOME_DONE
        assert (study.category, study.content_sha256) == ("4X", "ab" * 32)
        assert study.finished_at == 1001


def test_progress_in_any_order_of_arrival_gives_the_same_stage() -> None:
    events = (
        progress(events_pb2.STAGE_STATE_STARTED, 10),
        progress(events_pb2.STAGE_STATE_RUNNING, 11, fraction=0.5),
        progress(events_pb2.STAGE_STATE_DONE, 12, seconds=2.0),
    )
    for order in itertools.permutations(events):
        stage = folded(*order).stages["detection"]
        assert stage.state == events_pb2.STAGE_STATE_DONE
        assert (stage.fraction, stage.handler_seconds, stage.at) == (1.0, 2.0, 12.0)


def test_late_progress_never_moves_a_finished_stage_backwards() -> None:
    done = progress(events_pb2.STAGE_STATE_DONE, 10, seconds=2.0)
    late = progress(events_pb2.STAGE_STATE_RUNNING, 99, fraction=0.3)
    assert folded(done, late).stages == folded(done).stages


def test_a_repeat_of_a_handled_event_keeps_the_first_times() -> None:
    study = folded(
        progress(events_pb2.STAGE_STATE_DONE, 10, seconds=2.0),
        progress(events_pb2.STAGE_STATE_DONE, 50, seconds=0.0),
    )
    assert study.stages["detection"].handler_seconds == 2.0
    assert study.stages["detection"].queue_seconds == 0.25


def test_a_result_proves_its_stage_even_when_progress_was_lost() -> None:
    study = folded(VolumeReady(study=reference()))
    assert study.stages["preprocess"].state == events_pb2.STAGE_STATE_DONE


def test_a_failed_stage_fails_the_study_with_stage_and_reason() -> None:
    study = folded(VolumeReady(study=reference()), failed(20))
    assert study.outcome == STUDY_OUTCOME_FAILED
    assert study.failure is not None
    assert (study.failure.stage, study.failure.detail) == ("detection", "Triton is away")
    assert study.finished_at == 1001


def test_a_replay_takes_the_study_up_again_whatever_arrives_first() -> None:
    events = (failed(20), progress(events_pb2.STAGE_STATE_STARTED, 30))
    for order in itertools.permutations(events):
        study = folded(*order)
        assert study.outcome == STUDY_OUTCOME_IN_PROGRESS
        assert study.finished_at == 0


def test_a_newer_revision_starts_afresh_and_an_older_one_is_ignored() -> None:
    first = (report_ready(), MdtRecommended(study=reference()))
    newer = StudyReceived(study=reference(2), received_at=Timestamp(seconds=77))
    study = folded(*first, newer)
    assert study.outcome == STUDY_OUTCOME_IN_PROGRESS
    assert (study.revision, study.category, study.received_at) == (2, "", 77.0)
    assert list(study.stages) == ["ingest"]
    assert not apply(study, FollowupUpdated(study=reference(1)), 5.0)
    assert list(study.stages) == ["ingest"]


def test_the_newest_edition_wins_in_whatever_order_editions_arrive() -> None:
    events = (
        followed(1, "3", "20260601"),
        report_of(1, "3"),
        followed(2, "4A", "20260301"),
        report_of(2, "4A"),
    )
    for order in itertools.permutations(events):
        study = folded(*order)
        assert (study.edition, study.report_edition) == (2, 2)
        assert (study.category, study.due_date) == ("4A", "20260301")
        assert study.content_sha256 == f"{2:064x}"


def test_a_report_of_an_older_edition_does_not_change_the_category() -> None:
    study = folded(followed(2, "4A"), report_of(1, "3"))
    assert (study.category, study.edition, study.report_edition) == ("4A", 2, 1)


def test_an_event_that_says_nothing_new_changes_nothing() -> None:
    study = folded(VolumeReady(study=reference()))
    assert not apply(study, VolumeReady(study=reference()), 9.0)


def test_an_event_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="StudyRef"):
        apply(StudyStatus("t", STUDY), reference(), 1.0)
