"""`lungmesh demo`: a real CT end to end, and the result beside what the readers found."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.job import Job, run_job
from lungmesh.cli.results import GIB, show_results
from lungmesh.cli.show import Show, words
from lungmesh.cli.summary import read_summary
from lungmesh.demo.case import CaseTruth, write_case
from lungmesh.demo.compare import (
    LARGEST_DIAMETER_ERROR,
    LARGEST_DISTANCE_MM,
    Comparison,
    compare,
)

WALL_LIMIT_SECONDS = 180.0
MEMORY_LIMIT_BYTES = 6 * GIB


def run_demo(out: Path, data: Path | None, limit_seconds: float, show: Show) -> None:
    """Write the case, read it, and compare.

    Parameters
    ----------
    data
        Data directory; None takes a fresh one, which is removed unless the demo fails.

    Raises CommandError (BELOW_STANDARD) when the readers' nodule is missed or mis-measured.
    """
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="lungmesh-demo-"))
    try:
        show.note("writing LIDC-IDRI-0001, a real chest CT of 133 slices, as DICOM")
        truth = write_case(work / "dicom")
        job = Job(
            study=work / "dicom", out=out, data=data or work / "data", limit_seconds=limit_seconds
        )
        with run_job(job, show, owner="demo") as result:
            show_results(result, out, show)
            comparison = compare(read_summary(out)["nodules"], truth)
            _show_comparison(comparison, truth, show)
    except BaseException:
        show.note(f"the demo's files and logs are kept in {work}")
        raise
    shutil.rmtree(work)
    wall_seconds = time.monotonic() - started
    _show_limits(wall_seconds, result.peak_pss_bytes, show)
    if not comparison.found:
        raise CommandError(
            f"the readers' nodule was missed: the nearest lies {comparison.distance_mm:.1f} mm off",
            Exit.BELOW_STANDARD,
        )
    if not comparison.well_measured:
        raise CommandError(
            f"the readers' nodule is mis-measured: its mean diameter is "
            f"{comparison.diameter_error:+.0%} off",
            Exit.BELOW_STANDARD,
        )


def _show_comparison(comparison: Comparison, truth: CaseTruth, show: Show) -> None:
    table = Table(title="beside the four readers", title_justify="left")
    for name in ("", "readers", "lungmesh", "difference", "limit"):
        table.add_column(name, justify="left" if not name else "right")
    centre = ", ".join(f"{value:.1f}" for value in truth.center_lps_mm)
    table.add_row(
        "centre (LPS, mm)",
        centre,
        f"nodule {comparison.number}",
        f"{comparison.distance_mm:.1f} mm",
        f"{LARGEST_DISTANCE_MM:g} mm",
    )
    table.add_row(
        "mean diameter",
        f"{comparison.readers_mean_diameter_mm:.1f} mm",
        f"{comparison.mean_diameter_mm:.1f} mm",
        f"{comparison.diameter_error:+.0%}",
        f"±{LARGEST_DIAMETER_ERROR:.0%}",
    )
    table.add_row("lobe", words(comparison.readers_lobe), words(comparison.lobe), "", "")
    show.table(table, "comparison", [_facts(comparison)])
    show.note(
        f"false candidates above the readers' nodule: {comparison.above} "
        f"(of {comparison.candidates} candidates)",
        above=comparison.above,
        candidates=comparison.candidates,
    )
    show.note(f"truth: {truth.source}")
    show.note(f"cite: {truth.citation}")


def _show_limits(wall_seconds: float, peak_pss_bytes: int, show: Show) -> None:
    for name, value, limit, unit in (
        ("wall time after set-up", wall_seconds, WALL_LIMIT_SECONDS, "s"),
        ("peak memory of all processes", peak_pss_bytes / GIB, MEMORY_LIMIT_BYTES / GIB, "GiB"),
    ):
        over = "" if value <= limit else "  OVER THE LIMIT"
        show.note(
            f"{name}: {value:.1f} {unit} (limit {limit:g} {unit}){over}",
            figure=name,
            value=round(value, 2),
            limit=limit,
            unit=unit,
        )


def _facts(comparison: Comparison) -> dict[str, Any]:
    return {
        "number": comparison.number,
        "distance_mm": round(comparison.distance_mm, 2),
        "mean_diameter_mm": comparison.mean_diameter_mm,
        "readers_mean_diameter_mm": comparison.readers_mean_diameter_mm,
        "diameter_error": round(comparison.diameter_error, 4),
        "lobe": comparison.lobe,
        "readers_lobe": comparison.readers_lobe,
        "candidates": comparison.candidates,
        "above": comparison.above,
        "found": comparison.found,
    }
