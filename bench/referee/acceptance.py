"""Whether a model version may take the place of the one in service, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.referee.results import Run, ScanResult
from bench.referee.scoring import ROUNDS, Interval, Marks, froc, groups, interval, resamples

# CPM of a kind or size that may be lost.
MOST_GROUP_LOSS = 0.05
# Seconds a scan that may be lost to noise of the clock, as a share.
MOST_SLOWER = 0.10
# One CT through detection on two cores, s.
MOST_SECONDS = 25.0


@dataclass(frozen=True)
class Verdict:
    """What the referee says.

    Attributes
    ----------
    reasons
        Each one refuses; empty when the candidate is accepted.
    change
        Of CPM, candidate - in service, with its 95 % interval over the same scans.
    groups
        Change of CPM by kind and size.
    seconds
        Median a scan: in service, candidate.
    """

    reasons: tuple[str, ...]
    change: Interval
    groups: dict[str, float]
    seconds: tuple[float, float]

    @property
    def accepted(self) -> bool:
        """Whether nothing refuses it."""
        return not self.reasons


def judge(in_service: Run, candidate: Run, rounds: int = ROUNDS) -> Verdict:
    """Compare two versions on the same scans.

    Refused are: a CPM that is lower (the whole 95 % interval of the paired bootstrap below 0, or
    more than MOST_GROUP_LOSS in value), a kind or size that loses more than MOST_GROUP_LOSS, and a
    median time that is above MOST_SECONDS and more than MOST_SLOWER longer than before.

    Raises ValueError when the two did not read the same scans with the same findings.
    """
    _same_scans(in_service, candidate)
    old, new = Marks(in_service.scores), Marks(candidate.scores)
    value = froc(candidate.scores).cpm - froc(in_service.scores).cpm
    change = interval(
        value,
        [
            new.froc(times).cpm - old.froc(times).cpm
            for times in resamples(len(in_service.scans), rounds)
        ],
    )
    before = {group.name: group.cpm.value for group in groups(in_service.scores, rounds=1)}
    after = {group.name: group.cpm.value for group in groups(candidate.scores, rounds=1)}
    changes = {name: after[name] - before[name] for name in before if name != "all"}
    seconds = _median(in_service.scans), _median(candidate.scans)
    reasons = []
    if change.high < 0 or value < -MOST_GROUP_LOSS:
        reasons.append(
            f"CPM falls by {-value:.3f} (95 % interval of the change "
            f"{change.low:+.3f} to {change.high:+.3f}, same scans)"
        )
    reasons += [
        f"CPM of {name} falls by {-by:.3f}, more than {MOST_GROUP_LOSS:.2f}"
        for name, by in changes.items()
        if by < -MOST_GROUP_LOSS
    ]
    if seconds[1] > MOST_SECONDS and seconds[1] > (1 + MOST_SLOWER) * seconds[0]:
        reasons.append(
            f"a scan takes {seconds[1]:.1f} s, above {MOST_SECONDS:.0f} s "
            f"and longer than the {seconds[0]:.1f} s in service"
        )
    return Verdict(tuple(reasons), change, changes, seconds)


def _same_scans(one: Run, other: Run) -> None:
    if one.condition != other.condition:
        raise ValueError(f"the conditions differ: {one.condition}, {other.condition}")
    if [_content(scan) for scan in one.scans] != [_content(scan) for scan in other.scans]:
        raise ValueError("the two files are not of the same scans: run both with one --scans")


def _content(scan: ScanResult) -> tuple[str, list[tuple[str, float]]]:
    return scan.name, [(one.kind, one.diameter_mm) for one in scan.score.outcomes]


def _median(scans: Sequence[ScanResult]) -> float:
    return float(np.median([scan.seconds for scan in scans]))
