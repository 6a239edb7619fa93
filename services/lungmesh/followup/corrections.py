"""What people said of a patient's nodules: which of it counts, and what it changes.

Nothing here is ever taken away: a withdrawn correction stays in the record and no longer counts.
Order is that of the authors' times, then of the ids, so it does not depend on arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.followup_pb2 import Correction, HandMeasurement, NoduleRef
from lungmesh.v1.nodule_pb2 import Measurement, Nodule, NodulesAssessed, Review

# A nodule of a new revision is the one that was spoken of when its centre lies as near as this, mm,
# or inside the nodule. Two nodules of one exam lie farther apart.
_SAME_PLACE_MM = 5.0
_BONDS = (followup_pb2.CORRECTION_KIND_LINK, followup_pb2.CORRECTION_KIND_UNLINK)
_STATUS = {
    followup_pb2.CORRECTION_KIND_CONFIRM: nodule_pb2.REVIEW_STATUS_CONFIRMED,
    followup_pb2.CORRECTION_KIND_REJECT: nodule_pb2.REVIEW_STATUS_REJECTED,
}
_WITHDRAW = followup_pb2.CORRECTION_KIND_WITHDRAW


@dataclass(frozen=True)
class Bond:
    """A person's word that nodules of two exams are the same, or are not."""

    one: NoduleRef
    other: NoduleRef
    same: bool


def check(correction: Correction) -> None:
    """Refuse a correction that says nothing.

    Raises BadInput that names what its kind asks for.
    """
    kind, name = correction.kind, followup_pb2.CorrectionKind.Name(correction.kind)
    measured = correction.measurement
    if kind == followup_pb2.CORRECTION_KIND_REMEASURE and not measured.ListFields():
        raise BadInput("a re-measurement gives at least one size", "empty_measurement")
    if (
        measured.HasField("long_axis_mm")
        and measured.HasField("short_axis_mm")
        and measured.short_axis_mm > measured.long_axis_mm
    ):
        raise BadInput("the short axis is longer than the long one", "axes_exchanged")
    if kind == followup_pb2.CORRECTION_KIND_RETYPE and not correction.type:
        raise BadInput("a new type is missing", "no_type")
    if kind in _BONDS:
        if not correction.HasField("other"):
            raise BadInput(f"{name} names the nodule of the earlier exam in `other`", "no_other")
        if correction.other.study_id == correction.nodule.study_id:
            raise BadInput("both nodules are of one exam", "one_exam")
    if kind == _WITHDRAW and not correction.withdraws:
        raise BadInput("a withdrawal names the correction that no longer counts", "no_withdraws")


def without_effect(
    correction: Correction, exams: Sequence[NodulesAssessed], known: Iterable[Correction]
) -> str:
    """Return why a correction would change nothing; empty when it does.

    On the bus a correction may come before its exam, so there it is kept and waits.
    """
    by_id = {exam.study.study_id: exam for exam in exams}
    exam = by_id.get(correction.nodule.study_id)
    if exam is None:
        return "the patient has no exam of nodule.study_id"
    if correction.kind == _WITHDRAW:
        names = {_name(one) for one in known if one.correction_id != correction.correction_id}
        wanted = (correction.nodule.study_id, correction.withdraws)
        return "" if wanted in names else "this exam has no correction of the id in withdraws"
    if find(correction.nodule, exam.nodules) is None:
        return "the exam has no nodule of nodule.nodule_id, nor one at its place"
    if correction.kind not in _BONDS:
        return ""
    other = by_id.get(correction.other.study_id)
    if other is None or find(correction.other, other.nodules) is None:
        return "the patient has no such nodule as `other`"
    dates = {one.exam.volume.acquisition.study_date for one in (exam, other)}
    return "" if len(dates) == 2 and "" not in dates else "the two exams are not of different days"


def in_order(corrections: Iterable[Correction]) -> list[Correction]:
    """Return them in order of time, then of id."""
    return sorted(corrections, key=_moment)


