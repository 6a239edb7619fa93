"""Random studies: sizes of real chest CT, arrivals of a day with a morning peak."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lungmesh.mesh.contract import LANES

TABLE = Path(__file__).with_name("chest_ct.csv")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Quantiles of a study's size.

    Attributes
    ----------
    percentile
        0 to 99, rising.
    columns
        `instances`, `largest_series`, `megabytes` at each percentile.
    """

    percentile: Floats
    columns: Mapping[str, Floats]

    def at(self, column: str, share: Floats) -> Floats:
        """Return sizes at shares 0 … 1; above the last quantile the last counts."""
        return np.interp(100 * share, self.percentile, self.columns[column])

    def mean(self, column: str) -> float:
        """Return the mean, by the shares below the last quantile."""
        return float(self.at(column, np.linspace(0, 0.99, 200)).mean())


def read_sizes() -> Sizes:
    """Read the table of real chest CT."""
    with TABLE.open() as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    return Sizes(columns.pop("percentile"), columns)


def day_profile(peak: float) -> Floats:
    """Return the rate of each hour of a working day over the day's mean.

    No public source tells the hours of studies (archives remove them), so the shape is assumed: it
    rises from 7 to a morning peak of `peak` times the mean at 9 to 11, ebbs over the afternoon, and
    a tenth of the mean arrives at night. The afternoon takes what is left of the mean.
    """
    night, shoulder, morning = 0.1, (1 + peak) / 2, peak
    hours = np.full(24, night)
    hours[[7, 11]] = shoulder
    hours[8:11] = morning
    afternoon = np.arange(12, 20)
    hours[afternoon] = (24 - hours.sum() + night * len(afternoon)) / len(afternoon)
    if hours[afternoon].min() < night:
        raise ValueError(f"a peak of {peak:g} times the mean leaves nothing for the afternoon")
    return hours


def arrivals(
    rng: np.random.Generator, a_day: float, profile: Floats, hours: Sequence[int]
) -> Floats:
    """Return seconds of a Poisson process from the beginning of the first of these hours."""
    found = []
    for place, hour in enumerate(hours):
        count = rng.poisson(a_day / 24 * profile[hour % 24])
        found.append(3600 * (place + rng.random(count)))
    return np.sort(np.concatenate(found))


def lanes(rng: np.random.Generator, count: int, shares: Sequence[float]) -> list[str]:
    """Draw the lane of each study; `shares` of stat, routine and backfill sum to 1."""
    return [LANES[number] for number in rng.choice(len(LANES), count, p=list(shares))]
