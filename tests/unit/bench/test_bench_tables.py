"""What the referee prints."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table

from bench.referee.measures import Errors
from bench.referee.results import Run, ScanResult
from bench.referee.scoring import Outcome, ScanScore
from bench.referee.tables import (
    closing_lines,
    detection_table,
    robustness_table,
    segmentation_table,
)


def run(condition: str, found: int, warnings: tuple[str, ...] = (), simulated: bool = True) -> Run:
    """Return three alike scans: `found` of four solid nodules of 9 mm, and one false mark."""
    outcomes = tuple(Outcome("solid", 9.0, 0.9 if i < found else None) for i in range(4))
    scan = ScanResult(
        "scan",
        ScanScore(outcomes, (0.6,)),
        (Errors("solid", 9.0, 0.9, 0.04, -0.02, None, None, True),) * found,
        12.0,
        (found, 1),
        ("nodule_detector 1",),
        warnings,
    )
    return Run(simulated, condition, (scan,) * 3, 900.0)


def text(table: Table) -> list[list[str]]:
    """Return the table's title and rows as cells."""
    out = StringIO()
    Console(width=240, file=out).print(table)
    lines = out.getvalue().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1] or [line]] for line in lines]


def test_detection_prints_sensitivity_and_cpm_of_each_group_under_the_word_simulated() -> None:
    rows = text(detection_table(run("as scanned", 3)))
    assert "SIMULATED nodules, as scanned" in rows[0][0]
    assert ["all", "12", *["0.75"] * 7, "0.750 (0.75 to 0.75)"] in rows
    assert [row[0] for row in rows if len(row) > 8] == ["all", "solid", ">= 8 mm"]


def test_real_scans_are_not_called_simulated() -> None:
    title = text(detection_table(run("as scanned", 3, simulated=False)))[0][0]
    assert "readers' nodules, real scans" in title
    assert "SIMULATED" not in title


def test_segmentation_prints_what_was_measured_and_a_dash_for_what_was_not() -> None:
    rows = text(segmentation_table(run("as scanned", 3)))
    (row,) = (row for row in rows if row[0] == "all")
    assert row[1:] == [
        *("9", "0.900", "0.900", "2.0%", "-2.0%", "4.0%", "+4.0%", "+4.0%"),
        *("-", "-", "100.0%"),
    ]


def test_robustness_prints_the_change_the_warning_and_the_verdict() -> None:
    runs = [
        run("as scanned", 4),
        run("soft kernel", 4),
        run("quarter dose", 2),
        run("5 mm slices", 1, ("slice_thickness",)),
    ]
    rows = [row for row in text(robustness_table(runs)) if len(row) > 1]
    verdicts = {row[0]: (row[3], row[-2], row[-1]) for row in rows}
    assert verdicts == {
        "as scanned": ("", "", "ok"),
        "soft kernel": ("+0.00", "", "ok"),
        "quarter dose": ("-0.50", "", "LOST > 0.10"),
        "5 mm slices": ("-0.75", "slice_thickness", "warned"),
    }


def test_below_the_tables_stand_the_shipped_threshold_time_memory_and_models() -> None:
    lines = closing_lines(run("as scanned", 3))
    assert lines[0] == "at the shipped threshold: 9 of 12 found, 1.00 false positives a scan"
    assert "median 12.0 s a scan" in lines[1]
    assert "900 MiB" in lines[1]
    assert lines[2] == "models: nodule_detector 1"
