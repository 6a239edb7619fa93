"""The referee's tables, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.referee.measures import summary
from bench.referee.results import Run, ScanResult
from bench.referee.scoring import RATES, Interval, cpm_interval, froc

# Loss of CPM that a condition may cost without a warning on the report.
MOST_LOSS = 0.10
_NAMES = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}


def tell_scan(console: Console, result: ScanResult) -> None:
    """Print one scan's line as soon as it is read."""
    outcomes = result.score.outcomes
    hit = sum(one.score is not None for one in outcomes)
    console.print(
        f"{result.name}: {hit} of {len(outcomes)} marked, {len(result.score.false)} other marks, "
        f"{result.seconds:.1f} s",
        highlight=False,
    )


def detection_table(run: Run) -> Table:
    """Return sensitivity at the seven rates and CPM, for all, each kind and each size."""
    table = Table(title=f"Detection by LUNA16's rules: {run.label}")
    table.add_column("nodules")
    table.add_column("n", justify="right")
    for rate in RATES:
        table.add_column(f"{_NAMES.get(rate, f'{rate:g}')} FP", justify="right")
    table.add_column("CPM (95 %)", justify="right")
    for group in run.groups():
        table.add_row(
            group.name,
            str(group.findings),
            *(f"{value:.2f}" for value in group.sensitivity),
            _interval(group.cpm),
        )
    return table


def segmentation_table(run: Run) -> Table:
    """Return Dice and the errors of sizes, for all and each kind, of nodules that were marked."""
    table = Table(title=f"Outlines of marked nodules: {run.label}")
    for name in (
        "nodules",
        "n",
        "Dice",
        "median Dice",
        "diameter: median |error|",
        "bias",
        "volume: median |error|",
        "mean bias",
        "median bias",
        "solid part: |volume| / whole",
        "|diameter|",
        "type right",
    ):
        table.add_column(name, justify="left" if name == "nodules" else "right")
    for kind in (None, *sorted({one.kind for one in run.errors()})):
        figures = summary(run.errors(kind))
        table.add_row(
            kind or "all",
            str(figures["nodules"]),
            _number(figures["dice"]),
            _number(figures["dice_median"]),
            _percent(figures["diameter_error"], sign=False),
            _percent(figures["diameter_bias"]),
            _percent(figures["volume_error"], sign=False),
            _percent(figures["volume_bias"]),
            _percent(figures["volume_bias_median"]),
            _percent(figures["solid_volume_error"], sign=False),
            "-"
            if figures["solid_diameter_error_mm"] is None
            else f"{figures['solid_diameter_error_mm']:.1f} mm",
            _percent(figures["typed"], sign=False),
        )
    return table


def robustness_table(runs: Sequence[Run]) -> Table:
    """Return one row a condition, beside the scans as they are (the first run)."""
    table = Table(title=f"Robustness: {runs[0].label.split(',')[0]}")
    for name in ("condition", "n", "CPM (95 %)", "change", "Dice", "diameter", "volume bias"):
        table.add_column(name, justify="left" if name == "condition" else "right")
    table.add_column("warned of on the report")
    table.add_column("verdict")
    for run in runs:
        findings = sum(len(scan.score.outcomes) for scan in run.scans)
        figures = summary(run.errors())
        warned = warnings_beyond(run, runs[0])
        table.add_row(
            run.condition,
            str(findings),
            _interval(cpm_interval(run.scores)),
            f"{0 - loss(run, runs[0]):+.2f}" if run is not runs[0] else "",
            _number(figures["dice"]),
            _percent(figures["diameter_error"], sign=False),
            _percent(figures["volume_bias"]),
            ", ".join(warned),
            verdict(run, runs[0]),
        )
    return table


def loss(run: Run, first: Run) -> float:
    """Return how much CPM a condition costs, on the scans that it has."""
    names = {scan.name for scan in run.scans}
    same = [scan.score for scan in first.scans if scan.name in names]
    return froc(same).cpm - froc(run.scores).cpm


def warnings_beyond(run: Run, first: Run) -> list[str]:
    """Return the quality warnings that a condition adds to every one of its scans."""
    before = {code for scan in first.scans for code in scan.warnings}
    every = set.intersection(*(set(scan.warnings) for scan in run.scans))
    return sorted(every - before)


def verdict(run: Run, first: Run) -> str:
    """Return ok, warned or LOST: a loss above the limit that no warning speaks of."""
    if run is first or loss(run, first) <= MOST_LOSS:
        return "ok"
    return "warned" if warnings_beyond(run, first) else f"LOST > {MOST_LOSS:.2f}"


def closing_lines(run: Run) -> list[str]:
    """Return what stands below the tables: the shipped threshold, time, memory, versions."""
    hits, false = np.array([scan.at_threshold for scan in run.scans]).T
    total = sum(len(scan.score.outcomes) for scan in run.scans)
    seconds = [scan.seconds for scan in run.scans]
    peak = "not measured" if run.triton_peak_mib is None else f"{run.triton_peak_mib:.0f} MiB"
    return [
        f"at the shipped threshold: {hits.sum()} of {total} found, "
        f"{false.mean():.2f} false positives a scan",
        f"detection stage, every mark kept: median {np.median(seconds):.1f} s a scan "
        f"(most {max(seconds):.1f}); Triton's peak memory {peak}",
        "models: " + ", ".join(run.models),
    ]


def _interval(value: Interval) -> str:
    return f"{value.value:.3f} ({value.low:.2f} to {value.high:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None, sign: bool = True) -> str:
    return "-" if value is None else f"{value:+.1%}" if sign else f"{value:.1%}"