def in_force(corrections: Sequence[Correction]) -> list[Correction]:
    """Return those that count, in order of time: no withdrawals, and nothing withdrawn.

    A withdrawal speaks of its own exam, and can itself be withdrawn by a later one.
    """
    withdrawn: set[tuple[str, str]] = set()
    left = in_order(corrections)
    # The latest withdrawal cannot be withdrawn; from there on backwards each is decided.
    for correction in reversed(left):
        if correction.kind == _WITHDRAW and _name(correction) not in withdrawn:
            withdrawn.add((correction.nodule.study_id, correction.withdraws))
    return [c for c in left if c.kind != _WITHDRAW and _name(c) not in withdrawn]


def find(reference: NoduleRef, nodules: Sequence[Nodule]) -> Nodule | None:
    """Return the nodule of its exam that is meant: by id, else the nearest at its place."""
    for nodule in nodules:
        if nodule.nodule_id == reference.nodule_id:
            return nodule
    center = np.asarray(reference.center_lps_mm)
    near = [
        (distance, nodule.nodule_id, nodule)
        for nodule in nodules
        if (distance := float(np.linalg.norm(center - np.asarray(nodule.center_lps_mm))))
        <= max(_SAME_PLACE_MM, nodule.measurement.mean_diameter_mm / 2)
    ]
    return min(near, key=lambda item: item[:2])[2] if near else None


def reviewed(nodule: Nodule, said: Sequence[Correction]) -> Nodule:
    """Return a nodule as people left it; a copy where anybody spoke.

    Parameters
    ----------
    said
        What counts and was said of this nodule, in order of time; of two that contradict each
        other the later one wins.
    """
    if not said:
        return nodule
    changed = Nodule()
    changed.CopyFrom(nodule)
    review, by_hand = Review(), HandMeasurement()
    for correction in said:
        review.correction_ids.append(correction.correction_id)
        if correction.kind in _STATUS:
            review.status = _STATUS[correction.kind]
        elif correction.kind == followup_pb2.CORRECTION_KIND_RETYPE:
            changed.type = correction.type
        elif correction.kind == followup_pb2.CORRECTION_KIND_REMEASURE:
            by_hand.MergeFrom(correction.measurement)
    if by_hand.ListFields():
        review.measured_by_hand.extend(field.name for field, _ in by_hand.ListFields())
        _measure(changed.measurement, by_hand)
    changed.review.CopyFrom(review)
    return changed


def bonds(corrections: Sequence[Correction]) -> list[Bond]:
    """Return what counts of the links and unlinks, the latest word first."""
    return [
        Bond(c.nodule, c.other, c.kind == followup_pb2.CORRECTION_KIND_LINK)
        for c in reversed(corrections)
        if c.kind in _BONDS
    ]


def _name(correction: Correction) -> tuple[str, str]:
    return correction.nodule.study_id, correction.correction_id


def _moment(correction: Correction) -> tuple[int, int, str]:
    return correction.at.seconds, correction.at.nanos, correction.correction_id


def _measure(measured: Measurement, by_hand: HandMeasurement) -> None:
    """Put in what a person measured, and what follows from it."""
    axes = by_hand.HasField("long_axis_mm"), by_hand.HasField("short_axis_mm")
    if any(axes):
        long = by_hand.long_axis_mm if axes[0] else measured.long_axis_mm
        short = by_hand.short_axis_mm if axes[1] else measured.short_axis_mm
        if short > long:
            # The axis that nobody measured gives way to the one that a person did.
            long = short = long if axes[0] else short
        measured.long_axis_mm, measured.short_axis_mm = long, short
        measured.mean_diameter_mm = (long + short) / 2
        # The lines on the image are those of the mesh's own axes.
        del measured.long_axis_lps_mm[:], measured.short_axis_lps_mm[:]
        if measured.solid_long_axis_mm:
            measured.consolidation_to_tumour_ratio = min(1.0, measured.solid_long_axis_mm / long)
    if by_hand.HasField("volume_mm3"):
        measured.volume_mm3 = by_hand.volume_mm3
        measured.mass_mg = max(0.0, by_hand.volume_mm3 * (measured.mean_hu + 1000) / 1000)
    if by_hand.HasField("solid_mean_diameter_mm"):
        measured.solid_mean_diameter_mm = by_hand.solid_mean_diameter_mm
    # A solid part is no larger than its nodule.
    measured.solid_mean_diameter_mm = min(
        measured.solid_mean_diameter_mm, measured.mean_diameter_mm
    )
    measured.solid_volume_mm3 = min(measured.solid_volume_mm3, measured.volume_mm3)
