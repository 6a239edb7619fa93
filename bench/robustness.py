"""What other scanners cost: the same simulated scans under noise, kernels, slices, positions.

A condition that loses more than 0.10 of CPM without a quality warning on the report is flagged.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.referee.command import finish, options, referee, start
from bench.referee.plots import plot_robustness
from bench.referee.results import Run, ScanResult
from bench.referee.simulated import conditions, simulated_cases
from bench.referee.tables import MOST_LOSS, robustness_table, segmentation_table, tell_scan


def main() -> None:
    """Print the tables, keep JSON and plot."""
    chosen = options("robustness", "Detection under other scanners.", scans=4)
    console = Console(width=150)
    if chosen.real:
        console.print("the two real scans hold too few nodules to compare conditions by")
        sys.exit(2)
    changes = conditions()
    results: dict[str, list[ScanResult]] = {name: [] for name in changes}
    with referee(chosen) as judge:
        for case in simulated_cases(chosen.scans):
            for name, change in changes.items():
                changed = change(case)
                if changed is None:
                    continue
                results[name].append(judge.read(changed))
                console.print(f"{name}: ", end="")
                tell_scan(console, results[name][-1])
        peak = judge.triton_peak_mib
    runs = [Run(True, name, tuple(found), peak) for name, found in results.items() if found]
    console.print(robustness_table(runs))
    for run in runs:
        console.print(segmentation_table(run))
    plot_robustness(runs, MOST_LOSS, chosen.out.with_suffix(".png"))
    finish(console, chosen, runs)


if __name__ == "__main__":
    start(main)
