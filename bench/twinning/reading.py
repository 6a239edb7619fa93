"""What the real detection stage finds in a simulated exam, and which nodule each finding hits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.referee.cases import Case, finding_of
from bench.referee.run import Referee, grid_of
from models.training.simulation.twins import TwinExam

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Reading:
    """A found nodule; `hit` names the planted one whose ball it lies in, else it is empty."""

    hit: str
    center_zyx: Triple
    mean_diameter_mm: float
    volume_mm3: float
    type: int


class Reader(Referee):
    """Runs the detection stage as shipped: threshold, networks, number of nodules."""

    @property
    def fingerprint(self) -> str:
        """Return a digest of networks and code."""
        return self._code

    def read_exam(self, scan: TwinExam) -> list[Reading]:
        """Return what is found in an exam; of two that hit one nodule, the nearer has it."""
        case = Case(
            name=scan.name,
            simulated=True,
            hu=scan.hu,
            lungs=scan.lungs,
            spacing=scan.spacing,
            slice_mm=scan.slice_mm,
            findings=tuple(finding_of(planted) for planted in scan.nodules.values()),
            ignore=scan.ignore,
        )
        event, _ = self.detected(self._event(case))
        grid = grid_of(case)
        centers = [grid.to_index(list(one.center_lps_mm))[::-1] for one in event.nodules]
        hits = _hits(scan, centers)
        return [
            Reading(
                hits.get(number, ""),
                _triple(center),
                one.measurement.mean_diameter_mm,
                one.measurement.volume_mm3,
                int(one.type),
            )
            for number, (one, center) in enumerate(zip(event.nodules, centers, strict=True))
        ]


def _hits(
    scan: TwinExam, centers: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]
) -> dict[int, str]:
    options = sorted(
        (float(np.linalg.norm((center - planted.center_zyx) * scan.spacing)), number, name)
        for number, center in enumerate(centers)
        for name, planted in scan.nodules.items()
    )
    taken: dict[int, str] = {}
    for away, number, name in options:
        if number in taken or name in taken.values():
            continue
        if away < max(3.0, scan.nodules[name].diameter_mm / 2):
            taken[number] = name
    return taken


def _triple(place: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Triple:
    z, y, x = place.tolist()
    return z, y, x
