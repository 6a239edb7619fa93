"""Read what follow-up says of time: earlier selves, changes, people's words, the next exam.

Rounded as `facts` does; days to 1, changes in percent and mm to 0.1, probabilities to 0.001.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.mesh.contract import name_of
from lungmesh.report.content import (
    Correction,
    Model,
    NextExam,
    PastSize,
    PriorExam,
    PriorMatch,
    Review,
)
from lungmesh.report.rounding import optional, rounded
from lungmesh.v1 import followup_pb2, nodule_pb2

NODULE_TYPES = {
    nodule_pb2.NODULE_TYPE_SOLID: "solid",
    nodule_pb2.NODULE_TYPE_PART_SOLID: "part_solid",
    nodule_pb2.NODULE_TYPE_NON_SOLID: "non_solid",
    nodule_pb2.NODULE_TYPE_CALCIFIED: "calcified",
    nodule_pb2.NODULE_TYPE_FAT_CONTAINING: "fat_containing",
    nodule_pb2.NODULE_TYPE_AIRWAY: "airway",
    nodule_pb2.NODULE_TYPE_ATYPICAL_CYST: "atypical_cyst",
}
_METHODS = {
    followup_pb2.REGISTRATION_METHOD_AFFINE: "affine",
    followup_pb2.REGISTRATION_METHOD_DEFORMABLE: "deformable",
    followup_pb2.REGISTRATION_METHOD_LOBES: "lobes",
}
_OUTCOMES = {
    nodule_pb2.MATCH_OUTCOME_FIRST_EXAM: "first_exam",
    nodule_pb2.MATCH_OUTCOME_SAME: "same",
    nodule_pb2.MATCH_OUTCOME_NEW: "new",
    nodule_pb2.MATCH_OUTCOME_SPLIT: "split",
    nodule_pb2.MATCH_OUTCOME_MERGED: "merged",
    nodule_pb2.MATCH_OUTCOME_NOT_EVALUABLE: "not_evaluable",
}
_STATES = {
    nodule_pb2.REVIEW_STATUS_CONFIRMED: "confirmed",
    nodule_pb2.REVIEW_STATUS_REJECTED: "rejected",
}
_WITHDRAW = followup_pb2.CORRECTION_KIND_WITHDRAW


def prior_exam(prior: followup_pb2.PriorExam) -> PriorExam:
    """Read an earlier exam."""
    return PriorExam(
        ids={
            "study_id": prior.study_id,
            "resolved": list(prior.resolved_nodule_ids),
            "not_evaluable": list(prior.not_evaluable_nodule_ids),
            "still_shown": list(prior.still_shown_nodule_ids),
        },
        study_date=prior.study_date,
        interval_days=round(prior.interval_days),
        registered=prior.registered,
        registration_dice=rounded(prior.registration_dice, 3),
        method=_METHODS.get(prior.method, ""),
        inverse_error_mm=rounded(prior.inverse_error_mm, 1),
        resolved_count=len(prior.resolved_nodule_ids),
        still_shown_count=len(prior.still_shown_nodule_ids),
        not_evaluable_count=len(prior.not_evaluable_nodule_ids),
        warnings=tuple(prior.warnings),
    )


def prior_match(prior: nodule_pb2.PriorMatch) -> PriorMatch:
    """Read the same nodule in an earlier exam."""
    # An unset error of measurement stands for results of an older follow-up, which knew none.
    error = rounded(prior.volume_error_percent, 1) or None
    weighed = prior.mass_mg > 0
    return PriorMatch(
        ids={"study_id": prior.study_id, "nodule_id": prior.nodule_id},
        study_date=prior.study_date,
        interval_days=round(prior.interval_days),
        mean_diameter_mm=rounded(prior.mean_diameter_mm, 1),
        volume_mm3=round(prior.volume_mm3),
        solid_mean_diameter_mm=rounded(prior.solid_mean_diameter_mm, 1),
        mass_mg=round(prior.mass_mg) if weighed else None,
        diameter_change_mm=rounded(prior.diameter_change_mm, 1),
        solid_diameter_change_mm=rounded(prior.solid_diameter_change_mm, 1),
        volume_change_percent=rounded(prior.volume_change_percent, 1),
        mass_change_percent=rounded(prior.mass_change_percent, 1) if weighed else None,
        volume_doubling_time_days=_days(prior, "volume_doubling_time_days"),
        volume_doubling_time_low_days=_days(prior, "volume_doubling_time_low_days"),
        volume_doubling_time_high_days=_days(prior, "volume_doubling_time_high_days"),
        mass_doubling_time_days=_days(prior, "mass_doubling_time_days"),
        volume_error_percent=error,
        growth_probability=None if error is None else rounded(prior.growth_probability, 3),
        warnings=tuple(prior.warnings),
    )


def earlier_selves(nodule: nodule_pb2.Nodule) -> tuple[PastSize, ...]:
    """Read every earlier self, most recent first."""
    return tuple(
        PastSize(
            ids={"study_id": past.study_id, "nodule_id": past.nodule_id},
            study_date=past.study_date,
            interval_days=round(past.interval_days),
            type=NODULE_TYPES.get(past.type, NODULE_TYPES[nodule.type]),
            mean_diameter_mm=rounded(past.mean_diameter_mm, 1),
            volume_mm3=round(past.volume_mm3),
            mass_mg=round(past.mass_mg),
            solid_mean_diameter_mm=rounded(past.solid_mean_diameter_mm, 1),
        )
        for past in nodule.tracking.history
    )


def outcome_of(tracking: nodule_pb2.Tracking) -> str:
    """Return what the nodule is to the earlier exams' nodules; empty where not told."""
    return _OUTCOMES.get(tracking.outcome, "")


