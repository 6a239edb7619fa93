"""A region on the model: 200 hospitals, 30,000 CT a day, a morning peak.

What is measured and what is assumed is told apart in `costs.json` and in the printed table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.plan.draws import Floats, arrivals, day_profile, lanes, read_sizes
from bench.plan.model import Mesh, StageShape, Steps, Study

COSTS = Path(__file__).with_name("costs.json")
# From the night's quiet into the afternoon: the peak and what it leaves behind.
HOURS = tuple(range(6, 14))
# Of the CT whose seconds are in `costs.json`.
SLICES = 133
_EVERY_SECONDS = 30.0
Disturbance = Callable[[Mesh], Steps]


@dataclass(frozen=True)
class Region:
    """What comes.

    Attributes
    ----------
    a_day
        Studies a day, of all hospitals.
    peak
        Rate of the busiest hours over the day's mean.
    shares
        Of stat, routine and backfill.
    """

    hospitals: int = 200
    a_day: float = 30_000
    peak: float = 3.0
    shares: tuple[float, float, float] = (0.05, 0.80, 0.15)

    @property
    def peak_rate(self) -> float:
        """CT a second in the busiest hours."""
        return self.a_day / 24 * self.peak / 3600


@dataclass(frozen=True)
class Cost:
    """Handler seconds of a stage for one study.

    Attributes
    ----------
    seconds
        For a study of `SLICES` images to read; the share `grows` of them grows with the images.
    """

    seconds: float
    grows: float

    def of(self, slices: float) -> float:
        """Return the seconds of a study with so many images to read."""
        return self.seconds * (1 - self.grows + self.grows * slices / SLICES)


@dataclass(frozen=True)
class Scaling:
    """KEDA on a stage's lag, and how long a pod takes to come.

    Attributes
    ----------
    lag_a_pod
        Waiting events that one more pod is started for.
    poll, start, cool_down
        Seconds between looks, from a decision to a working pod (a node with it), and without need
        before a pod goes.
    """

    least: int
    most: int
    lag_a_pod: float = 2.0
    poll: float = 30.0
    start: float = 300.0
    cool_down: float = 900.0


@dataclass(frozen=True)
class Outcome:
    """What a plan gives.

    Attributes
    ----------
    turnaround
        Seconds from a study's last image to its report, by lane.
    pod_hours
        By stage, over the hours that were run.
    """

    turnaround: Mapping[str, Floats]
    pod_hours: Mapping[str, float]

    def high(self, lane: str) -> float:
        """Return the 95th percentile of a lane's turnaround, seconds."""
        return float(np.percentile(self.turnaround[lane], 95))


def read_costs() -> dict[str, Any]:
    """Read costs, prices and limits, each with its source."""
    found: dict[str, Any] = json.loads(COSTS.read_text())
    return found


def stages(
    costs: Mapping[str, Any], gpu_seconds: float | None
) -> tuple[dict[str, Cost], dict[str, str | None]]:
    """Return cost and predecessor of each stage on the way to the report.

    With `gpu_seconds` detection takes these on a GPU node, whatever the size of the study; else
    what was measured on two cores.
    """
    found = {name: Cost(row["seconds"], row["grows"]) for name, row in costs["stages"].items()}
    if gpu_seconds is not None:
        found["detection"] = Cost(gpu_seconds, 0.0)
    return found, {name: row["after"] for name, row in costs["stages"].items()}


def draw(
    region: Region, cost: Mapping[str, Cost], seed: int, hours: Sequence[int] = HOURS
) -> list[Study]:
    """Return the studies of some hours of a day."""
    rng = np.random.default_rng(seed)
    at = arrivals(rng, region.a_day, day_profile(region.peak), hours)
    return _studies(rng, region, cost, at, seed)


def _studies(
    rng: np.random.Generator, region: Region, cost: Mapping[str, Cost], at: Floats, seed: int
) -> list[Study]:
    size = read_sizes().at("largest_series", rng.random(len(at)))
    return [
        Study(
            key=f"{seed}-{number}",
            arrival=float(at[number]),
            lane=lane,
            seconds={name: one.of(size[number]) for name, one in cost.items()},
        )
        for number, lane in enumerate(lanes(rng, len(at), region.shares))
    ]


