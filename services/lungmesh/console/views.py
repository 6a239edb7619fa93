"""What the page gets: rows, studies and messages as plain JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from datetime import UTC, date, datetime
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.console.results import Held, SignatureRow
from lungmesh.console.store import StudyRow, status_of
from lungmesh.console.worklist import StageStatus, edition_of
from lungmesh.mesh.contract import name_of
from lungmesh.v1.console_pb2 import StudyOutcome
from lungmesh.v1.events_pb2 import StageState
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated
from lungmesh.v1.nodule_pb2 import Nodule
from lungmesh.v1.study_pb2 import Priority

Json = dict[str, Any]


def word(kind: EnumDescriptor, number: int) -> str:
    """Return an enumeration's value as the page reads it: `part_solid`; empty when unset."""
    return name_of(kind, number) if number and number in kind.values_by_number else ""


def number_of(kind: EnumDescriptor, name: str) -> int | None:
    """Return the number of a word, None when it is none of the enumeration's."""
    for value in kind.values:
        if value.number and word(kind, value.number) == name:
            return value.number
    return None


def plain(message: Message) -> Json:
    """Return a message with its own field names, enumerations as words, times as ISO 8601.

    What is explicitly unset is left out; a number without presence is there, 0 too.
    """
    out: Json = {}
    for field in message.DESCRIPTOR.fields:
        if not field.is_repeated and field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            out[field.name] = [_value(field, item) for item in value]
        else:
            out[field.name] = _value(field, value)
    return out


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return iso(value.ToMicroseconds() / 1e6)
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        return word(field.enum_type, value)
    return value


def iso(seconds: float) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC; None for 0."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def escalation(
    due_date: str, study_date: str, newest: str, today: date, grace_days: int, lost_days: int
) -> str:
    """Return how late a patient's next exam is: not_due, due, overdue, lost.

    Empty when none is due, or when the patient has had a newer exam since.

    Parameters
    ----------
    newest
        DICOM DA of the patient's newest exam.
    """
    if not due_date or newest > study_date:
        return ""
    late = (today - datetime.strptime(due_date, "%Y%m%d").date()).days
    if late < 0:
        return "not_due"
    if late <= grace_days:
        return "due"
    return "overdue" if late <= lost_days else "lost"


def row_view(row: StudyRow, late: str) -> Json:
    """Return a row of the worklist.

    Parameters
    ----------
    late
        The escalation of the patient's next exam.
    """
    study = status_of(row)
    failure = study.failure
    return {
        "study_id": row.study_id,
        "tenant": row.tenant,
        "patient": row.patient,
        "study_date": row.study_date,
        "priority": word(Priority.DESCRIPTOR, row.priority),
        "outcome": word(StudyOutcome.DESCRIPTOR, row.outcome),
        "reason": f"{failure.stage}: {failure.detail}" if failure is not None else "",
        "category": row.category,
        "stages": [_stage(stage) for stage in study.ordered_stages()],
        "received_at": iso(row.received_at),
        "finished_at": iso(row.finished_at),
        "due_date": row.due_date,
        "work_up": row.work_up,
        "escalation": late,
        "signed_by": row.signed_by if row.signed else None,
        "signed_at": iso(row.signed_at) if row.signed else None,
        "edition": row.edition,
        "revision": row.revision,
    }


def _stage(stage: StageStatus) -> Json:
    return {
        "stage": stage.stage,
        "state": word(StageState.DESCRIPTOR, stage.state),
        "fraction": stage.fraction,
        "detail": stage.detail,
        "seconds": stage.handler_seconds,
    }


def study_view(
    held: Held,
    row: Json,
    slices: Sequence[str],
    signatures: Iterable[SignatureRow],
    priors_here: Set[str],
) -> Json:
    """Return everything that the study's page shows.

    Parameters
    ----------
    slices
        SOP instance UIDs of the volume, in z order.
    priors_here
        The earlier studies that the console can show.
    """
    event = held.followup or FollowupUpdated()
    return {
        "row": row,
        "nodules": [nodule_view(nodule) for nodule in event.nodules],
        "rejected": [nodule_view(nodule) for nodule in event.rejected],
        "exam_categories": [plain(category) for category in event.exam_categories],
        "next": plain(event.next) if event.HasField("next") else None,
        "priors": [
            {**plain(prior), "held": prior.study_id in priors_here} for prior in event.priors
        ],
        "corrections": [correction_view(correction) for correction in event.corrections],
        "models": [plain(model) for model in event.models],
        "qc": [plain(finding) for finding in event.exam.qc_findings],
        "acquisition": plain(event.exam.volume.acquisition),
        "report": _report(held),
        "series": _series(held, slices),
        "signatures": [
            {
                "author": signature.author,
                "at": iso(signature.at),
                "revision": signature.revision,
                "edition": signature.edition,
            }
            for signature in signatures
        ],
    }


def nodule_view(nodule: Nodule) -> Json:
    """Return a nodule with its measurement, its past and its categories, flat."""
    whole = plain(nodule)
    for hidden in ("mask", "detector", "assessment", "tracking", "measurement"):
        whole.pop(hidden, None)
    assessment, tracking = plain(nodule.assessment), plain(nodule.tracking)
    review = plain(nodule.review)
    return {
        **whole,
        **plain(nodule.measurement),
        "score": whole.pop("detection_score"),
        "signs": assessment["signs"],
        "risks": assessment["risks"],
        "reader_score": assessment.get("reader_score"),
        **{name: tracking[name] for name in ("tracking_uid", "growth", "outcome", "shown_earlier")},
        **{name: tracking[name] for name in ("priors", "history", "related_uids")},
        "review": review,
    }


def correction_view(correction: Correction) -> Json:
    """Return what a person said of a nodule."""
    said = plain(correction)
    said["nodule_id"] = said.pop("nodule")["nodule_id"]
    if "other" in said:
        said["other"].pop("center_lps_mm")
    return said


def _report(held: Held) -> Json | None:
    if held.report is None:
        return None
    return {
        "content_sha256": held.report.content_sha256,
        "edition": edition_of(held.report),
        "artefacts": [artefact.name for artefact in held.report.artefacts],
    }


def _series(held: Held, slices: Sequence[str]) -> Json | None:
    if held.followup is None:
        return None
    exam = held.followup.exam
    return {
        "study_instance_uid": exam.study_instance_uid,
        "series_instance_uid": exam.volume.series_instance_uid,
        "slices": list(slices),
        "geometry": plain(exam.volume.geometry),
    }
