"""The referee's plots, read back from their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.referee.measures import Errors
from bench.referee.plots import plot_froc, plot_robustness, plot_sizes
from bench.referee.results import Run, ScanResult
from bench.referee.scoring import Outcome, ScanScore

KINDS = ("solid", "part_solid", "ground_glass", "calcified")
BLUE, RED = (0x1B, 0x4F, 0x8F), (0xC0, 0x39, 0x2B)


def run(condition: str, score: float | None) -> Run:
    """Return two scans with a nodule of every kind and size, found at a score or missed."""
    outcomes = tuple(Outcome(kind, mm, score) for kind in KINDS for mm in (3.5, 5.0, 7.0, 12.0))
    errors = tuple(
        Errors(kind, mm, 0.9, 0.1, 0.1, None, None, True)
        for kind, mm in zip(KINDS, (4.0, 6.0, 9.0, 14.0), strict=True)
    )
    scan = ScanResult("scan", ScanScore(outcomes, (0.5,)), errors, 1.0, (0, 0), ("network 1",))
    return Run(True, condition, (scan, scan))


def pixels(path: Path, colour: tuple[int, int, int]) -> int:
    """Return how many pixels have a colour."""
    return int((np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=-1).sum())


def test_the_froc_of_every_kind_and_size_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "out" / "froc.png"
    plot_froc(run("as scanned", 0.9), path)
    # The legend alone is 15 x 11 pixels; the curve of all comes on top.
    assert pixels(path, BLUE) > 300


def test_a_dot_stands_for_each_measured_nodule(tmp_path: Path) -> None:
    path = tmp_path / "sizes.png"
    plot_sizes(run("as scanned", 0.9), path)
    assert pixels(path, BLUE) > 15 * 11


def test_a_condition_that_loses_too_much_is_red(tmp_path: Path) -> None:
    path = tmp_path / "robustness.png"
    first = run("as scanned", 0.9)
    plot_robustness([first, run("soft kernel", 0.9)], 0.10, path)
    line_alone = pixels(path, RED)
    plot_robustness([first, run("quarter dose", 0.1)], 0.10, path)
    assert pixels(path, RED) > line_alone + 1000
