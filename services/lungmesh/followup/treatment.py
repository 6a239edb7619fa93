"""Response to treatment from a patient's timeline: what the mesh's exams say to RECIST."""

from __future__ import annotations

from collections.abc import Sequence

from lungmesh.followup import response as recist
from lungmesh.followup.response import ExamLesions, ExamResponse, Lesion
from lungmesh.followup.timeline import BENIGN, date_of
from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated, GetResponseResponse


def response(exams: Sequence[FollowupUpdated], baseline_study_id: str) -> GetResponseResponse:
    """Return the response at every exam from the baseline on.

    Parameters
    ----------
    exams
        In order of study date; those without a date are left out.
    baseline_study_id
        Empty means the first.

    Raises BadInput when there is no such exam, or two exams are of one day.
    """
    dated = [e for e in exams if date_of(e.exam.volume.acquisition.study_date) is not None]
    ids = [exam.study.study_id for exam in dated]
    if baseline_study_id and baseline_study_id not in ids:
        raise BadInput("the patient has no dated exam of this baseline_study_id", "no_baseline")
    course = dated[ids.index(baseline_study_id) if baseline_study_id else 0 :]
    try:
        assessed = recist.assess([_lesions(exam, dated) for exam in course])
    except ValueError as error:
        raise BadInput(f"the exams are no course: {error}", "no_course") from error
    return GetResponseResponse(exams=[_message(one) for one in assessed], limits=recist.LIMITS)


def _lesions(exam: FollowupUpdated, exams: Sequence[FollowupUpdated]) -> ExamLesions:
    acquisition = exam.exam.volume.acquisition
    known = {other.study.study_id: other for other in exams}
    hidden = {
        nodule.tracking.tracking_uid
        for prior in exam.priors
        for nodule in known[prior.study_id].nodules
        if nodule.nodule_id in prior.not_evaluable_nodule_ids
    }
    return ExamLesions(
        study_id=exam.study.study_id,
        study_date=acquisition.study_date,
        lesions=tuple(
            Lesion(
                tracking_uid=nodule.tracking.tracking_uid,
                long_axis_mm=nodule.measurement.long_axis_mm,
                short_axis_mm=nodule.measurement.short_axis_mm,
                volume_mm3=nodule.measurement.volume_mm3,
                related_uids=tuple(nodule.tracking.related_uids),
            )
            for nodule in exam.nodules
            # A granuloma that stays would bar a complete response for ever.
            if nodule.type not in BENIGN
        ),
        not_evaluated=frozenset(hidden),
        slice_thickness_mm=(
            acquisition.slice_thickness_mm if acquisition.HasField("slice_thickness_mm") else None
        ),
    )


def _message(one: ExamResponse) -> followup_pb2.ExamResponse:
    message = followup_pb2.ExamResponse(
        study_id=one.study_id,
        study_date=one.study_date,
        targets=[
            followup_pb2.LesionSize(
                tracking_uid=target.tracking_uid,
                long_axis_mm=target.long_axis_mm,
                volume_mm3=target.volume_mm3,
            )
            for target in one.targets
        ],
        sum_mm=one.sum_mm,
        smallest_sum_mm=one.smallest_sum_mm,
        new_lesions=one.new_lesions,
        recist=one.recist,
        irecist=one.irecist,
        row=one.row,
    )
    for name in ("from_baseline_percent", "from_smallest_percent", "volume_from_baseline_percent"):
        value = getattr(one, name)
        if value is not None:
            setattr(message, name, value)
    return message
