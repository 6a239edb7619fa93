"""A FollowupUpdated with a past: earlier exams, tracked nodules, people's corrections."""

from __future__ import annotations

import math
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import followup_pb2, nodule_pb2
from tests.support.report import LUNG_RADS, Case, followup, nodule_at

# Earlier exams: study date, days before 2000-01-01.
EARLIER = (("19990101", 365), ("19980601", 579), ("19970301", 1036))
_TYPES = (
    nodule_pb2.NODULE_TYPE_SOLID,
    nodule_pb2.NODULE_TYPE_PART_SOLID,
    nodule_pb2.NODULE_TYPE_NON_SOLID,
)
# How many times larger each nodule is now than in the most recent earlier exam.
_RATIOS = (1.9, 1.02, 0.6, 1.3, 5.0)


def followed(case: Case, exams: int = 2, nodules: int = 3) -> followup_pb2.FollowupUpdated:
    """Return an exam with `exams - 1` earlier ones, and nodules that all of them show."""
    event = followup(case, 2, prior=False)
    del event.nodules[:]
    for number in range(1, nodules + 1):
        column, line = (number - 1) % 6, (number - 1) // 6
        center = (-80.0 + 30 * column, 0.0 + 30 * line, -120.0 + 12 * (number % 7))
        nodule = nodule_at(case, number, center, 4.0 + number % 5)
        nodule.type = _TYPES[number % 3]
        nodule.lobe = nodule_pb2.Lobe.values()[1 + number % 5]
        _track(nodule, EARLIER[: exams - 1], _RATIOS[number % 5])
        event.nodules.append(nodule)
    event.priors.extend(_priors(EARLIER[: exams - 1]))
    event.edition = 1
    event.next.CopyFrom(followup_pb2.NextExam(guideline=LUNG_RADS, category="4B", work_up=True))
    for category in (*event.exam_categories, *(n.categories[0] for n in event.nodules)):
        _explain(category)
    return event


def correction(
    kind: followup_pb2.CorrectionKind.ValueType, nodule: nodule_pb2.Nodule, minute: int
) -> followup_pb2.Correction:
    """Return a radiologist's word on a nodule, at 10:`minute` of 2000-01-02 UTC."""
    at = Timestamp()
    at.FromJsonString(f"2000-01-02T10:{minute:02d}:00Z")
    return followup_pb2.Correction(
        correction_id=deterministic_id("correction", kind, nodule.nodule_id, minute),
        author="dr-7",
        at=at,
        kind=kind,
        nodule=followup_pb2.NoduleRef(
            study_id=deterministic_id("study"),
            nodule_id=nodule.nodule_id,
            center_lps_mm=nodule.center_lps_mm,
        ),
    )


def corrected(case: Case) -> followup_pb2.FollowupUpdated:
    """Return a second edition: one nodule confirmed and measured by hand, one rejected.

    A third has split off; a change of type was withdrawn.
    """
    event = followed(case, 3, 4)
    first, third, last = event.nodules[0], event.nodules[2], event.nodules[3]
    confirm = correction(followup_pb2.CORRECTION_KIND_CONFIRM, first, 1)
    measure = correction(followup_pb2.CORRECTION_KIND_REMEASURE, first, 2)
    retype = correction(followup_pb2.CORRECTION_KIND_RETYPE, first, 3)
    withdraw = correction(followup_pb2.CORRECTION_KIND_WITHDRAW, first, 4)
    withdraw.withdraws = retype.correction_id
    reject = correction(followup_pb2.CORRECTION_KIND_REJECT, last, 5)
    event.corrections.extend([confirm, measure, retype, withdraw, reject])
    first.review.status = nodule_pb2.REVIEW_STATUS_CONFIRMED
    first.review.correction_ids.extend([confirm.correction_id, measure.correction_id])
    first.review.measured_by_hand.extend(["long_axis_mm", "volume_mm3"])
    last.review.status = nodule_pb2.REVIEW_STATUS_REJECTED
    last.review.correction_ids.append(reject.correction_id)
    event.rejected.append(last)
    del event.nodules[3]
    third.tracking.outcome = nodule_pb2.MATCH_OUTCOME_SPLIT
    third.tracking.related_uids.append(event.nodules[1].tracking.tracking_uid)
    event.edition = 2
    return event


