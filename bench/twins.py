"""Follow-up on simulated patients whose truth is exact: matching, registration, growth, time.

Real lungs, moved, breathed and scanned differently, with nodules that grow, come, go, merge and
split. Everything printed here is of simulated patients.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.referee.command import CACHE, OUT, start
from bench.twinning.judging import (
    LEAST_MM,
    Decision,
    decisions,
    growth_errors,
    place_errors,
)
from bench.twinning.making import patient, times
from bench.twinning.reading import Reader
from bench.twinning.records import PatientRecord
from models.training.simulation.shapes import load_shapes

# Seeds of patients that the figures are of; parameters were chosen on those from 1000 on.
_FIRST_SEED = 3000
# Every fifth patient has five exams.
_LONG, _EXAMS = 5, 5


def main() -> None:
    """Make or read the patients, judge them, print the tables, keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="pairs of exams (10)")
    parser.add_argument(
        "--detector", type=int, default=0, help="pairs that the real detector reads too (0)"
    )
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no patient after this")
    parser.add_argument("--times", action="store_true", help="how time grows with the volume")
    parser.add_argument("--seed", type=int, default=_FIRST_SEED, help="of the first patient")
    parser.add_argument("--out", type=Path, default=OUT / "twins.json")
    chosen = parser.parse_args()
    console = Console(width=150)
    shapes = load_shapes("test")
    if chosen.times:
        tell_times(console, times(chosen.seed, shapes))
        return
    end = time.monotonic() + 60 * chosen.minutes
    patients: list[PatientRecord] = []
    with Reader(None) as reader:
        while (done := sum(len(one.pairs) for one in patients)) < chosen.pairs:
            if time.monotonic() > end:
                console.print(f"time is up after {done} pairs")
                break
            number = len(patients)
            exams = _EXAMS if number % _LONG == 0 else 2
            exams = min(exams, chosen.pairs - done + 1)
            read_by = reader if done < chosen.detector else None
            patients.append(patient(chosen.seed + number, exams, shapes, read_by, CACHE))
            tell_patient(console, patients[-1])
    figures = tell(console, patients)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(figures, indent=1))
    console.print(f"kept in {chosen.out}", highlight=False)


def tell_patient(console: Console, one: PatientRecord) -> None:
    """Print a line a pair."""
    errors = [error.error_mm for error in place_errors(one)]
    judged = decisions(one, found=False)
    console.print(
        f"{one.name}: {len(one.exams)} exams, {sum(d.right for d in judged)} of {len(judged)} "
        f"decisions right, places {np.median(errors or [0]):.1f} mm, "
        f"{max(pair.seconds for pair in one.pairs):.0f} s a pair, "
        f"{max(pair.peak_mib for pair in one.pairs):.0f} MiB",
        highlight=False,
    )


def tell(console: Console, patients: list[PatientRecord]) -> dict[str, object]:
    """Print the tables and return their figures."""
    pairs = [pair for one in patients for pair in one.pairs]
    read = [one for one in patients if one.exams[0].found is not None]
    table = Table(title=f"Simulated patients: {len(patients)}, pairs of exams: {len(pairs)}")
    for name in ("figure", "value", "limit"):
        table.add_column(name)
    figures: dict[str, object] = {"simulated": True, "pairs": len(pairs)}

    def row(name: str, value: str, limit: str = "") -> None:
        figures[name] = value
        table.add_row(name, value, limit)

    for name, some, found in (
        ("true places with noise", patients, False),
        ("what the detector found", read, True),
    ):
        judged = [one for item in some for one in decisions(item, found)]
        if judged:
            right = sum(one.right for one in judged)
            share = 100 * right / len(judged)
            row(f"matching right, {name}", f"{share:.1f} % ({right} of {len(judged)})", "≥ 99 %")
            row(f"false new, {name}", str(sum(one.false_new for one in judged)), "0")
            missed = Counter(one.said for one in judged if one.missed)
            if found:
                row("called so as the other exam's one was missed", str(dict(missed)), "0 NEW")
                told = Counter(one.said for one in judged if one.missed and one.told)
                row("of these told as shown in the other exam", str(dict(told)), "all")
            alone = [one for one in judged if one.said in ("NEW", "RESOLVED") and not one.missed]
            wrongly = sum(one.told for one in alone if one.right)
            row(f"told so though truly new or gone, {name}", f"{wrongly} of {len(alone)}", "0")
            tell_wrong(console, name, judged)
    places = [error for one in patients for error in place_errors(one)]
    row(
        "registration at nodules, median, 95 %, most mm",
        _spread([one.error_mm for one in places]),
        "≤ 3 median",
    )
    deep = [one.error_mm for one in places if one.breath_mm > 15]
    row("the same, breath differs by more than 15 mm", _spread(deep), "≤ 3 median")
    row("methods", str(dict(Counter(one.method for one in places))))
    grown = [one for item in read for one in growth_errors(item) if one.diameter_mm >= LEAST_MM]
    for name, some_grown in (
        ("all", grown),
        ("one technique", [one for one in grown if one.alike]),
    ):
        volumes = [abs(one.volume) for one in some_grown]
        doubling = [abs(one.doubling) for one in some_grown if one.doubling is not None]
        if volumes:
            row(f"volume change error ≥ 6 mm, {name} ({len(volumes)})", _shares(volumes), "≤ 10 %")
        if doubling:
            row(f"VDT error ≥ 6 mm, {name} ({len(doubling)})", _shares(doubling), "≤ 15 %")
    row("seconds a pair, median, most", _most([pair.seconds for pair in pairs]), "≤ 20")
    row("processor seconds a pair", _most([pair.processor_seconds for pair in pairs]))
    row("peak MiB", _most([pair.peak_mib for pair in pairs]), "≤ 2048")
    console.print(table)
    return figures


def tell_wrong(console: Console, name: str, judged: list[Decision]) -> None:
    """Print the wrong decisions."""
    for one in judged:
        if not one.right:
            console.print(
                f"wrong ({name}): {one.patient} {one.nodule}: {one.said}, "
                f"right {' or '.join(one.right_answers)}",
                highlight=False,
            )


def tell_times(console: Console, measured: list[tuple[float, float, float]]) -> None:
    """Print how time grows with the volume."""
    table = Table(title="Registration of one simulated pair on finer and coarser voxels")
    for name in ("million voxels, both exams", "seconds", "peak MiB", ""):
        table.add_column(name)
    longest = max(seconds for _, seconds, _ in measured)
    for voxels, seconds, peak in measured:
        bar = "█" * max(1, round(40 * seconds / longest))
        table.add_row(f"{voxels:.1f}", f"{seconds:.1f}", f"{peak:.0f}", bar)
    console.print(table)


def _spread(values: list[float]) -> str:
    if not values:
        return "none"
    middle, high, most = np.percentile(values, (50, 95, 100))
    return f"{middle:.2f}, {high:.2f}, {most:.2f} (n = {len(values)})"


def _shares(values: list[float]) -> str:
    middle, high = np.percentile(values, (50, 95))
    return f"median {100 * middle:.1f} %, 95th percentile {100 * high:.1f} %"


def _most(values: list[float]) -> str:
    return f"{np.median(values):.1f}, {max(values):.1f}" if values else "none"


if __name__ == "__main__":
    start(main)