def mean_seconds(cost: Cost) -> float:
    """Return the mean over the sizes of real CT."""
    return cost.of(read_sizes().mean("largest_series"))


def pods_for(rate: float, cost: Cost, busy: float, least: int = 2) -> int:
    """Return the pods that are busy for a share of the time at a rate, CT a second."""
    return max(least, int(np.ceil(rate * mean_seconds(cost) / busy)))


def shapes(
    after: Mapping[str, str | None], pods: Mapping[str, int], most: Mapping[str, int] | None = None
) -> list[StageShape]:
    """Return the stages as deployed; four partitions for the most pods that a stage may have."""
    return [
        StageShape(
            name,
            after[name],
            pods=pods[name],
            partitions=4 * (most[name] if most else pods[name]),
        )
        for name in after
    ]


def run(
    studies: Sequence[Study],
    deployed: Sequence[StageShape],
    hop_seconds: float,
    last: str,
    disturb: Disturbance | None = None,
) -> Outcome:
    """Send the studies through and return what came of it."""
    mesh = Mesh(deployed, hop_seconds)
    pod_hours = dict.fromkeys(mesh.stations, 0.0)
    mesh.env.process(_count(mesh, pod_hours, studies[-1].arrival))
    if disturb is not None:
        mesh.env.process(disturb(mesh))
    by_lane: dict[str, list[float]] = {}
    for study, ends in mesh.run(studies):
        by_lane.setdefault(study.lane, []).append(ends[last] - study.arrival)
    return Outcome({lane: np.array(found) for lane, found in by_lane.items()}, pod_hours)


def _count(mesh: Mesh, pod_hours: dict[str, float], until: float) -> Steps:
    while mesh.env.now < until:
        for name, station in mesh.stations.items():
            pod_hours[name] += len(station.pods) * _EVERY_SECONDS / 3600
        yield mesh.env.timeout(_EVERY_SECONDS)


class Autoscaler:
    """KEDA on a stage's lag, while studies arrive."""

    def __init__(self, stage: str, scaling: Scaling, until: float) -> None:
        self._stage = stage
        self._scaling = scaling
        self._until = until
        self._coming = 0

    def __call__(self, mesh: Mesh) -> Steps:
        """Look, start, and after a time without need let go."""
        station, scaling = mesh.stations[self._stage], self._scaling
        calm_since: float | None = None
        while mesh.env.now < self._until:
            yield mesh.env.timeout(scaling.poll)
            wanted = int(np.ceil(station.lag / scaling.lag_a_pod))
            wanted = min(scaling.most, max(scaling.least, wanted))
            there = len(station.pods)
            if wanted >= there:
                calm_since = None
                if wanted > there + self._coming:
                    mesh.env.process(self._bring(mesh, wanted - there - self._coming))
            elif not self._coming:
                calm_since = mesh.env.now if calm_since is None else calm_since
                if mesh.env.now - calm_since >= scaling.cool_down:
                    station.resize(wanted)
                    calm_since = None

    def _bring(self, mesh: Mesh, pods: int) -> Steps:
        self._coming += pods
        yield mesh.env.timeout(self._scaling.start)
        self._coming -= pods
        station = mesh.stations[self._stage]
        station.resize(len(station.pods) + pods)


def lost_zone(at: float, back_after: float, noticed_after: float) -> Disturbance:
    """Lose every third pod of each stage at a second; new ones are there `back_after` later."""

    def steps(mesh: Mesh) -> Steps:
        yield mesh.env.timeout(at)
        before = {name: len(station.pods) for name, station in mesh.stations.items()}
        for name, station in mesh.stations.items():
            station.lose(before[name] // 3, noticed_after)
        yield mesh.env.timeout(back_after)
        for name, station in mesh.stations.items():
            station.resize(before[name])

    return steps


def steady(rate: float, cost: Mapping[str, Cost], seed: int, seconds: float) -> list[Study]:
    """Return studies that arrive at one rate, CT a second."""
    region = Region(hospitals=1, a_day=rate * 86400, peak=1.0)
    rng = np.random.default_rng(seed)
    at = np.sort(rng.random(rng.poisson(rate * seconds)) * seconds)
    return _studies(rng, region, cost, at, seed)
