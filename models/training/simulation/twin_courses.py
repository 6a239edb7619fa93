"""What becomes of a simulated patient's nodules over the exams: sizes known to the day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.training.simulation.hosts import Host
from models.training.simulation.plant import KINDS, Kind
from models.training.simulation.scans import LEAST_MM
from models.training.simulation.shapes import Shape

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Triple = tuple[float, float, float]
_NODULES = 8
# In the order of KINDS.
_KIND_SHARES = (0.6, 0.14, 0.2, 0.06)
_FATES = ("stable", "growing", "shrinking", "new", "vanished")
_FATE_SHARES = (0.38, 0.3, 0.08, 0.12, 0.12)
_SMALLEST_MM, _LARGEST_MM, _LARGEST_GROWN_MM = 4.0, 16.0, 28.0
_GROWTH_DAYS = (90.0, 800.0)
# A nodule becomes at most this many times wider from the first exam to the last.
_MOST_GROWTH = 2.5
# How often a nodule lies near another, how often two merge, how often one splits.
_NEIGHBOUR, _MERGERS, _SPLITS = 0.3, 0.5, 0.5
_FREE_MM = 6.0
_NEAR_MM = (4.0, 14.0)
# Two that merge lie this far apart at first, and overlap by this share when they have merged.
_GAP_MM, _OVERLAP = 1.5, 0.8
# Of a nodule at its largest, how much must lie in lung, and in lung that holds air.
_INSIDE, _AERATED, _AERATED_HU = 0.9, 0.8, -500
_ROUND = 4.0
_TRIES = 600


@dataclass(frozen=True)
class Course:
    """One nodule through time.

    Attributes
    ----------
    place_mm
        In the real CT, mm along z, y, x.
    diameters_mm
        Of the ball of the same volume, by exam; 0 where it is not there.
    partner
        The course that it merges with or splits off from; empty when there is none.
    seed
        Of its turn and texture, the same in every exam.
    """

    name: str
    fate: str
    kind: Kind
    shape: Shape
    place_mm: Triple
    diameters_mm: tuple[float, ...]
    partner: str
    seed: int


def courses(
    host: Host, shapes: Sequence[Shape], days: Sequence[int], random: np.random.Generator
) -> list[Course]:
    """Return the nodules of a simulated patient with exams after `days`.

    They are fewer where the lungs have no free place left.
    """
    site = _Site(host, random)
    made: list[Course] = []
    for fate, often in (("merging", _MERGERS), ("splitting", _SPLITS)):
        if random.random() < often:
            made += _couple(fate, len(made), site, shapes, days, random)
    for _ in range(5 * _NODULES):
        if len(made) >= _NODULES:
            break
        fate = str(random.choice(_FATES, p=_FATE_SHARES))
        kind = KINDS[int(random.choice(4, p=_KIND_SHARES))]
        start = float(np.exp(random.uniform(np.log(_SMALLEST_MM), np.log(_LARGEST_MM))))
        sizes = _sizes(fate, max(start, LEAST_MM[kind]), LEAST_MM[kind], days, random)
        place = site.free(max(sizes))
        if place is None:
            continue
        made.append(
            Course(
                name=f"n{len(made)}",
                fate=fate,
                kind=kind,
                shape=_shape(shapes, max(sizes), random),
                place_mm=place,
                diameters_mm=sizes,
                partner="",
                seed=int(random.integers(2**31)),
            )
        )
    return made


def _sizes(
    fate: str, start: float, least: float, days: Sequence[int], random: np.random.Generator
) -> tuple[float, ...]:
    passed = np.asarray(days, float)
    turn = int(random.integers(1, len(days)))
    doubling = float(np.exp(random.uniform(*np.log(_GROWTH_DAYS))))
    if fate == "growing":
        most = min(_MOST_GROWTH, _LARGEST_GROWN_MM / start)
        doubling = max(doubling, passed[-1] / (3 * np.log2(most)))
        sizes = start * 2 ** (passed / (3 * doubling))
    elif fate == "shrinking":
        sizes = start * 2 ** (-passed / (3 * doubling))
        sizes[sizes < least] = 0
    else:
        sizes = np.full(len(days), start)
        if fate == "new":
            sizes[:turn] = 0
        elif fate == "vanished":
            sizes[turn:] = 0
    return tuple(sizes.tolist())


def _couple(
    fate: str,
    count: int,
    site: _Site,
    shapes: Sequence[Shape],
    days: Sequence[int],
    random: np.random.Generator,
) -> list[Course]:
    """Return two solid nodules that grow into one, or one that falls apart as it shrinks."""
    small = random.uniform(5.0, 9.0, 2)
    apart = float(small.sum()) / 2 + _GAP_MM
    large = small * apart / (_OVERLAP * float(small.sum()) / 2)
    turn = int(random.integers(1, len(days)))
    places = site.free_couple(float(large.max()), apart)
    if places is None:
        return []
    names = f"n{count}", f"n{count + 1}"
    out = []
    for k in range(2):
        before, after = (small[k], large[k]) if fate == "merging" else (large[k], small[k])
        sizes = (float(before),) * turn + (float(after),) * (len(days) - turn)
        shape = _shape(shapes, float(large[k]), random, least_sphericity=_ROUND)
        seed = int(random.integers(2**31))
        out.append(Course(names[k], fate, "solid", shape, places[k], sizes, names[1 - k], seed))
    return out


def _shape(
    shapes: Sequence[Shape],
    diameter_mm: float,
    random: np.random.Generator,
    least_sphericity: float = 0.0,
) -> Shape:
    near = [
        shape
        for shape in shapes
        if 1 / 1.6 < shape.diameter_mm / diameter_mm < 1.6
        and shape.ratings["sphericity"] >= least_sphericity
    ]
    return near[int(random.integers(len(near)))]


class _Site:
    """Free places in the lungs of a host."""

    def __init__(self, host: Host, random: np.random.Generator) -> None:
        self._host = host
        self._random = random
        self._mm = np.array(host.spacing)
        inside = np.argwhere(host.lungs[::3, ::6, ::6] & ~host.ignore[::3, ::6, ::6])
        self._pool = inside * (3, 6, 6) * self._mm
        self._taken: list[tuple[Floats, float]] = []

    def free(self, diameter_mm: float) -> Triple | None:
        """Take a place for a nodule; sometimes near one that is taken."""
        near = bool(self._taken) and self._random.random() < _NEIGHBOUR
        for _ in range(_TRIES):
            if near:
                other, size = self._taken[int(self._random.integers(len(self._taken)))]
                gap = self._random.uniform(*_NEAR_MM)
                place = other + _direction(self._random) * ((size + diameter_mm) / 2 + gap)
            else:
                place = self._pool[int(self._random.integers(len(self._pool)))]
            if self._fits(place, diameter_mm, _NEAR_MM[0] if near else _FREE_MM):
                self._taken.append((place, diameter_mm))
                return _triple(place)
        return None

    def free_couple(self, diameter_mm: float, apart_mm: float) -> tuple[Triple, Triple] | None:
        """Take two places at a given distance."""
        for _ in range(_TRIES):
            one = self._pool[int(self._random.integers(len(self._pool)))]
            other = one + _direction(self._random) * apart_mm
            if all(self._fits(place, diameter_mm, _FREE_MM) for place in (one, other)):
                self._taken += [(one, diameter_mm), (other, diameter_mm)]
                return _triple(one), _triple(other)
        return None

    def _fits(self, place: Floats, diameter_mm: float, gap_mm: float) -> bool:
        if any(
            np.linalg.norm(place - other) < (diameter_mm + size) / 2 + gap_mm
            for other, size in self._taken
        ):
            return False
        reach = diameter_mm / 2 + 1
        low = np.floor((place - reach) / self._mm).astype(int)
        high = np.ceil((place + reach) / self._mm).astype(int) + 1
        if (low < 0).any() or (high > self._host.hu.shape).any():
            return False
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        away = [
            ((np.arange(a, b) * mm - at) ** 2)
            for a, b, mm, at in zip(low, high, self._mm, place, strict=True)
        ]
        ball = away[0][:, None, None] + away[1][:, None] + away[2] <= reach**2
        lungs, hu = self._host.lungs[box][ball], self._host.hu[box][ball]
        return bool(
            lungs.mean() >= _INSIDE
            and (hu < _AERATED_HU).mean() >= _AERATED
            and not self._host.ignore[box][ball].any()
        )


def _direction(random: np.random.Generator) -> Floats:
    way: Floats = random.standard_normal(3)
    way /= np.linalg.norm(way)
    return way


def _triple(place: Floats) -> Triple:
    z, y, x = place.tolist()
    return z, y, x
