"""Plots of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from bench.plan.region import Outcome

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_COLOURS = {"stat": "#c0392b", "routine": "#2c5f8a", "backfill": "#8a8a8a"}


def day(path: Path, name: str, found: Outcome, goals: Mapping[str, float]) -> None:
    """Plot the share of studies that are done within a time, by lane, with the goals."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for lane, colour in _COLOURS.items():
        times = np.sort(found.turnaround[lane])
        share = np.arange(1, len(times) + 1) / len(times)
        axes.plot(times, 100 * share, color=colour, label=lane)
        if lane in goals:
            axes.plot(goals[lane], 95, marker="x", color=colour, linestyle="none")
    axes.set(
        title=f"{name}: time to the report (x: goal for 95 %)",
        xlabel="seconds",
        ylabel="studies done, %",
        xscale="log",
        ylim=(0, 101),
    )
    axes.set_xticks([20, 30, 60, 120, 300, 600], ["20", "30", "60", "120", "300", "600"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def growth(path: Path, rows: Sequence[tuple[int, float, float]]) -> None:
    """Plot CT an hour and the 95th percentile over the count of GPU nodes."""
    nodes, rate, high = (list(column) for column in zip(*rows, strict=True))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(nodes, rate, marker="o", color=_COLOURS["routine"], label="CT an hour")
    axes.set(title="Growth", xlabel="GPU nodes", ylabel="CT an hour", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    other = axes.twinx()
    other.plot(nodes, high, marker="s", color=_COLOURS["stat"], label="routine, 95 %")
    other.set(ylabel="seconds", ylim=(0, None))
    figure.legend(loc="lower right", bbox_to_anchor=(0.88, 0.15))
    figure.savefig(path, dpi=120)
    plt.close(figure)
