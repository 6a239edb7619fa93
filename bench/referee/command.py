"""What the referee's scripts share: options, and runs over simulated or real scans."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bench.referee.real import real_cases
from bench.referee.results import Results, Run, ScanResult
from bench.referee.run import ROOT, Referee
from bench.referee.simulated import AS_SCANNED, simulated_cases
from bench.referee.tables import closing_lines, tell_scan
from models.training.simulation.lidc import DataMissing

OUT = ROOT / "out" / "bench"
CACHE = ROOT / ".lungmesh" / "bench"


def options(script: str, about: str, scans: int) -> argparse.Namespace:
    """Read the command line.

    Parameters
    ----------
    script
        Names the files below out/bench/.
    about
        First line of the help.
    scans
        How many simulated scans there are without --scans.
    """
    parser = argparse.ArgumentParser(prog=f"bench/{script}.py", description=about)
    parser.add_argument("--scans", type=int, default=scans, help=f"simulated scans ({scans})")
    parser.add_argument(
        "--real", action="store_true", help="the two real scans and their readers' nodules instead"
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="whose shapes: thresholds are chosen on validation, figures are those of test",
    )
    parser.add_argument("--out", type=Path, help=f"JSON file (out/bench/{script}.json)")
    parser.add_argument(
        "--anew", action="store_true", help="read every scan again, and measure the memory"
    )
    chosen = parser.parse_args()
    name = f"{script}-real" if chosen.real else script
    if chosen.split == "validation":
        name += "-validation"
    chosen.out = chosen.out or OUT / f"{name}.json"
    return chosen


def referee(chosen: argparse.Namespace) -> Referee:
    """Return the referee that the options ask for."""
    return Referee(None if chosen.anew else CACHE)


def read_all(chosen: argparse.Namespace, console: Console) -> Run:
    """Read the scans as they are, telling of each."""
    with referee(chosen) as judge:
        results: list[ScanResult] = []
        if chosen.real:
            with TemporaryDirectory() as folder:
                for case, ready in real_cases(judge.blobs, Path(folder)):
                    results.append(judge.read(case, ready))
                    tell_scan(console, results[-1])
        else:
            for case in simulated_cases(chosen.scans, chosen.split):
                results.append(judge.read(case))
                tell_scan(console, results[-1])
        return Run(not chosen.real, AS_SCANNED, tuple(results), judge.triton_peak_mib)


def finish(console: Console, chosen: argparse.Namespace, runs: list[Run]) -> None:
    """Keep the results, and print what stands below the tables."""
    Results(tuple(runs)).write(chosen.out)
    for line in closing_lines(runs[0]):
        console.print(line, highlight=False)
    console.print(f"kept in {chosen.out}", highlight=False)


def start(main: Callable[[], None]) -> None:
    """Run a script; without the training data it says what to do, and `make bench` goes on."""
    # Ended by a time limit, it must still stop Triton.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        main()
    except DataMissing as error:
        sys.stdout.write(f"skipped: {error}\n")
