"""What a row asks of one fact: a size within bounds, one of some words, known or unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lungmesh.followup.guidelines.vocabulary import Facts, Kind, Value

# The fact that stands in for a diameter where only a volume is known.
VOLUME_OF = {"mean_diameter_mm": "volume_mm3", "solid_mean_diameter_mm": "solid_volume_mm3"}


@dataclass(frozen=True)
class Bounds:
    """Numbers from `low` up to `high`; the flags say whether a bound itself is inside."""

    low: float = -math.inf
    high: float = math.inf
    low_inside: bool = True
    high_inside: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number lies inside."""
        above = value >= self.low if self.low_inside else value > self.low
        below = value <= self.high if self.high_inside else value < self.high
        return above and below


@dataclass(frozen=True)
class Within:
    """A number within bounds.

    Attributes
    ----------
    volume
        The guideline's bounds in mm³ for the same row; None where it names none.
    """

    fact: str
    bounds: Bounds
    volume: Bounds | None = None

    def looks_at(self, facts: Facts) -> str:
        """Return the fact that is compared: the volume where only that is known."""
        if self.volume is not None and facts.get(self.fact) is None:
            other = VOLUME_OF[self.fact]
            if facts.get(other) is not None:
                return other
        return self.fact

    def holds(self, facts: Facts) -> bool | None:
        """Return whether it holds; None when the fact is unknown."""
        name = self.looks_at(facts)
        value = facts.get(name)
        if value is None:
            return None
        assert isinstance(value, (int, float))  # noqa: S101 - the reader checked its kind
        bounds = self.bounds if name == self.fact else self.volume
        assert bounds is not None  # noqa: S101 - looks_at
        return bounds.holds(float(value))


@dataclass(frozen=True)
class OneOf:
    """One of some words, or true or false. Of a fact that is a set, one word must be among them."""

    fact: str
    values: frozenset[Value]

    def looks_at(self, facts: Facts) -> str:
        """Return the fact that is compared."""
        return self.fact

    def holds(self, facts: Facts) -> bool | None:
        """Return whether it holds; None when the fact is unknown."""
        value = facts.get(self.fact)
        if value is None:
            return None
        if isinstance(value, frozenset):
            return bool(value & self.values)
        return value in self.values


@dataclass(frozen=True)
class Known:
    """A fact that is known, or that is not."""

    fact: str
    known: bool

    def looks_at(self, facts: Facts) -> str:
        """Return the fact that is compared."""
        return self.fact

    def holds(self, facts: Facts) -> bool | None:
        """Return whether it holds."""
        return (facts.get(self.fact) is not None) == self.known


Condition = Within | OneOf | Known
# Diameter's fact → its bound in mm → the guideline's bound in mm³.
Volumes = Mapping[str, Mapping[float, float]]
_BOUNDS = {"at_least", "above", "below", "at_most"}


def read_conditions(
    when: Mapping[str, Any], facts: Mapping[str, Kind], volumes: Volumes
) -> tuple[Condition, ...]:
    """Return a row's conditions.

    Parameters
    ----------
    when
        Fact → a word, a list of words, {not: words}, true or false, or bounds such as
        {at_least: 6, below: 8}; `known` and `unknown` → lists of facts.
    facts
        The facts that a row may name.
    volumes
        What stands in for a diameter's bounds where only the volume is known.

    Raises ValueError for what the vocabulary does not hold.
    """
    conditions: list[Condition] = []
    for name, wanted in when.items():
        if name in ("known", "unknown"):
            conditions.extend(Known(_named(fact, facts), name == "known") for fact in wanted)
        else:
            conditions.append(_condition(_named(name, facts), wanted, facts[name], volumes))
    # What must be known is looked at first: a row for volumes is no row where there is none.
    return tuple(sorted(conditions, key=lambda condition: not isinstance(condition, Known)))


def _named(name: str, facts: Mapping[str, Kind]) -> str:
    if name not in facts:
        raise ValueError(f"no fact {name}")
    return name


def _condition(name: str, wanted: Any, kind: Kind, volumes: Volumes) -> Condition:
    if kind.number:
        return _within(name, wanted, volumes)
    if kind.flag:
        if not isinstance(wanted, bool):
            raise ValueError(f"{name} is true or false, not {wanted}")
        return OneOf(name, frozenset({wanted}))
    excluded = isinstance(wanted, dict)
    words = wanted["not"] if isinstance(wanted, dict) else wanted
    given = frozenset([words] if isinstance(words, str) else words)
    if not given or not given <= set(kind.words):
        raise ValueError(f"{name} has no word {', '.join(sorted(given - set(kind.words)))}")
    return OneOf(name, frozenset(kind.words) - given if excluded else given)


def _within(name: str, wanted: dict[str, float], volumes: Volumes) -> Within:
    if not wanted or not set(wanted) <= _BOUNDS:
        raise ValueError(f"{name} has bounds {sorted(_BOUNDS)}, not {wanted}")
    bounds = _bounds(wanted)
    twin = None
    mm3 = volumes.get(name, {})
    if all(float(value) in mm3 for value in wanted.values()):
        twin = _bounds({key: mm3[float(value)] for key, value in wanted.items()})
    return Within(name, bounds, twin)


def _bounds(wanted: Mapping[str, float]) -> Bounds:
    bounds = Bounds(
        low=float(wanted.get("at_least", wanted.get("above", -math.inf))),
        high=float(wanted.get("at_most", wanted.get("below", math.inf))),
        low_inside="above" not in wanted,
        high_inside="at_most" in wanted,
    )
    if not bounds.low <= bounds.high:
        raise ValueError(f"bounds that nothing meets: {wanted}")
    return bounds
