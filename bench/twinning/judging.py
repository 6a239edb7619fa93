"""Matching, registration and growth of simulated patients against their exact truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.twinning.records import ExamRecord, Nodule, PairRecord, PatientRecord
from lungmesh.followup.growth import volume_doubling_time_days
from lungmesh.followup.laying import Laying
from lungmesh.followup.matching import Found, Matches, match
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import RegistrationMethod
from lungmesh.v1.nodule_pb2 import MatchOutcome, NoduleType

# Measurement noise that is put on the truth where no detector ran: centre, diameter, volume, type.
_CENTER_MM, _DIAMETER, _VOLUME, _TYPE = 0.5, 0.05, 0.12, 0.05
# Nearer to the border of a field of view than this, both answers are right, mm.
_BORDER_MM = 6.0
# From this size on the volumes' errors count, and above this change of volume the VDT's.
LEAST_MM, LEAST_CHANGE = 6.0, 0.25
_SAME, _NEW, _SPLIT, _MERGED, _UNSEEN = (
    nodule_pb2.MATCH_OUTCOME_SAME,
    nodule_pb2.MATCH_OUTCOME_NEW,
    nodule_pb2.MATCH_OUTCOME_SPLIT,
    nodule_pb2.MATCH_OUTCOME_MERGED,
    nodule_pb2.MATCH_OUTCOME_NOT_EVALUABLE,
)
_LIKE = {
    nodule_pb2.NODULE_TYPE_SOLID: nodule_pb2.NODULE_TYPE_PART_SOLID,
    nodule_pb2.NODULE_TYPE_PART_SOLID: nodule_pb2.NODULE_TYPE_NON_SOLID,
    nodule_pb2.NODULE_TYPE_NON_SOLID: nodule_pb2.NODULE_TYPE_PART_SOLID,
    nodule_pb2.NODULE_TYPE_CALCIFIED: nodule_pb2.NODULE_TYPE_SOLID,
}


@dataclass(frozen=True)
class Decision:
    """What matching said of one nodule, and what is right.

    Attributes
    ----------
    right_answers
        Outcomes that are right; more than one at the border of the field of view.
    missed
        Whether the other exam shows the nodule but the detector did not find it there: the answer
        for what was found is right, and wrong for the patient.
    told
        Whether follow-up says that the other exam shows something alike at the place.
    """

    patient: str
    nodule: str
    said: str
    right_answers: tuple[str, ...]
    right: bool
    missed: bool
    told: bool

    @property
    def false_new(self) -> bool:
        """Whether it was called new though it is not."""
        return self.said == "NEW" and "NEW" not in self.right_answers


def decisions(patient: PatientRecord, found: bool) -> list[Decision]:
    """Judge every nodule of every pair of exams.

    Parameters
    ----------
    found
        Take what the detector found, instead of the truth with measurement noise.
    """
    out: list[Decision] = []
    for number, pair in enumerate(patient.pairs):
        then, now = patient.exams[pair.earlier], patient.exams[pair.current]
        random = np.random.default_rng([number, 0x11])
        sides = [_nodules(exam, found, random) for exam in (then, now)]
        laying = Laying.from_json(pair.laying)
        known = [[_found(one) for one in side] for side in sides]
        result = match(known[0], known[1], laying)
        # What hits nothing planted has no truth of its own; it must only not disturb.
        named = [[one for one in side if one.courses] for side in sides]
        hidden = frozenset(then.hidden), frozenset(now.hidden)
        there = [frozenset[str]().union(*(one.courses for one in e.truth)) for e in (then, now)]
        shown = laying.shown
        out += _of_current(patient.name, pair, named, hidden[0], there[0], result, shown)
        out += _of_earlier(patient.name, pair, named, hidden[1], there[1], result, shown)
    return out


@dataclass(frozen=True)
class PlaceError:
    """How far a laid-over nodule lies from where it truly is, mm."""

    error_mm: float
    breath_mm: float
    method: str


def place_errors(patient: PatientRecord) -> list[PlaceError]:
    """Return the error of every true earlier nodule whose place the current exam shows."""
    out = []
    for pair in patient.pairs:
        then, now = patient.exams[pair.earlier], patient.exams[pair.current]
        laying = Laying.from_json(pair.laying)
        for one in then.truth:
            if pair.outside_mm[one.nodule_id] > 0:
                continue
            away = np.subtract(laying.earlier_places[one.nodule_id], pair.places[one.nodule_id])
            breath = abs(now.breath_mm - then.breath_mm)
            method = _method(laying)
            out.append(PlaceError(float(np.linalg.norm(away)), breath, method))
    return out


@dataclass(frozen=True)
class GrowthError:
    """Errors of a nodule's change, as shares.

    Attributes
    ----------
    volume
        Measured over true ratio of the volumes, less 1.
    doubling
        Measured over true doubling time, less 1; None below a change of 25 %.
    alike
        Whether both exams have one technique.
    """

    diameter_mm: float
    volume: float
    doubling: float | None
    alike: bool


def growth_errors(patient: PatientRecord) -> list[GrowthError]:
    """Return the errors of every single nodule that was found in both exams of a pair."""
    out = []
    for pair in patient.pairs:
        then, now = patient.exams[pair.earlier], patient.exams[pair.current]
        days = float(now.days - then.days)
        for name, before, after in _twice(then, now):
            truth = [_named(exam.truth, name) for exam in (then, now)]
            if truth[0] is None or truth[1] is None or "+" in name:
                continue
            true = truth[1].volume_mm3 / truth[0].volume_mm3
            measured = after.volume_mm3 / before.volume_mm3
            doubling = None
            if abs(true - 1) > LEAST_CHANGE:
                real = volume_doubling_time_days(truth[0].volume_mm3, truth[1].volume_mm3, days)
                said = volume_doubling_time_days(before.volume_mm3, after.volume_mm3, days)
                doubling = said / real - 1 if said is not None and real is not None else None
            least = min(one.mean_diameter_mm for one in truth if one is not None)
            alike = then.technique == now.technique
            out.append(GrowthError(least, measured / true - 1, doubling, alike))
    return out


def _nodules(exam: ExamRecord, found: bool, random: np.random.Generator) -> list[Nodule]:
    if found:
        return list(exam.found or ())
    return [_measured(one, random) for one in exam.truth]


def _measured(one: Nodule, random: np.random.Generator) -> Nodule:
    shift = random.normal(0, _CENTER_MM, 3)
    x, y, z = (np.asarray(one.center) + shift).tolist()
    kind = _LIKE[NoduleType.ValueType(one.type)] if random.random() < _TYPE else one.type
    return Nodule(
        one.nodule_id,
        one.name,
        (x, y, z),
        one.mean_diameter_mm * float(np.exp(random.normal(0, _DIAMETER))),
        one.volume_mm3 * float(np.exp(random.normal(0, _VOLUME))),
        int(kind),
        one.lobe,
    )


def _found(one: Nodule) -> Found:
    kind = NoduleType.ValueType(one.type)
    return Found(one.nodule_id, one.center, one.mean_diameter_mm, one.volume_mm3, kind, one.lobe)


def _of_current(
    patient: str,
    pair: PairRecord,
    sides: Sequence[Sequence[Nodule]],
    hidden: frozenset[str],
    there: frozenset[str],
    result: Matches,
    shown: frozenset[str],
) -> Iterator[Decision]:
    partners = {one.current_id: one.earlier_id for one in result.pairs}
    for now in sides[1]:
        same = [one for one in sides[0] if one.courses & now.courses]
        said = _word(result.outcomes[now.nodule_id])
        linked = frozenset(result.related.get(now.nodule_id, ())) or frozenset(
            {partners[now.nodule_id]} if now.nodule_id in partners else ()
        )
        if not same:
            answers = _unseen(pair.outside_mm[now.nodule_id], _word(_NEW))
            if now.courses & hidden and answers == (_word(_NEW),):
                # It was there, in view, and hidden by tissue: nobody can say.
                continue
        elif len(same) > 1:
            answers = (_word(_MERGED),)
        else:
            pieces = [one for one in sides[1] if one.courses & same[0].courses]
            answers = (_word(_SPLIT if len(pieces) > 1 else _SAME),)
        truth = frozenset(one.nodule_id for one in same)
        right = said in answers and linked == truth
        missed = not same and bool(now.courses & there)
        told = now.nodule_id in shown
        yield Decision(patient, now.nodule_id, said, answers, right, missed, told)


def _of_earlier(
    patient: str,
    pair: PairRecord,
    sides: Sequence[Sequence[Nodule]],
    hidden: frozenset[str],
    there: frozenset[str],
    result: Matches,
    shown: frozenset[str],
) -> Iterator[Decision]:
    for then in sides[0]:
        if any(one.courses & then.courses for one in sides[1]):
            continue
        name = then.nodule_id
        said = (
            "RESOLVED"
            if name in result.resolved
            else "NOT_EVALUABLE"
            if name in result.not_evaluable
            else "SAME"
        )
        outside = pair.outside_mm[name]
        if then.courses & hidden and outside < _BORDER_MM:
            continue
        answers = _unseen(outside, "RESOLVED")
        missed = bool(then.courses & there)
        yield Decision(patient, name, said, answers, said in answers, missed, name in shown)


def _unseen(outside_mm: float, inside: str) -> tuple[str, ...]:
    """Return what is right of a nodule without a partner by where its place lies.

    Parameters
    ----------
    inside
        The word for one whose place the other exam shows.
    """
    if outside_mm > _BORDER_MM:
        return (_word(_UNSEEN),)
    return (inside,) if outside_mm < -_BORDER_MM else (inside, _word(_UNSEEN))


def _twice(then: ExamRecord, now: ExamRecord) -> Iterator[tuple[str, Nodule, Nodule]]:
    after: Mapping[str, Nodule] = {one.name: one for one in now.found or () if one.name}
    for one in then.found or ():
        if one.name in after:
            yield one.name, one, after[one.name]


def _named(nodules: Sequence[Nodule], name: str) -> Nodule | None:
    return next((one for one in nodules if one.name == name), None)


def _word(outcome: MatchOutcome.ValueType) -> str:
    return MatchOutcome.Name(outcome).removeprefix("MATCH_OUTCOME_")


def _method(laying: Laying) -> str:
    return RegistrationMethod.Name(laying.method).removeprefix("REGISTRATION_METHOD_")
