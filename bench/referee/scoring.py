"""How well marks find nodules: LUNA16's rules, FROC, CPM and its interval.

Source of the rules: Setio AAA et al., Med Image Anal 2017;42:1-13, and the challenge's own
evaluation script, noduleCADEvaluationLUNA16.py. Plain numpy; positions are mm in any one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Point = tuple[float, float, float]

# False positives a scan at which the challenge reads the sensitivity; CPM is the mean of the seven.
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# Diameter bins, mm: [low, high).
SIZES = {
    "3-4 mm": (3.0, 4.0),
    "4-6 mm": (4.0, 6.0),
    "6-8 mm": (6.0, 8.0),
    ">= 8 mm": (8.0, np.inf),
}
ROUNDS = 1000
# A finding without a size has this diameter in the challenge's script.
_UNSIZED_MM = 10.0


@dataclass(frozen=True)
class Truth:
    """A finding that stands in the truth.

    Attributes
    ----------
    center_mm
        Its centre.
    diameter_mm
        A mark nearer than half of it is a hit; below 0 the size is unknown and 10 mm is taken.
    kind
        Such as solid, part_solid, ground_glass, calcified.
    counted
        False for an excluded finding: to mark it or to leave it is neither right nor wrong.
    """

    center_mm: Point
    diameter_mm: float
    kind: str = "solid"
    counted: bool = True


@dataclass(frozen=True)
class Mark:
    """A place that the detector marks.

    Attributes
    ----------
    center_mm
        Its centre, in the truth's frame.
    score
        Higher is surer.
    ignored
        True where the mark lies on a region known to be excluded: no false positive.
    """

    center_mm: Point
    score: float
    ignored: bool = False


@dataclass(frozen=True)
class Outcome:
    """One counted finding, and the best mark on it.

    Attributes
    ----------
    kind, diameter_mm
        The finding's.
    score
        Of the best mark on it; None when it was missed.
    mark
        That mark's index; None when it was missed.
    """

    kind: str
    diameter_mm: float
    score: float | None
    mark: int | None = None


@dataclass(frozen=True)
class ScanScore:
    """What came of one scan.

    Attributes
    ----------
    outcomes
        One a counted finding, in order.
    false
        Scores of the false positives.
    ignored
        Marks on excluded findings or regions.
    doubles
        Further marks on a finding that another mark already hits.
    """

    outcomes: tuple[Outcome, ...]
    false: tuple[float, ...]
    ignored: int = 0
    doubles: int = 0


@dataclass(frozen=True)
class Froc:
    """Sensitivity against false positives a scan.

    Attributes
    ----------
    false_per_scan, sensitivity
        (n,) each; from (0, 0) on, one point a distinct score, rising. Sensitivity is NaN when
        there is no finding.
    thresholds
        (n,): marks of at least this score; infinite for the first point.
    """

    false_per_scan: Floats
    sensitivity: Floats
    thresholds: Floats

    def at(self, rates: Sequence[float] = RATES) -> Floats:
        """Return the sensitivity at rates of false positives, between points by a line.

        Beyond the last false positive the sensitivity stays what it was.
        """
        read: Floats = np.interp(np.asarray(rates), self.false_per_scan, self.sensitivity)
        return read

    @property
    def cpm(self) -> float:
        """Mean sensitivity at the seven rates (competition performance metric)."""
        return float(self.at().mean())


Keep = Callable[[Outcome], bool]


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % bootstrap interval over scans."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Figures of the findings of one kind or size.

    Attributes
    ----------
    name
        Such as "ground_glass" or "4-6 mm".
    findings, hit
        How many there are, and how many any mark hits.
    cpm
        With its interval; the false positives are those of all marks.
    sensitivity
        At the seven rates.
    """

    name: str
    findings: int
    hit: int
    cpm: Interval
    sensitivity: tuple[float, ...] = field(default=())


def score_scan(truths: Sequence[Truth], marks: Sequence[Mark]) -> ScanScore:
    """Match one scan's marks to its findings.

    A mark nearer than the radius hits (at the radius itself it does not). Of several marks on one
    finding the best counts once and the others not at all. A mark that only excluded findings or
    regions explain counts not at all; what is left is false. As in the challenge, a mark inside two
    findings that overlap hits both.
    """
    free = set(range(len(marks)))
    outcomes = []
    doubles = 0
    for truth in truths:
        if not truth.counted:
            continue
        hits = [i for i, mark in enumerate(marks) if _inside(mark, truth)]
        doubles += max(0, len(hits) - 1)
        free.difference_update(hits)
        best = max(hits, key=lambda i: marks[i].score, default=None)
        outcomes.append(
            Outcome(
                truth.kind,
                truth.diameter_mm,
                None if best is None else marks[best].score,
                best,
            )
        )
    excluded = [truth for truth in truths if not truth.counted]
    ignored = {
        i for i in free if marks[i].ignored or any(_inside(marks[i], truth) for truth in excluded)
    }
    false = tuple(marks[i].score for i in sorted(free - ignored))
    return ScanScore(tuple(outcomes), false, len(ignored), doubles)


