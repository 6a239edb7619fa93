"""The demo's result beside what the four readers found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lungmesh.demo.case import CaseTruth
from lungmesh.mesh.contract import name_of
from lungmesh.v1.nodule_pb2 import Lobe

LARGEST_DISTANCE_MM = 5.0
LARGEST_DIAMETER_ERROR = 0.25


@dataclass(frozen=True)
class Comparison:
    """The nodule nearest to the readers', and how near it is.

    Attributes
    ----------
    number
        Its number in the report; None when the report has no nodule.
    distance_mm
        Between its centre and the readers', infinite without one.
    mean_diameter_mm, readers_mean_diameter_mm
        Its own and the readers', mm.
    lobe, readers_lobe
        Such as left_lower.
    candidates, above
        All nodules of the report, and how many of them have a higher detection score. The readers
        marked one nodule of 3 mm or more in this CT, so the others are false candidates.
    """

    number: int | None
    distance_mm: float
    mean_diameter_mm: float
    readers_mean_diameter_mm: float
    lobe: str
    readers_lobe: str
    candidates: int
    above: int

    @property
    def diameter_error(self) -> float:
        """Relative difference of the mean diameters, positive when ours is larger."""
        return self.mean_diameter_mm / self.readers_mean_diameter_mm - 1

    @property
    def found(self) -> bool:
        """Whether it counts as the readers' nodule."""
        return self.distance_mm <= LARGEST_DISTANCE_MM

    @property
    def well_measured(self) -> bool:
        """Whether its size is the readers'."""
        return abs(self.diameter_error) <= LARGEST_DIAMETER_ERROR


def compare(nodules: Sequence[Mapping[str, Any]], truth: CaseTruth) -> Comparison:
    """Compare the nodules of a `summary.json` with the case's truth."""

    def distance(nodule: Mapping[str, Any]) -> float:
        return math.dist(nodule["center_lps_mm"], truth.center_lps_mm)

    readers_lobe = name_of(Lobe.DESCRIPTOR, truth.lobe)
    nearest = min(nodules, key=distance, default=None)
    if nearest is None:
        return Comparison(
            None, math.inf, 0.0, truth.mean_diameter_mm, "", readers_lobe, candidates=0, above=0
        )
    return Comparison(
        number=nearest["number"],
        distance_mm=distance(nearest),
        mean_diameter_mm=nearest["mean_diameter_mm"],
        readers_mean_diameter_mm=truth.mean_diameter_mm,
        lobe=nearest["lobe"],
        readers_lobe=readers_lobe,
        candidates=len(nodules),
        above=sum(item["detection_score"] > nearest["detection_score"] for item in nodules),
    )