def _track(nodule: nodule_pb2.Nodule, earlier: Sequence[tuple[str, int]], ratio: float) -> None:
    tracking, m = nodule.tracking, nodule.measurement
    tracking.outcome = nodule_pb2.MATCH_OUTCOME_SAME
    tracking.growth = (
        nodule_pb2.GROWTH_CLASS_GROWING if ratio > 1.5 else nodule_pb2.GROWTH_CLASS_STABLE
    )
    per_day = math.log(ratio) / EARLIER[0][1]
    for place, (study_date, days) in enumerate(earlier):
        smaller = math.exp(-per_day * days)
        then = m.volume_mm3 * smaller
        diameter = m.mean_diameter_mm * smaller ** (1 / 3)
        past = nodule_pb2.PastSize(
            study_id=deterministic_id("earlier exam", study_date),
            nodule_id=deterministic_id("earlier", study_date, nodule.number),
            study_date=study_date,
            interval_days=days,
            mean_diameter_mm=diameter,
            volume_mm3=then,
            mass_mg=m.mass_mg * smaller,
            solid_mean_diameter_mm=diameter / 2,
            type=nodule.type,
        )
        tracking.history.append(past)
        # Follow-up compares the two most recent exams only.
        if place < 2:
            tracking.priors.append(_match(past, nodule, per_day))


def _match(
    past: nodule_pb2.PastSize, nodule: nodule_pb2.Nodule, per_day: float
) -> nodule_pb2.PriorMatch:
    m, doubling = nodule.measurement, math.log(2) / per_day
    change = 100 * (m.volume_mm3 / past.volume_mm3 - 1)
    match = nodule_pb2.PriorMatch(
        study_id=past.study_id,
        nodule_id=past.nodule_id,
        study_date=past.study_date,
        interval_days=past.interval_days,
        mean_diameter_mm=past.mean_diameter_mm,
        volume_mm3=past.volume_mm3,
        diameter_change_mm=m.mean_diameter_mm - past.mean_diameter_mm,
        volume_change_percent=change,
        volume_doubling_time_days=doubling,
        distance_mm=1.4,
        mass_mg=past.mass_mg,
        mass_change_percent=change,
        mass_doubling_time_days=doubling,
        solid_mean_diameter_mm=past.solid_mean_diameter_mm,
        solid_diameter_change_mm=m.solid_mean_diameter_mm - past.solid_mean_diameter_mm,
        volume_error_percent=28.4,
        growth_probability=0.57 if abs(change) <= 30 else 0.9996 if change > 0 else 0.0004,
        warnings=["kernel", "slice_thickness"] if past.study_date == "19980601" else [],
    )
    faster = 0.6 * doubling
    if abs(change) > 30:
        low, high = sorted((faster, 2.1 * doubling))
        match.volume_doubling_time_low_days, match.volume_doubling_time_high_days = low, high
    else:
        match.volume_doubling_time_low_days = faster
    return match


def _priors(earlier: Sequence[tuple[str, int]]) -> list[followup_pb2.PriorExam]:
    methods = (
        followup_pb2.REGISTRATION_METHOD_DEFORMABLE,
        followup_pb2.REGISTRATION_METHOD_LOBES,
        followup_pb2.REGISTRATION_METHOD_AFFINE,
    )
    return [
        followup_pb2.PriorExam(
            study_id=deterministic_id("earlier exam", study_date),
            study_date=study_date,
            interval_days=days,
            registration_dice=0.96 if place != 1 else 0.4,
            registered=place != 1,
            method=methods[place],
            inverse_error_mm=0.8 if place != 1 else 0.0,
            resolved_nodule_ids=[deterministic_id("gone")] if not place else [],
            not_evaluable_nodule_ids=[deterministic_id("outside")] if place == 1 else [],
            warnings=["kernel", "slice_thickness"] if place == 1 else [],
        )
        for place, (study_date, days) in enumerate(earlier)
    ]


def _explain(category: nodule_pb2.Category) -> None:
    category.facts.extend(
        [
            nodule_pb2.Fact(name="type", value="solid"),
            nodule_pb2.Fact(name="mean_diameter_mm", value="16.2", unit="mm"),
        ]
    )
    category.alternatives.append(
        nodule_pb2.Alternative(
            category="4A",
            row="solid 8 to < 15 mm",
            change=nodule_pb2.Fact(name="mean_diameter_mm", value="14.9", unit="mm"),
        )
    )
