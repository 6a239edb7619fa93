"""Which nodule is which in two exams: the likeliest pairs, and what became of the others.

Every pair has a cost: how far the laid-over centres lie apart, how unlike the sizes and the types
are. The assignment with the smallest sum wins; beyond its gates nothing is paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from lungmesh.followup.laying import Laying
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.nodule_pb2 import MatchOutcome, NoduleType

RULES = ("nodule-matching", "2")
# Usual error of a place that was laid over, mm, by the method.
_SIGMA_MM = {
    followup_pb2.REGISTRATION_METHOD_DEFORMABLE: 2.5,
    followup_pb2.REGISTRATION_METHOD_AFFINE: 4.0,
    followup_pb2.REGISTRATION_METHOD_LOBES: 7.0,
}
# Nothing farther apart than this many usual errors is paired.
_GATE = 4.0
# A nodule grows from its edge: a larger one may lie farther off by this share of its diameter.
_SIZE_SHARE = 0.25
# Nobody's nodule becomes this many times larger or smaller between two exams.
_SIZE_RATIO = 4.0
# Cost of a nodule without a partner: two of them outweigh the worst pair that still is one.
_ALONE = 4.0
# Beyond its two single nodules a split or a merger must explain places and volumes this well.
_JOINED = 4.5
_WEIGHT_OF_PLACE = 1.5
_DOUBLED = math.log(2)
_FORBIDDEN = 1e6
_SOLID, _PART, _GLASS, _CALCIFIED = (
    nodule_pb2.NODULE_TYPE_SOLID,
    nodule_pb2.NODULE_TYPE_PART_SOLID,
    nodule_pb2.NODULE_TYPE_NON_SOLID,
    nodule_pb2.NODULE_TYPE_CALCIFIED,
)
# Ground glass may turn solid over years, and readers differ; calcium does not turn to ground glass.
_UNLIKE = {
    frozenset((_SOLID, _PART)): 0.5,
    frozenset((_PART, _GLASS)): 0.5,
    frozenset((_SOLID, _CALCIFIED)): 0.5,
    frozenset((_PART, _CALCIFIED)): 3.0,
    frozenset((_GLASS, _CALCIFIED)): 3.0,
}
_OTHERWISE_UNLIKE = 1.5
# Types this unlike are paired only within half the gate.
_TYPE_GATE = 3.0

Place = tuple[float, float, float]
Link = tuple[str, str]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """A nodule as matching sees it.

    Attributes
    ----------
    center
        LPS of its own exam, mm.
    lobe
        Number of the Lobe.
    """

    nodule_id: str
    center: Place
    mean_diameter_mm: float
    volume_mm3: float
    type: NoduleType.ValueType
    lobe: int


@dataclass(frozen=True)
class Pair:
    """The same nodule in two exams; `distance_mm` lies between the laid-over centres."""

    earlier_id: str
    current_id: str
    distance_mm: float


@dataclass(frozen=True)
class Matches:
    """Who is who.

    Attributes
    ----------
    pairs
        One to one, in order of the current nodules. Of a split or merged nodule the largest piece
        is paired, so that it keeps the identity.
    outcomes
        By current nodule: SAME, NEW, SPLIT, MERGED or NOT_EVALUABLE.
    related
        By current nodule that is SPLIT or MERGED: every earlier nodule it came of.
    resolved, not_evaluable
        Earlier nodules without a partner whose place the current exam shows, or does not show.
    """

    pairs: tuple[Pair, ...]
    outcomes: Mapping[str, MatchOutcome.ValueType]
    related: Mapping[str, tuple[str, ...]]
    resolved: tuple[str, ...]
    not_evaluable: tuple[str, ...]


def match(
    then: Sequence[Found],
    now: Sequence[Found],
    laying: Laying,
    forced: Sequence[Link] = (),
    forbidden: Sequence[Link] = (),
) -> Matches:
    """Pair the nodules of two exams; their order does not change the answer.

    Parameters
    ----------
    laying
        Of the two exams; it knows every nodule of `then` and `now`, else KeyError.
    forced, forbidden
        (earlier id, current id) that a person linked or parted: no gate holds against a link, and
        links that share a nodule make it split or merged. Ids that are in neither exam are passed
        over.
    """
    work = _Work(
        {one.nodule_id: one for one in sorted(then, key=_by_id)},
        {one.nodule_id: one for one in sorted(now, key=_by_id)},
        laying,
        frozenset(forbidden),
    )
    work.link(forced)
    work.assign()
    work.join()
    return work.matches([one.nodule_id for one in then], [one.nodule_id for one in now])


@dataclass
class _Group:
    """Earlier nodules that are the same tissue as current ones."""

    earlier: list[str]
    current: list[str]
    by_hand: bool = False


@dataclass
class _Work:
    then: dict[str, Found]
    now: dict[str, Found]
    laying: Laying
    forbidden: frozenset[Link]
    groups: list[_Group] = field(default_factory=list)

    def link(self, forced: Iterable[Link]) -> None:
        """Group what a person linked; links that share a nodule make one group."""
        known = {link for link in forced if link[0] in self.then and link[1] in self.now}
        for earlier, current in sorted(known):
            shared = [g for g in self.groups if earlier in g.earlier or current in g.current]
            group = _Group([earlier], [current], by_hand=True)
            for other in shared:
                group.earlier = sorted({*group.earlier, *other.earlier})
                group.current = sorted({*group.current, *other.current})
                self.groups.remove(other)
            self.groups.append(group)

    def assign(self) -> None:
        """Pair the nodules that no person linked, at the smallest summed cost."""
        rows, columns = self._alone_then(), self._alone_now()
        n, m = len(rows), len(columns)
        if not n or not m:
            return
        cost = np.full((n + m, n + m), _FORBIDDEN)
        for i, earlier in enumerate(rows):
            for j, current in enumerate(columns):
                if self._may_be_same(earlier, current):
                    cost[i, j] = self._cost([earlier], [current])
        # Every nodule may also stay alone.
        cost[np.arange(n), m + np.arange(n)] = _ALONE
        cost[n + np.arange(m), np.arange(m)] = _ALONE
        cost[n:, m:] = 0.0
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if i < n and j < m:
                self.groups.append(_Group([rows[i]], [columns[j]]))

    def join(self) -> None:
        """Add lone nodules to a group where that explains places and volumes better."""
        while True:
            options = [*self._joins()]
            if not options:
                return
            _, place, lone, is_earlier = min(options)
            group = self.groups[place]
            (group.earlier if is_earlier else group.current).append(lone)

    def matches(self, then: list[str], now: list[str]) -> Matches:
        """Return the result in the order of the nodules as they were given."""
        pairs: dict[str, Pair] = {}
        outcomes: dict[str, MatchOutcome.ValueType] = {}
        related: dict[str, tuple[str, ...]] = {}
        for group in self.groups:
            earlier = max(group.earlier, key=lambda one: (self.then[one].volume_mm3, one))
            current = max(group.current, key=lambda one: (self.now[one].volume_mm3, one))
            distance = _apart(self._place(earlier), self.now[current].center)
            pairs[current] = Pair(earlier, current, round(distance, 2))
            outcome = nodule_pb2.MATCH_OUTCOME_SAME
            if len(group.current) > 1:
                outcome = nodule_pb2.MATCH_OUTCOME_SPLIT
            elif len(group.earlier) > 1:
                outcome = nodule_pb2.MATCH_OUTCOME_MERGED
            for one in group.current:
                outcomes[one] = outcome
                if outcome != nodule_pb2.MATCH_OUTCOME_SAME:
                    related[one] = tuple(sorted(group.earlier))
        for one in self._alone_now():
            seen = self.laying.current_visible[one]
            outcomes[one] = (
                nodule_pb2.MATCH_OUTCOME_NEW if seen else nodule_pb2.MATCH_OUTCOME_NOT_EVALUABLE
            )
        alone = set(self._alone_then())
        visible = self.laying.earlier_visible
        return Matches(
            pairs=tuple(pairs[one] for one in now if one in pairs),
            outcomes={one: outcomes[one] for one in now},
            related={one: related[one] for one in now if one in related},
            resolved=tuple(one for one in then if one in alone and visible[one]),
            not_evaluable=tuple(one for one in then if one in alone and not visible[one]),
        )

    def _alone_then(self) -> list[str]:
        taken = {one for group in self.groups for one in group.earlier}
        return [one for one in self.then if one not in taken]

    def _alone_now(self) -> list[str]:
        taken = {one for group in self.groups for one in group.current}
        return [one for one in self.now if one not in taken]

    def _joins(self) -> Iterable[tuple[float, int, str, bool]]:
        """Give (gain, group, lone nodule, whether it is an earlier one) of every sensible join."""
        lone_then, lone_now = self._alone_then(), self._alone_now()
        for place, group in enumerate(self.groups):
            if group.by_hand:
                continue
            apart = _ALONE + self._cost(group.earlier, group.current)
            if len(group.current) == 1:
                (whole,) = group.current
                for lone in lone_then:
                    if self._within([lone, *group.earlier], [whole], self.now[whole]):
                        joined = _JOINED + self._cost([*group.earlier, lone], group.current)
                        if joined < apart:
                            yield joined - apart, place, lone, True
            if len(group.earlier) == 1:
                (whole,) = group.earlier
                for lone in lone_now:
                    if self._within([whole], [lone, *group.current], self.then[whole]):
                        joined = _JOINED + self._cost(group.earlier, [*group.current, lone])
                        if joined < apart:
                            yield joined - apart, place, lone, False

    def _within(self, earlier: Sequence[str], current: Sequence[str], whole: Found) -> bool:
        """Return whether every piece lies in the outline of the nodule that they make up."""
        reach = whole.mean_diameter_mm / 2 + self._sigma
        return all(
            (one, other) not in self.forbidden
            and _apart(self._place(one), self.now[other].center) <= reach
            for one in earlier
            for other in current
        )

    def _may_be_same(self, earlier: str, current: str) -> bool:
        if (earlier, current) in self.forbidden:
            return False
        then, now = self.then[earlier], self.now[current]
        larger = max(then.mean_diameter_mm, now.mean_diameter_mm)
        smaller = min(then.mean_diameter_mm, now.mean_diameter_mm)
        gate = _GATE * self._sigma + _SIZE_SHARE * larger
        if _unlike(then.type, now.type) >= _TYPE_GATE:
            gate /= 2
        by_lobes = self.laying.method == followup_pb2.REGISTRATION_METHOD_LOBES
        return (
            _apart(self._place(earlier), now.center) <= gate
            and larger <= _SIZE_RATIO * smaller
            and (not by_lobes or then.lobe == now.lobe)
        )

    def _cost(self, earlier: Sequence[str], current: Sequence[str]) -> float:
        """Return how badly the earlier nodules explain the current ones, by place, size, type."""
        then, now = [self.then[one] for one in earlier], [self.now[one] for one in current]
        before = sum(one.volume_mm3 for one in then)
        after = sum(one.volume_mm3 for one in now)
        # Long tails: one badly laid place or a fast growth must not outweigh everything else.
        distance = _apart(
            _middle([self._place(one) for one in earlier], then),
            _middle([one.center for one in now], now),
        )
        place = _WEIGHT_OF_PLACE * math.log1p((distance / self._sigma) ** 2)
        size = math.log1p((math.log(after / before) / _DOUBLED) ** 2)
        kind = min(_unlike(one.type, other.type) for one in then for other in now)
        return place + size + kind

    @property
    def _sigma(self) -> float:
        return _SIGMA_MM[self.laying.method]

    def _place(self, earlier: str) -> Place:
        return self.laying.earlier_places[earlier]


def _by_id(one: Found) -> str:
    return one.nodule_id


def _unlike(one: NoduleType.ValueType, other: NoduleType.ValueType) -> float:
    return 0.0 if one == other else _UNLIKE.get(frozenset((one, other)), _OTHERWISE_UNLIKE)


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    return math.dist(one, other)


def _middle(places: Sequence[Place], nodules: Sequence[Found]) -> tuple[float, ...]:
    """Return the centre of mass."""
    weights = [one.volume_mm3 for one in nodules]
    middle: Floats = np.average(np.asarray(places, float), axis=0, weights=weights)
    return tuple(middle.tolist())