def next_exam(event: followup_pb2.FollowupUpdated) -> NextExam | None:
    """Return what the programme's guideline asks for next; None where no programme is told."""
    if not event.HasField("next"):
        return None
    coming = event.next
    return NextExam(
        guideline=Model(coming.guideline.name, coming.guideline.version),
        category=coming.category,
        due_date=coming.due_date,
        work_up=coming.work_up,
    )


class Corrections:
    """What people said of an exam's nodules."""

    def __init__(self, event: followup_pb2.FollowupUpdated) -> None:
        nodules = [*event.nodules, *event.rejected]
        self._numbers = {nodule.nodule_id: nodule.number for nodule in nodules}
        # A new revision gives a nodule a new id: what shaped it is named by the nodule itself.
        self._shaped = {
            correction_id: nodule.number
            for nodule in nodules
            for correction_id in nodule.review.correction_ids
        }
        self._said = {correction.correction_id: correction for correction in event.corrections}
        self._withdrawn = _withdrawn(self._said)

    def told(self) -> tuple[Correction, ...]:
        """Return every correction in order of time, withdrawn ones too; withdrawals are not told.

        A withdrawal is told by what it took back.
        """
        return tuple(
            Correction(
                ids={"correction_id": said.correction_id},
                kind=_kind(said),
                number=self._shaped.get(
                    said.correction_id, self._numbers.get(said.nodule.nodule_id)
                ),
                author=said.author,
                at=_time(said.at),
                withdrawn=said.correction_id in self._withdrawn,
            )
            for said in self._said.values()
            if said.kind != _WITHDRAW
        )

    def review_of(self, nodule: nodule_pb2.Nodule) -> Review | None:
        """Return what people changed of a nodule; None where nobody spoke."""
        if not nodule.HasField("review"):
            return None
        kinds = [
            _kind(self._said[name]) for name in nodule.review.correction_ids if name in self._said
        ]
        return Review(
            status=_STATES.get(nodule.review.status, ""),
            kinds=tuple(dict.fromkeys(kinds)),
            measured_by_hand=tuple(nodule.review.measured_by_hand),
        )


def _withdrawn(said: dict[str, followup_pb2.Correction]) -> set[str]:
    """Return the ids that no longer count; the last withdrawal counts, so it goes first."""
    gone: set[str] = set()
    for correction in reversed(said.values()):
        if correction.kind == _WITHDRAW and correction.correction_id not in gone:
            gone.add(correction.withdraws)
    return gone


def _kind(correction: followup_pb2.Correction) -> str:
    return name_of(followup_pb2.CorrectionKind.DESCRIPTOR, correction.kind)


def _time(at: Timestamp) -> str:
    """Return a moment as YYYY-MM-DD HH:MM UTC."""
    return at.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")


def _days(prior: nodule_pb2.PriorMatch, field: str) -> int | None:
    days = optional(prior, field, 0)
    return None if days is None else int(days)
