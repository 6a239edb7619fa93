"""iRECIST: progression must be confirmed (Seymour, Lancet Oncol 2017;18:e143; EORTC's FAQ).

The first progression is unconfirmed (iUPD). It is confirmed (iCPD) when disease goes on to grow at
an exam four weeks later or more; when the exam is better instead, the bar is reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lungmesh.followup.response.lesions import Seen
from lungmesh.followup.response.recist import CR, NE, NONE, PD, PR, progressed

RULES = ("iRECIST", "2017")
IUPD, ICPD = "iUPD", "iCPD"
CONFIRM_FROM_DAYS = 28.0
CONFIRM_TO_DAYS = 56.0
_FURTHER_MM = 5.0
# "Any increase" of what is not summed: beyond the error of a measured volume (25 %).
_FURTHER_VOLUME = 1.25
# Progression of new lesions that had been let pass: as of targets, or 73 % of the volume.
_PROGRESSED_VOLUME = 1.73
_ROUNDING = 1e-9
_NAMES = {"non-CR/non-PD": "non-iCR/non-iUPD", NE: NE}


@dataclass(frozen=True)
class Point:
    """One exam.

    Attributes
    ----------
    targets, non_targets
        Their responses by RECIST 1.1.
    base
        The response of targets and non-targets alone, as if there were no new lesions.
    new
        Lesions that are none of the baseline's.
    """

    days: float
    targets: str
    non_targets: str
    base: str
    sum_mm: float
    non_target_mm3: float
    new: Mapping[str, Seen]
    measurable_new: frozenset[str]


@dataclass(frozen=True)
class Pending:
    """An unconfirmed progression: what progressed, and how large all was then."""

    kinds: frozenset[str]
    point: Point


@dataclass(frozen=True)
class State:
    """What the exams before left open.

    Attributes
    ----------
    known_new
        New lesions seen so far, each at its smallest.
    """

    pending: Pending | None = None
    confirmed: bool = False
    known_new: Mapping[str, Seen] | None = None


def step(state: State, now: Point) -> tuple[str, str, State]:
    """Return an exam's response, the reason for it, and the state after it."""
    known = state.known_new or {}
    after = replace(state, known_new=_smallest(known, now.new))
    if state.confirmed:
        return ICPD, "progression was confirmed before", after
    if state.pending is None:
        kinds = _progression(now, known)
        if not kinds:
            return _response(now), "no progression", after
        reason = f"first progression: {_listed(kinds)}"
        return IUPD, reason, replace(after, pending=Pending(frozenset(kinds), now))
    return _standing(state.pending, now, known, after)


def _standing(
    pending: Pending, now: Point, known: Mapping[str, Seen], after: State
) -> tuple[str, str, State]:
    then = pending.point
    further = _further(pending, now, known)
    days = now.days - then.days
    if further and days >= CONFIRM_FROM_DAYS:
        late = "" if days <= CONFIRM_TO_DAYS else f", {days:.0f} days after it was first seen"
        reason = f"confirmed by {_listed(further)}{late}"
        return ICPD, reason, replace(after, confirmed=True)
    if further:
        return IUPD, f"{_listed(further)}, but before four weeks", after
    if PD in (now.targets, now.non_targets):
        return IUPD, "progression stands, without further growth", after
    if now.base == NE:
        return NE, "not all evaluated; progression is still unconfirmed", after
    shrunk = now.targets in (CR, PR) and now.sum_mm < then.sum_mm - _ROUNDING
    if now.new and not shrunk:
        return IUPD, "new lesions stand, without further growth", after
    return _response(now), "progression was not confirmed", replace(after, pending=None)


def _progression(now: Point, known: Mapping[str, Seen]) -> list[str]:
    """Return what progresses where no progression is pending."""
    kinds = [
        name
        for name, response in (("targets", now.targets), ("non-targets", now.non_targets))
        if response == PD
    ]
    old = [uid for uid in now.new if uid in known]
    summed = [uid for uid in old if uid in now.measurable_new]
    rest = [uid for uid in old if uid not in now.measurable_new]
    regrown = (
        bool(summed) and progressed(_sum_mm(now.new, summed), _sum_mm(known, summed))
    ) or _volume_grown(known, now.new, rest, _PROGRESSED_VOLUME)
    if len(old) < len(now.new) or regrown:
        kinds.append("new lesions")
    return kinds


def _further(pending: Pending, now: Point, known: Mapping[str, Seen]) -> list[str]:
    """Return what has progressed further since, or has joined the progression."""
    then, kinds = pending.point, pending.kinds
    found = []
    more_mm = now.sum_mm - then.sum_mm
    if "targets" in kinds and more_mm >= _FURTHER_MM - _ROUNDING:
        found.append(f"targets (sum +{more_mm:.1f} mm)")
    if "non-targets" in kinds and now.non_target_mm3 >= _FURTHER_VOLUME * then.non_target_mm3:
        found.append("non-targets")
    found += [
        f"{name} (progression joins)"
        for name, response in (("targets", now.targets), ("non-targets", now.non_targets))
        if response == PD and name not in kinds
    ]
    if any(uid not in known for uid in now.new):
        found.append("another new lesion")
    old = [uid for uid in now.new if uid in then.new]
    summed = [uid for uid in old if uid in now.measurable_new]
    rest = [uid for uid in old if uid not in now.measurable_new]
    more_mm = _sum_mm(now.new, summed) - _sum_mm(then.new, summed)
    if more_mm >= _FURTHER_MM - _ROUNDING:
        found.append(f"new lesions (sum +{more_mm:.1f} mm)")
    elif _volume_grown(then.new, now.new, rest, _FURTHER_VOLUME):
        found.append("new lesions")
    return found


def _response(now: Point) -> str:
    """Return the i-response of an exam that shows no progression."""
    if now.targets == NONE and now.non_targets == NONE:
        return NE
    # New lesions that are let pass still forbid a complete response.
    base = PR if now.new and now.base == CR else now.base
    return _NAMES.get(base, f"i{base}")


def _volume_grown(
    then: Mapping[str, Seen], now: Mapping[str, Seen], uids: list[str], factor: float
) -> bool:
    before = sum(then[uid].volume_mm3 for uid in uids)
    return bool(uids) and sum(now[uid].volume_mm3 for uid in uids) >= factor * before


def _sum_mm(lesions: Mapping[str, Seen], uids: list[str]) -> float:
    return sum(lesions[uid].size_mm for uid in uids)


def _smallest(known: Mapping[str, Seen], now: Mapping[str, Seen]) -> dict[str, Seen]:
    return {
        **known,
        **{
            uid: min((seen, known.get(uid, seen)), key=lambda item: item.volume_mm3)
            for uid, seen in now.items()
        },
    }


def _listed(names: list[str]) -> str:
    return " and ".join(names)
