"""How well marked nodules are outlined: Dice, and errors of diameter, volume and solid part.

The same scans as `bench/detection.py`, whose results are taken where they are there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.referee.command import finish, options, read_all, start
from bench.referee.plots import plot_sizes
from bench.referee.tables import segmentation_table


def main() -> None:
    """Print the table, keep JSON and plot."""
    chosen = options("segmentation", "Dice and errors of size of marked nodules.", scans=8)
    console = Console(width=150)
    run = read_all(chosen, console)
    console.print(segmentation_table(run))
    plot_sizes(run, chosen.out.with_suffix(".png"))
    finish(console, chosen, [run])


if __name__ == "__main__":
    start(main)
