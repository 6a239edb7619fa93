"""What a run found, scan by scan, as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.referee.measures import Errors, summary
from bench.referee.scoring import RATES, Group, Outcome, ScanScore, groups

SCHEMA = "lungmesh-referee/1"


@dataclass(frozen=True)
class ScanResult:
    """One scan through the detection stage.

    Attributes
    ----------
    name
        The scan's.
    score
        Findings hit and missed, and the false positives.
    errors
        Of the findings that were hit and can be measured.
    seconds
        Of the detection stage: reading the volume to keeping the masks.
    at_threshold
        Findings hit, and false positives, among marks of at least the shipped score.
    models
        Name and version of what found them.
    warnings
        Codes of the quality rules that warn of this scan on the report.
    """

    name: str
    score: ScanScore
    errors: tuple[Errors, ...]
    seconds: float
    at_threshold: tuple[int, int]
    models: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ScanResult:
        """Read a row back."""
        score = row["score"]
        hit, false = row["at_threshold"]
        return cls(
            name=row["name"],
            score=ScanScore(
                tuple(Outcome(**one) for one in score["outcomes"]),
                tuple(score["false"]),
                score["ignored"],
                score["doubles"],
            ),
            errors=tuple(Errors(**one) for one in row["errors"]),
            seconds=row["seconds"],
            at_threshold=(hit, false),
            models=tuple(row["models"]),
            warnings=tuple(row["warnings"]),
        )


@dataclass(frozen=True)
class Run:
    """All scans under one condition.

    Attributes
    ----------
    simulated
        True when the nodules were put in by the simulator; every table and plot says so.
    condition
        "as scanned", or what was done to the scans.
    scans
        One result a scan.
    triton_peak_mib
        Triton's largest memory with its helpers (PSS), MiB; None when no scan was read anew.
    """

    simulated: bool
    condition: str
    scans: tuple[ScanResult, ...]
    triton_peak_mib: float | None = None

    @property
    def label(self) -> str:
        """What stands on top of every table and plot."""
        where = "SIMULATED nodules" if self.simulated else "readers' nodules, real scans"
        return f"{where}, {self.condition}"

    @property
    def models(self) -> tuple[str, ...]:
        """Name and version of everything that took part."""
        return tuple(sorted({model for scan in self.scans for model in scan.models}))

    @property
    def scores(self) -> list[ScanScore]:
        """The scans' scores."""
        return [scan.score for scan in self.scans]

    def errors(self, kind: str | None = None) -> list[Errors]:
        """Return the errors of all scans, or of one kind of nodule."""
        return [
            one for scan in self.scans for one in scan.errors if kind is None or one.kind == kind
        ]

    def groups(self) -> list[Group]:
        """Return the figures of all findings, each kind and each size."""
        return groups(self.scores)

    def to_json(self) -> dict[str, Any]:
        """Return figures and rows; the rows alone give every figure again."""
        kinds = sorted({one.kind for one in self.errors()})
        return {
            "simulated": self.simulated,
            "condition": self.condition,
            "models": list(self.models),
            "rates": list(RATES),
            "groups": [asdict(group) for group in self.groups()],
            "segmentation": {
                "all": dict(summary(self.errors())),
                **{kind: dict(summary(self.errors(kind))) for kind in kinds},
            },
            "seconds": [round(scan.seconds, 2) for scan in self.scans],
            "triton_peak_mib": self.triton_peak_mib,
            "scans": [scan.to_json() for scan in self.scans],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        """Read the rows back."""
        return cls(
            data["simulated"],
            data["condition"],
            tuple(ScanResult.from_json(row) for row in data["scans"]),
            data["triton_peak_mib"],
        )


@dataclass(frozen=True)
class Results:
    """What a script of the referee prints and keeps.

    Attributes
    ----------
    runs
        One a condition; the first is that of the scans as they are.
    """

    runs: Sequence[Run] = field(default_factory=tuple)

    def write(self, path: Path) -> None:
        """Keep them as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"schema": SCHEMA, "runs": [run.to_json() for run in self.runs]}
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read them back.

        Raises ValueError for another kind of file.
        """
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"{path} was not written by the referee ({SCHEMA})")
        return cls(tuple(Run.from_json(run) for run in data["runs"]))
