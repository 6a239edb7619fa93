"""One exam beside the patient's earlier ones: who is who, how it changed, what the rules say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lungmesh.followup import growth, matching, registration
from lungmesh.followup.growth import Size
from lungmesh.followup.guidelines import Earlier, NoduleFacts, Verdict, c_lung_rads, lung_rads
from lungmesh.followup.guidelines.rows import Guideline
from lungmesh.followup.matching import Found, Pair
from lungmesh.followup.registration import Exam, Registration
from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated, PriorExam
from lungmesh.v1.nodule_pb2 import Category, Nodule, NodulesAssessed, PriorMatch, Tracking
from lungmesh.v1.volume_pb2 import ModelVersion

RULES = ("nodule-tracking", "2")


@dataclass(frozen=True)
class Comparison:
    """The current exam beside one earlier one.

    Attributes
    ----------
    earlier
        What the tracker said of it.
    registration
        None when it was refused.
    dice
        Overlap of the lungs after the registration, also of a refused one.
    """

    earlier: FollowupUpdated
    days: float
    registration: Registration | None
    dice: float
    pairs: tuple[Pair, ...]
    resolved: tuple[str, ...]


@dataclass(frozen=True)
class Self:
    """A nodule in an earlier exam, `days` before the current one."""

    days: float
    nodule: Nodule


# A pair of a comparison, and the nodule of the earlier exam.
Match = tuple[Comparison, Pair, Nodule]


def days_between(earlier: str, later: str) -> float | None:
    """Return the days from one DICOM DA to another; None when one is missing or no date."""
    try:
        first, last = (datetime.strptime(text, "%Y%m%d") for text in (earlier, later))
    except ValueError:
        return None
    return float((last - first).days)


def compare(
    event: NodulesAssessed,
    current: Exam,
    earlier: FollowupUpdated,
    earlier_exam: Exam,
    days: float,
    registration: Registration | None,
    dice: float,
) -> Comparison:
    """Pair the nodules of two exams."""
    then = [_found(nodule) for nodule in earlier.nodules]
    now = [_found(nodule) for nodule in event.nodules]
    centers = [item.center for item in then]
    moved = matching.to_current(centers, earlier_exam, current, registration)
    pairs = matching.match(then, moved, now, registered=registration is not None)
    paired = {pair.earlier_id for pair in pairs}
    resolved = tuple(
        item.nodule_id
        for item, place in zip(then, moved, strict=True)
        if item.nodule_id not in paired and matching.inside_view(place, current)
    )
    return Comparison(earlier, days, registration, dice, tuple(pairs), resolved)


def track(
    event: NodulesAssessed,
    comparisons: Sequence[Comparison],
    history: Sequence[tuple[float, FollowupUpdated]],
    dated: bool,
) -> FollowupUpdated:
    """Return the exam with every nodule tied to its earlier selves and placed in the guidelines.

    Parameters
    ----------
    comparisons
        With earlier exams, most recent first.
    history
        All earlier exams with their age in days, most recent first: beyond the compared ones a
        nodule is known by its tracking UID.
    dated
        False when the patient has other exams that cannot be put in order, for want of a date.
    """
    updated = FollowupUpdated(
        study=event.study,
        exam=event.exam,
        priors=[_prior_message(comparison) for comparison in comparisons],
        models=[*event.models, *_models()],
    )
    verdicts: dict[str, list[Verdict]] = {"Lung-RADS": [], "C-Lung-RADS": []}
    matches = _matches(comparisons)
    for nodule in event.nodules:
        matched = matches.get(nodule.nodule_id, [])
        selves = _selves(matched, comparisons, history)
        tracking = _tracking(event, nodule, matched, selves, bool(comparisons), dated)
        facts = _facts(nodule, tracking, selves)
        tracked = updated.nodules.add()
        tracked.CopyFrom(nodule)
        tracked.tracking.CopyFrom(tracking)
        del tracked.categories[:]
        for guideline, verdict in (
            (lung_rads.LUNG_RADS, _lung_rads(facts)),
            (c_lung_rads.C_LUNG_RADS, c_lung_rads.judge(facts)),
        ):
            verdicts[guideline.name].append(verdict)
            tracked.categories.append(category_message(guideline, verdict))
    codes = frozenset(finding.code for finding in event.exam.qc_findings)
    exam = lung_rads.judge_exam(verdicts["Lung-RADS"], codes)
    updated.exam_categories.append(category_message(lung_rads.LUNG_RADS, exam))
    if verdicts["C-Lung-RADS"]:
        worst = c_lung_rads.C_LUNG_RADS.worst(verdicts["C-Lung-RADS"])
        updated.exam_categories.append(category_message(c_lung_rads.C_LUNG_RADS, worst))
    return updated


def category_message(guideline: Guideline, verdict: Verdict) -> Category:
    """Return a guideline's word as it travels."""
    message = Category(
        guideline=ModelVersion(name=guideline.name, version=guideline.edition),
        source=guideline.source,
        category=verdict.category,
        row=verdict.row,
        needs=verdict.needs,
    )
    management = guideline.management.get(verdict.category)
    if management is not None:
        message.management_en, message.management_zh = management.en, management.zh
        if management.months is not None:
            message.next_exam_months = management.months
    return message


def _models() -> list[ModelVersion]:
    rules = (registration.RULES, matching.RULES, RULES, growth.RULES)
    return [ModelVersion(name=name, version=version) for name, version in rules]


def _found(nodule: Nodule) -> Found:
    x, y, z = nodule.center_lps_mm
    return Found(nodule.nodule_id, (x, y, z), nodule.measurement.mean_diameter_mm, nodule.lobe)