def froc(scans: Sequence[ScanScore], keep: Keep = lambda outcome: True) -> Froc:
    """Return the curve over scans.

    Parameters
    ----------
    keep
        Which findings count; false positives count all the same, so that a group is read at the
        operating points of the whole.

    Raises ValueError without a scan.
    """
    return Marks(scans, keep).froc(np.ones(len(scans), np.int64))


class Marks:
    """The marks of all scans in order of score, ready for curves over any choice of the scans."""

    def __init__(self, scans: Sequence[ScanScore], keep: Keep = lambda outcome: True) -> None:
        """Sort them; parameters and errors as `froc`."""
        if not scans:
            raise ValueError("a FROC curve needs at least one scan")
        found = [[one.score for one in scan.outcomes if keep(one)] for scan in scans]
        hits = [
            (score, True, i)
            for i, scores in enumerate(found)
            for score in scores
            if score is not None
        ]
        false = [(score, False, i) for i, scan in enumerate(scans) for score in scan.false]
        rows = sorted([*hits, *false], key=lambda row: -row[0])
        self._findings = np.array([len(scores) for scores in found])
        self._scores = np.array([row[0] for row in rows], np.float64)
        self._right = np.array([row[1] for row in rows], bool)
        self._scan = np.array([row[2] for row in rows], np.int64)
        # Marks of one score come together: a point stands only where the score changes.
        self._last = np.flatnonzero(np.diff(self._scores, append=-np.inf))

    def froc(self, times: npt.NDArray[np.int64]) -> Froc:
        """Return the curve when each scan is taken so many times, (scans,)."""
        weight = times[self._scan]
        hit = np.cumsum(weight * self._right)[self._last]
        false = np.cumsum(weight * ~self._right)[self._last]
        total = int(times @ self._findings)
        sensitivity = np.concatenate([[0.0], hit])
        return Froc(
            false_per_scan=np.concatenate([[0.0], false]) / int(times.sum()),
            sensitivity=sensitivity / total if total else np.full(sensitivity.shape, np.nan),
            thresholds=np.concatenate([[np.inf], self._scores[self._last]]),
        )


def resamples(count: int, rounds: int = ROUNDS, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return (rounds, count): how often each scan comes when `count` are drawn with replacement.

    The same seed draws the same.
    """
    drawn = np.random.default_rng(seed).integers(0, count, (rounds, count))
    return np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.int64)


def cpm_interval(
    scans: Sequence[ScanScore], keep: Keep = lambda outcome: True, rounds: int = ROUNDS
) -> Interval:
    """Return CPM with its 95 % interval: percentiles over scans drawn with replacement.

    Rounds that draw no such finding are left out; NaN where none has one.
    """
    marks = Marks(scans, keep)
    values = [marks.froc(times).cpm for times in resamples(len(scans), rounds)]
    return interval(froc(scans, keep).cpm, values)


def interval(value: float, values: Sequence[float]) -> Interval:
    """Return a figure with the 2.5th and 97.5th percentile of its bootstrap values."""
    known = np.array([one for one in values if not np.isnan(one)])
    if not known.size:
        return Interval(value, np.nan, np.nan)
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def group_filters(scans: Sequence[ScanScore]) -> dict[str, Keep]:
    """Return what chooses each group's findings: all, each kind that occurs, each size."""
    kinds = sorted({outcome.kind for scan in scans for outcome in scan.outcomes})
    filters: dict[str, Keep] = {"all": lambda outcome: True}
    for kind in kinds:
        filters[kind] = lambda outcome, kind=kind: outcome.kind == kind  # type: ignore[misc]
    for name in SIZES:
        filters[name] = lambda outcome, name=name: size_bin(outcome.diameter_mm) == name  # type: ignore[misc]
    return filters


def size_bin(diameter_mm: float) -> str | None:
    """Return the name of the bin of a diameter; None below 3 mm."""
    return next((name for name, (low, high) in SIZES.items() if low <= diameter_mm < high), None)


def groups(scans: Sequence[ScanScore], rounds: int = ROUNDS) -> list[Group]:
    """Return the figures of all findings, of each kind and of each size; empty groups left out."""
    found = []
    for name, keep in group_filters(scans).items():
        chosen = [outcome for scan in scans for outcome in scan.outcomes if keep(outcome)]
        if not chosen:
            continue
        found.append(
            Group(
                name,
                len(chosen),
                sum(outcome.score is not None for outcome in chosen),
                cpm_interval(scans, keep, rounds),
                tuple(froc(scans, keep).at().tolist()),
            )
        )
    return found


def _inside(mark: Mark, truth: Truth) -> bool:
    diameter = truth.diameter_mm if truth.diameter_mm >= 0 else _UNSIZED_MM
    apart = np.subtract(mark.center_mm, truth.center_mm)
    return bool(apart @ apart < (diameter / 2) ** 2)
