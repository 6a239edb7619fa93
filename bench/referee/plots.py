"""The referee's plots as small PNG files, drawn with Pillow: no plotting package is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.referee.results import Run
from bench.referee.scoring import RATES, Froc, Marks, cpm_interval, froc, group_filters, resamples
from bench.referee.tables import loss

_SIZE = (880, 560)
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 50, 250, 60
# Enough for all, four kinds and four sizes.
_COLOURS = (
    "#1b4f8f",
    "#c0392b",
    "#1e8449",
    "#8e44ad",
    "#b9770e",
    "#117a8b",
    "#7b241c",
    "#5d6d7e",
    "#d35498",
)
_BAND = "#d6e2f0"
_GRID = "#dddddd"
_INK = "#222222"
# Bootstrap rounds of the band; it is drawn, not read off.
_ROUNDS = 300


class _Chart:
    """Axes with a scale, a frame and a legend."""

    def __init__(
        self,
        title: str,
        x_name: str,
        y_name: str,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_scale: Callable[[float], float] = float,
    ) -> None:
        self.image = Image.new("RGB", _SIZE, "white")
        self.draw = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(15)
        self._x = tuple(x_scale(value) for value in x_range)
        self._y = y_range
        self._scale = x_scale
        self._rows = 0
        width, height = _SIZE
        self.draw.text((_LEFT, 6), title, _INK, ImageFont.load_default(17))
        self.draw.text(
            ((width - _RIGHT + _LEFT) / 2, height - 22), x_name, _INK, self._font, anchor="mm"
        )
        self.draw.text((8, _TOP - 20), y_name, _INK, self._font)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a point."""
        width, height = _SIZE
        across = (self._scale(x) - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return (
            _LEFT + across * (width - _LEFT - _RIGHT),
            height - _BOTTOM - up * (height - _TOP - _BOTTOM),
        )

    def ticks(self, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]]) -> None:
        """Draw the grid with its labels."""
        for x, label in xs:
            foot, head = self.at(x, self._y[0]), self.at(x, self._y[1])
            self.draw.line([foot, head], _GRID)
            self.draw.text((foot[0], foot[1] + 14), label, _INK, self._font, anchor="mm")
        for y, label in ys:
            _, height = self.at(xs[0][0], y)
            self.draw.line([(_LEFT, height), (_SIZE[0] - _RIGHT, height)], _GRID)
            self.draw.text((_LEFT - 8, height), label, _INK, self._font, anchor="rm")

    def legend(self, colour: str, text: str) -> None:
        """Add a line to the legend."""
        x, y = _SIZE[0] - _RIGHT + 16, _TOP + 12 + 22 * self._rows
        self.draw.rectangle([x, y - 5, x + 14, y + 5], fill=colour)
        self.draw.text((x + 22, y), text, _INK, self._font, anchor="lm")
        self._rows += 1

    def save(self, path: Path) -> None:
        """Write the PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.image.save(path, optimize=True)


def plot_froc(run: Run, path: Path) -> None:
    """Draw sensitivity against false positives a scan: all with its 95 % band, kinds and sizes."""
    chart = _Chart(
        f"FROC: {run.label}",
        "false positives a scan",
        "sensitivity",
        (RATES[0], RATES[-1]),
        (0, 1),
        lambda value: float(np.log2(value)),
    )
    rates = np.geomspace(RATES[0], RATES[-1], 181)
    scores = run.scores
    marks = Marks(scores)
    drawn = [marks.froc(times).at(rates.tolist()) for times in resamples(len(scores), _ROUNDS)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5), axis=0)
    band = [chart.at(x, y) for x, y in zip(rates, high, strict=True)]
    band += [chart.at(x, y) for x, y in zip(rates[::-1], low[::-1], strict=True)]
    chart.draw.polygon(band, fill=_BAND)
    chart.ticks(
        [(rate, f"{rate:g}") for rate in RATES],
        [(tenth / 5, f"{tenth / 5:.1f}") for tenth in range(6)],
    )
    for (name, keep), colour in zip(group_filters(scores).items(), cycle(_COLOURS), strict=False):
        curve: Froc = froc(scores, keep)
        if np.isnan(curve.cpm):
            continue
        points = [chart.at(x, y) for x, y in zip(rates, curve.at(rates.tolist()), strict=True)]
        chart.draw.line(points, colour, 4 if name == "all" else 2)
        chart.legend(colour, f"{name.replace('_', ' ')}: {curve.cpm:.2f}")
    chart.save(path)


def plot_sizes(run: Run, path: Path) -> None:
    """Draw the error of the mean diameter of each marked nodule against its size."""
    errors = run.errors()
    widest = max([one.diameter_mm for one in errors], default=3.0)
    chart = _Chart(
        f"Diameter of marked nodules: {run.label}",
        "true diameter, mm",
        "measured / true - 1",
        (2.5, max(32.0, widest)),
        (-0.6, 0.6),
        lambda value: float(np.log(value)),
    )
    chart.ticks(
        [(mm, f"{mm:g}") for mm in (3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0)],
        [(error / 10, f"{error * 10:+d} %") for error in range(-6, 7, 2)],
    )
    for kind, colour in zip(sorted({one.kind for one in errors}), _COLOURS, strict=False):
        chart.legend(colour, kind.replace("_", " "))
        for one in errors:
            if one.kind == kind:
                x, y = chart.at(one.diameter_mm, float(np.clip(one.diameter, -0.6, 0.6)))
                chart.draw.ellipse([x - 3, y - 3, x + 3, y + 3], outline=colour, width=2)
    chart.save(path)


def plot_robustness(runs: Sequence[Run], limit: float, path: Path) -> None:
    """Draw CPM with its interval under each condition; the line is what may be lost unwarned.

    Parameters
    ----------
    limit
        Loss of CPM that is allowed.
    """
    wholes = [cpm_interval(run.scores) for run in runs]
    chart = _Chart(
        f"Robustness: {runs[0].label.split(',')[0]}",
        "condition",
        "CPM",
        (0.4, len(runs) + 0.6),
        (0, 1),
    )
    chart.ticks(
        [(float(i), str(i)) for i in range(1, len(runs) + 1)],
        [(tenth / 5, f"{tenth / 5:.1f}") for tenth in range(6)],
    )
    floor = max(0.0, wholes[0].value - limit)
    chart.draw.line([chart.at(0.4, floor), chart.at(len(runs) + 0.6, floor)], "#c0392b", 2)
    for place, (run, whole) in enumerate(zip(runs, wholes, strict=True), start=1):
        colour = _COLOURS[0] if loss(run, runs[0]) <= limit else _COLOURS[1]
        left, right = chart.at(place - 0.3, 0), chart.at(place + 0.3, whole.value)
        chart.draw.rectangle([left[0], right[1], right[0], left[1]], fill=colour)
        chart.draw.line([chart.at(place, whole.low), chart.at(place, whole.high)], _INK, 2)
        chart.legend(colour, f"{place} {run.condition}")
    chart.save(path)