def _matches(comparisons: Sequence[Comparison]) -> dict[str, list[Match]]:
    """Return the matches of each current nodule, most recent exam first.

    A tracking UID belongs to one nodule of an exam: where two older exams disagree on which, the
    more recent one is right.
    """
    owners: dict[str, str] = {}
    found: dict[str, list[Match]] = {}
    for comparison in comparisons:
        known: Mapping[str, Nodule] = {item.nodule_id: item for item in comparison.earlier.nodules}
        for pair in comparison.pairs:
            then = known[pair.earlier_id]
            if owners.setdefault(then.tracking.tracking_uid, pair.current_id) == pair.current_id:
                found.setdefault(pair.current_id, []).append((comparison, pair, then))
    return found


def _selves(
    matched: Sequence[Match],
    comparisons: Sequence[Comparison],
    history: Sequence[tuple[float, FollowupUpdated]],
) -> list[Self]:
    """Return a nodule's earlier selves, most recent first."""
    if not matched:
        return []
    compared = {comparison.earlier.study.study_id for comparison in comparisons}
    uid = matched[0][2].tracking.tracking_uid
    older = [
        Self(days, then)
        for days, exam in history
        if exam.study.study_id not in compared
        for then in exam.nodules
        if then.tracking.tracking_uid == uid
    ]
    return [*(Self(comparison.days, then) for comparison, _, then in matched), *older]


def _tracking(
    event: NodulesAssessed,
    nodule: Nodule,
    matched: Sequence[Match],
    selves: Sequence[Self],
    compared: bool,
    dated: bool,
) -> Tracking:
    if matched:
        uid = matched[0][2].tracking.tracking_uid
        part_solid = nodule.type == nodule_pb2.NODULE_TYPE_PART_SOLID
        change = growth.classify(_size(nodule, 0.0), _sizes(selves), part_solid)
    else:
        # The place names it, not the number: a new revision of the study keeps the UID.
        place = [round(value) for value in nodule.center_lps_mm]
        uid = dicom_uid("tracking", event.study.study_id, *place)
        if not dated:
            change = nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE
        elif compared:
            change = nodule_pb2.GROWTH_CLASS_NEW
        else:
            change = nodule_pb2.GROWTH_CLASS_BASELINE
    return Tracking(
        tracking_uid=uid,
        growth=change,
        priors=[_prior_match(nodule, *match) for match in matched],
    )


def _sizes(selves: Sequence[Self]) -> list[Size]:
    return [_size(earlier.nodule, earlier.days) for earlier in selves]


def _size(nodule: Nodule, days: float) -> Size:
    measured = nodule.measurement
    return Size(
        measured.mean_diameter_mm, measured.volume_mm3, measured.solid_mean_diameter_mm, days
    )


def _prior_match(nodule: Nodule, comparison: Comparison, pair: Pair, then: Nodule) -> PriorMatch:
    now, before = nodule.measurement, then.measurement
    return PriorMatch(
        study_id=comparison.earlier.study.study_id,
        nodule_id=then.nodule_id,
        study_date=comparison.earlier.exam.volume.acquisition.study_date,
        interval_days=comparison.days,
        mean_diameter_mm=before.mean_diameter_mm,
        volume_mm3=before.volume_mm3,
        diameter_change_mm=now.mean_diameter_mm - before.mean_diameter_mm,
        volume_change_percent=growth.volume_change_percent(before.volume_mm3, now.volume_mm3),
        volume_doubling_time_days=growth.volume_doubling_time_days(
            before.volume_mm3, now.volume_mm3, comparison.days
        ),
        distance_mm=pair.distance_mm,
    )


def _facts(nodule: Nodule, tracking: Tracking, selves: Sequence[Self]) -> NoduleFacts:
    return NoduleFacts(
        type=nodule.type,
        mean_diameter_mm=nodule.measurement.mean_diameter_mm,
        solid_mean_diameter_mm=nodule.measurement.solid_mean_diameter_mm,
        growth=tracking.growth,
        signs=frozenset(sign.name for sign in nodule.assessment.signs if sign.present),
        earlier=_earlier(selves),
        doubled_in_a_year=growth.doubled_within_a_year(_size(nodule, 0.0), _sizes(selves)),
    )


def _earlier(selves: Sequence[Self]) -> Earlier | None:
    if not selves:
        return None
    category = _lung_rads_of(selves[0].nodule)
    days = 0.0
    for earlier in selves:
        if _lung_rads_of(earlier.nodule) != category:
            break
        days = earlier.days
    then = selves[0].nodule
    return Earlier(
        type=then.type,
        mean_diameter_mm=then.measurement.mean_diameter_mm,
        solid_mean_diameter_mm=then.measurement.solid_mean_diameter_mm,
        category=category,
        days_in_category=days,
    )


def _lung_rads(facts: NoduleFacts) -> Verdict:
    """Return the category; where earlier exams could not be put in order, it needs one."""
    verdict = lung_rads.judge(facts)
    if facts.growth != nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE:
        return verdict
    return replace(verdict, needs=(*verdict.needs, "prior_ct"))


def _lung_rads_of(nodule: Nodule) -> str:
    for category in nodule.categories:
        if category.guideline.name == lung_rads.LUNG_RADS.name:
            return category.category
    return ""


def _prior_message(comparison: Comparison) -> PriorExam:
    return PriorExam(
        study_id=comparison.earlier.study.study_id,
        study_date=comparison.earlier.exam.volume.acquisition.study_date,
        interval_days=comparison.days,
        registration_dice=comparison.dice,
        registered=comparison.registration is not None,
        resolved_nodule_ids=comparison.resolved,
    )
