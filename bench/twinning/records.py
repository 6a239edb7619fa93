"""What is kept of a simulated patient once its voxels are gone: enough to judge any matching."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Nodule:
    """A nodule of the truth, or one that the detector found.

    Attributes
    ----------
    name
        Its courses joined by "+"; of a found one, of the nodule that it hits, else empty.
    center
        LPS of its own exam, mm.
    type
        Number of the NoduleType.
    """

    nodule_id: str
    name: str
    center: Place
    mean_diameter_mm: float
    volume_mm3: float
    type: int
    lobe: int

    @property
    def courses(self) -> frozenset[str]:
        """Return the simulated nodules that it is made of."""
        return frozenset(self.name.split("+")) if self.name else frozenset()


@dataclass(frozen=True)
class ExamRecord:
    """One exam.

    Attributes
    ----------
    hidden
        Courses that are there but that the exam does not show.
    found
        What the detector found at its shipped threshold; None where it was not run.
    """

    name: str
    days: int
    breath_mm: float
    technique: str
    hidden: tuple[str, ...]
    truth: tuple[Nodule, ...]
    found: tuple[Nodule, ...] | None


@dataclass(frozen=True)
class PairRecord:
    """Two exams laid over each other.

    Attributes
    ----------
    earlier, current
        Numbers of the exams.
    laying
        JSON of the Laying, which knows the nodules of the truth and the found ones.
    seconds, processor_seconds, peak_mib
        Of the laying in a process of its own, reading the voxels apart.
    million_voxels
        Of both exams.
    places
        By nodule id, of either exam: where it truly lies in the other one, LPS mm.
    outside_mm
        By nodule id: how far that place lies outside the other's field of view; negative inside.
    """

    earlier: int
    current: int
    laying: str
    seconds: float
    processor_seconds: float
    peak_mib: float
    million_voxels: float
    places: Mapping[str, Place]
    outside_mm: Mapping[str, float]


@dataclass(frozen=True)
class PatientRecord:
    """A simulated patient."""

    name: str
    exams: tuple[ExamRecord, ...]
    pairs: tuple[PairRecord, ...]

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> PatientRecord:
        """Read what `write` kept."""
        kept = json.loads(path.read_text())
        return cls(
            name=kept["name"],
            exams=tuple(_exam(one) for one in kept["exams"]),
            pairs=tuple(
                PairRecord(**{**one, "places": {k: tuple(v) for k, v in one["places"].items()}})
                for one in kept["pairs"]
            ),
        )


def _exam(kept: dict[str, Any]) -> ExamRecord:
    found = kept["found"]
    return ExamRecord(
        **{
            **kept,
            "hidden": tuple(kept["hidden"]),
            "truth": tuple(_nodule(one) for one in kept["truth"]),
            "found": None if found is None else tuple(_nodule(one) for one in found),
        }
    )


def _nodule(kept: dict[str, Any]) -> Nodule:
    return Nodule(**{**kept, "center": tuple(kept["center"])})
