"""One exam beside the patient's earlier ones: who is who, and how it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from lungmesh.followup import growth, matching
from lungmesh.followup.corrections import Bond, find
from lungmesh.followup.laying import Laying
from lungmesh.followup.matching import Found, Link, Matches
from lungmesh.followup.selves import (
    Past,
    Self,
    growth_of,
    measured,
    past_size,
    prior_match,
    selves_of,
)
from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated, PriorExam
from lungmesh.v1.nodule_pb2 import MatchOutcome, Nodule, Tracking
from lungmesh.v1.volume_pb2 import VolumeReady

RULES = ("nodule-tracking", "4")


@dataclass(frozen=True)
class Tracked:
    """A nodule tied to its earlier selves, most recent first."""

    nodule: Nodule
    tracking: Tracking
    selves: tuple[Self, ...] = ()
    doubled_in_a_year: bool = False


@dataclass(frozen=True)
class Current:
    """The exam that is tracked: its nodules as people left them, without the rejected ones.

    Attributes
    ----------
    first
        No other exam of the patient is known to be earlier.
    dated
        False when the patient has other exams that cannot be put in order, for want of a date.
    """

    study_id: str
    exam: VolumeReady
    nodules: Sequence[Nodule]
    first: bool
    dated: bool


@dataclass
class _Identity:
    """Who a current nodule is.

    Attributes
    ----------
    related
        Tracking UIDs of what it split off from or what merged into it.
    """

    uid: str = ""
    outcome: MatchOutcome.ValueType = nodule_pb2.MATCH_OUTCOME_UNSPECIFIED
    related: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Compared:
    past: Past
    laying: Laying
    matches: Matches

    @property
    def uids(self) -> dict[str, str]:
        """Tracking UIDs of the earlier exam, by nodule id."""
        return _uids(self.past.exam)

    @property
    def partners(self) -> dict[str, str]:
        """Tracking UIDs of the current nodules' partners, by nodule id."""
        return {pair.current_id: self.uids[pair.earlier_id] for pair in self.matches.pairs}


def track(
    current: Current, pasts: Sequence[Past], bonds: Sequence[Bond]
) -> tuple[list[Tracked], list[PriorExam]]:
    """Tie each nodule of an exam to its earlier selves.

    Parameters
    ----------
    pasts
        All earlier exams, most recent first.
    bonds
        What people said is the same, or is not, latest word first; those of other exams are passed
        over.

    Returns the nodules in their order, and a line for each exam that was compared.
    """
    linked, parted = _words(current, pasts, bonds)
    compared = [
        _Compared(past, past.laying, _match(current, past, past.laying, linked, parted))
        for past in pasts
        if past.laying is not None
    ]
    identities = _identities(current, compared, linked, parted)
    tracked = [
        _tracked(current, nodule, identities[nodule.nodule_id], pasts, compared)
        for nodule in current.nodules
    ]
    present = {item.tracking.tracking_uid for item in tracked}
    return tracked, [_prior_exam(one, present) for one in compared]


