"""How many nodules are found at how many false positives: FROC and CPM by LUNA16's rules.

Simulated scans of the test split through the real detection stage on a real Triton; `--real` takes
the two real scans instead, where the readers' 50 % consensus is also the truth of the outline.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.referee.command import finish, options, read_all, start
from bench.referee.plots import plot_froc
from bench.referee.tables import detection_table, segmentation_table


def main() -> None:
    """Print the table, keep JSON and plot."""
    chosen = options("detection", "FROC and CPM of the detection stage.", scans=8)
    console = Console(width=150)
    run = read_all(chosen, console)
    console.print(detection_table(run))
    if chosen.real:
        console.print(segmentation_table(run))
    plot_froc(run, chosen.out.with_suffix(".png"))
    finish(console, chosen, [run])


if __name__ == "__main__":
    start(main)
