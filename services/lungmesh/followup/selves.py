"""A nodule beside its earlier selves: sizes, changes, growth, as they travel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lungmesh.followup import growth
from lungmesh.followup.growth import Change
from lungmesh.followup.laying import Laying, Place
from lungmesh.followup.measurement_error import Measured
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import GrowthClass, MatchOutcome, Nodule, PastSize, PriorMatch
from lungmesh.v1.volume_pb2 import VolumeReady

_FIRST_SEEN: Mapping[int, GrowthClass.ValueType] = {
    nodule_pb2.MATCH_OUTCOME_FIRST_EXAM: nodule_pb2.GROWTH_CLASS_BASELINE,
    nodule_pb2.MATCH_OUTCOME_NEW: nodule_pb2.GROWTH_CLASS_NEW,
}
_NOT_LARGER = (nodule_pb2.GROWTH_CLASS_STABLE, nodule_pb2.GROWTH_CLASS_SHRINKING)
# Fields of PriorMatch that a change may leave unknown.
_MAY_BE_UNKNOWN = (
    "volume_doubling_time_days",
    "mass_change_percent",
    "mass_doubling_time_days",
    "volume_doubling_time_low_days",
    "volume_doubling_time_high_days",
)


@dataclass(frozen=True)
class Past:
    """An earlier exam of the patient, as the tracker left it.

    Attributes
    ----------
    days
        From it to the current exam.
    laying
        How it lies over the current exam; None when the two are not compared: it is too old, or its
        pixels are gone. A nodule is then known by its tracking UID alone.
    """

    days: float
    exam: FollowupUpdated
    laying: Laying | None


@dataclass(frozen=True)
class Self:
    """A nodule in an earlier exam, and how it changed since."""

    past: Past
    nodule: Nodule
    size: Measured
    change: Change

    @property
    def study_id(self) -> str:
        """The earlier exam's."""
        return self.past.exam.study.study_id


def measured(exam: VolumeReady, nodule: Nodule) -> Measured:
    """Return a nodule's sizes with what their error depends on."""
    size, acquisition = nodule.measurement, exam.volume.acquisition
    spacing = exam.volume.geometry.spacing_mm
    known = {"spacing_mm": (spacing[0], spacing[1], spacing[2])} if len(spacing) == 3 else {}
    thickness = acquisition.slice_thickness_mm
    return Measured(
        mean_diameter_mm=size.mean_diameter_mm,
        volume_mm3=size.volume_mm3,
        mass_mg=size.mass_mg,
        solid_mean_diameter_mm=size.solid_mean_diameter_mm,
        solid_volume_mm3=size.solid_volume_mm3,
        type=nodule.type,
        slice_thickness_mm=thickness if acquisition.HasField("slice_thickness_mm") else None,
        signs=frozenset(sign.name for sign in nodule.assessment.signs if sign.present),
        **known,
    )


def selves_of(now: Measured, uid: str, pasts: Sequence[Past]) -> list[Self]:
    """Return the nodules of earlier exams that bear a tracking UID, most recent first."""
    selves = []
    for past in pasts:
        warnings = past.laying.warnings if past.laying is not None else ()
        for nodule in past.exam.nodules:
            if nodule.tracking.tracking_uid == uid:
                size = measured(past.exam.exam, nodule)
                change = growth.change(size, now, past.days, warnings)
                selves.append(Self(past, nodule, size, change))
    return selves


def growth_of(
    now: Measured, earlier: Sequence[tuple[float, Measured]], outcome: MatchOutcome.ValueType
) -> GrowthClass.ValueType:
    """Return how a nodule changed; without an earlier self, why it has none."""
    if not earlier:
        return _FIRST_SEEN.get(outcome, nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE)
    grown = growth.classify(now, earlier)
    if outcome == nodule_pb2.MATCH_OUTCOME_SPLIT and grown in _NOT_LARGER:
        # A piece is smaller than the whole was; that says nothing of how the whole fared.
        return nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE
    return grown


def prior_match(nodule: Nodule, one: Self, places: Mapping[str, Place]) -> PriorMatch:
    """Return a nodule against an earlier self; `places` are the earlier nodules' in this exam."""
    change, before = one.change, one.nodule.measurement
    match = PriorMatch(
        study_id=one.study_id,
        nodule_id=one.nodule.nodule_id,
        study_date=one.past.exam.exam.volume.acquisition.study_date,
        interval_days=one.past.days,
        mean_diameter_mm=before.mean_diameter_mm,
        volume_mm3=before.volume_mm3,
        diameter_change_mm=change.diameter_change_mm,
        volume_change_percent=change.volume_change_percent,
        distance_mm=round(math.dist(places[one.nodule.nodule_id], nodule.center_lps_mm), 2),
        mass_mg=before.mass_mg,
        solid_mean_diameter_mm=before.solid_mean_diameter_mm,
        solid_diameter_change_mm=change.solid_diameter_change_mm,
        volume_error_percent=change.volume_error_percent,
        growth_probability=change.growth_probability,
        warnings=change.warnings,
    )
    for name in _MAY_BE_UNKNOWN:
        value = getattr(change, name)
        if value is not None:
            setattr(match, name, value)
    return match


def past_size(one: Self) -> PastSize:
    """Return what an earlier self measured."""
    size = one.nodule.measurement
    return PastSize(
        study_id=one.study_id,
        nodule_id=one.nodule.nodule_id,
        study_date=one.past.exam.exam.volume.acquisition.study_date,
        interval_days=one.past.days,
        mean_diameter_mm=size.mean_diameter_mm,
        volume_mm3=size.volume_mm3,
        mass_mg=size.mass_mg,
        solid_mean_diameter_mm=size.solid_mean_diameter_mm,
        type=one.nodule.type,
    )