def _words(
    current: Current, pasts: Sequence[Past], bonds: Sequence[Bond]
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return what people said of the current nodules: the UID each has, and those it has not.

    A nodule has one identity, and an identity one nodule: of words that contradict each other the
    latest counts.
    """
    earlier = {past.exam.study.study_id: past.exam for past in pasts}
    linked: dict[str, str] = {}
    parted: dict[str, set[str]] = {nodule.nodule_id: set() for nodule in current.nodules}
    for bond in bonds:
        for here, there in ((bond.one, bond.other), (bond.other, bond.one)):
            if here.study_id != current.study_id or there.study_id not in earlier:
                continue
            now = find(here, current.nodules)
            then = find(there, earlier[there.study_id].nodules)
            if now is None or then is None:
                continue
            uid, name = then.tracking.tracking_uid, now.nodule_id
            if linked.get(name) == uid or uid in parted[name]:
                continue
            if not bond.same:
                parted[name].add(uid)
            elif name not in linked and uid not in linked.values():
                linked[name] = uid
    return linked, parted


def _match(
    current: Current,
    past: Past,
    laying: Laying,
    linked: Mapping[str, str],
    parted: Mapping[str, set[str]],
) -> Matches:
    forced: list[Link] = []
    forbidden: list[Link] = []
    for then, uid in _uids(past.exam).items():
        for nodule in current.nodules:
            now = nodule.nodule_id
            if linked.get(now) == uid:
                forced.append((then, now))
            elif now in linked or uid in parted[now] or uid in linked.values():
                forbidden.append((then, now))
    return matching.match(
        [_found(nodule) for nodule in past.exam.nodules],
        [_found(nodule) for nodule in current.nodules],
        laying,
        forced,
        forbidden,
    )


def _identities(
    current: Current,
    compared: Sequence[_Compared],
    linked: Mapping[str, str],
    parted: Mapping[str, set[str]],
) -> dict[str, _Identity]:
    """Return who each nodule is.

    An identity belongs to one nodule of an exam: where two earlier exams disagree on which, the
    more recent one is right.
    """
    found = {
        nodule.nodule_id: _Identity(linked.get(nodule.nodule_id, "")) for nodule in current.nodules
    }
    taken = set(linked.values())
    for one in compared:
        for pair in one.matches.pairs:
            identity, uid = found[pair.current_id], one.uids[pair.earlier_id]
            if not identity.uid and uid not in taken and uid not in parted[pair.current_id]:
                identity.uid = uid
                taken.add(uid)
    for name, identity in found.items():
        _settle(name, identity, current, compared)
    return found


def _settle(
    name: str, identity: _Identity, current: Current, compared: Sequence[_Compared]
) -> None:
    """Say what a nodule is to those of the earlier exams; one without an identity gets its own."""
    for one in compared:
        # Only a comparison that agrees on who the nodule is says what became of it.
        if identity.uid and one.partners.get(name) != identity.uid:
            continue
        related = {one.uids[then] for then in one.matches.related.get(name, ())}
        if related:
            identity.outcome = one.matches.outcomes[name]
            identity.related = tuple(sorted(related - {identity.uid}))
            break
        if identity.uid:
            break
    if not identity.outcome:
        identity.outcome = _outcome(name, identity, current, compared)
    if not identity.uid:
        # The place names it, not the number: a new revision of the study keeps the UID.
        center = next(n.center_lps_mm for n in current.nodules if n.nodule_id == name)
        identity.uid = dicom_uid("tracking", current.study_id, *(round(mm) for mm in center))


def _outcome(
    name: str, identity: _Identity, current: Current, compared: Sequence[_Compared]
) -> MatchOutcome.ValueType:
    if identity.uid:
        return nodule_pb2.MATCH_OUTCOME_SAME
    if any(one.laying.current_visible[name] for one in compared):
        return nodule_pb2.MATCH_OUTCOME_NEW
    if current.first and current.dated:
        return nodule_pb2.MATCH_OUTCOME_FIRST_EXAM
    return nodule_pb2.MATCH_OUTCOME_NOT_EVALUABLE


def _tracked(
    current: Current,
    nodule: Nodule,
    identity: _Identity,
    pasts: Sequence[Past],
    compared: Sequence[_Compared],
) -> Tracked:
    now = measured(current.exam, nodule)
    selves = selves_of(now, identity.uid, pasts)
    earlier = [(one.past.days, one.size) for one in selves]
    places = {one.past.exam.study.study_id: one.laying.earlier_places for one in compared}
    return Tracked(
        nodule,
        Tracking(
            tracking_uid=identity.uid,
            growth=growth_of(now, earlier, identity.outcome),
            priors=[
                prior_match(nodule, one, places[one.study_id])
                for one in selves
                if one.study_id in places
            ],
            outcome=identity.outcome,
            history=[past_size(one) for one in selves],
            related_uids=identity.related,
            shown_earlier=identity.outcome == nodule_pb2.MATCH_OUTCOME_NEW
            and any(nodule.nodule_id in one.laying.shown for one in compared),
        ),
        tuple(selves),
        growth.doubled_within_a_year(now, earlier),
    )


def _prior_exam(one: _Compared, present: Set[str]) -> PriorExam:
    laying = one.laying
    resolved = [n for n in one.matches.resolved if one.uids[n] not in present]
    return PriorExam(
        study_id=one.past.exam.study.study_id,
        study_date=one.past.exam.exam.volume.acquisition.study_date,
        interval_days=one.past.days,
        registration_dice=laying.dice,
        registered=laying.method != followup_pb2.REGISTRATION_METHOD_LOBES,
        resolved_nodule_ids=resolved,
        still_shown_nodule_ids=[n for n in resolved if n in laying.shown],
        method=laying.method,
        inverse_error_mm=laying.inverse_error_mm,
        not_evaluable_nodule_ids=[
            n for n in one.matches.not_evaluable if one.uids[n] not in present
        ],
        warnings=laying.warnings,
    )


def _found(nodule: Nodule) -> Found:
    x, y, z = nodule.center_lps_mm
    size = nodule.measurement
    return Found(
        nodule.nodule_id,
        (x, y, z),
        size.mean_diameter_mm,
        size.volume_mm3,
        nodule.type,
        nodule.lobe,
    )


def _uids(exam: FollowupUpdated) -> dict[str, str]:
    return {nodule.nodule_id: nodule.tracking.tracking_uid for nodule in exam.nodules}
