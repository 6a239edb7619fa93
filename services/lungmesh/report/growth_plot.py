"""The growth plot: a nodule's volume over time on a logarithmic axis, a panel a nodule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String
from reportlab.lib.units import mm

from lungmesh.report.content import Content, Nodule
from lungmesh.report.course import compared, tracked
from lungmesh.report.pdf_style import BLUE, DIM, INK, LINE, STRONG, TEXT
from lungmesh.report.terms import LOBES, Language, Phrase, date
from lungmesh.report.wording import LANGUAGES

CAPTION = Phrase(
    "Volume (mm³, logarithmic) over time. A volume now that lies within an earlier point's bar has "
    "changed by no more than the error of measurement (95 %). Dashed: doubling in 400 days, the "
    "bound of NELSON and BTS 2015. All panels have the same scales: the steeper, the faster.",
    "体积（mm³，对数坐标）随时间变化。本次体积落在某次误差线之内，即变化未超过测量误差（95 %）。"
    "虚线：倍增时间 400 天（NELSON 与 BTS 2015 的界值）。各图比例相同，斜率越大增长越快。",
)
PANEL_WIDTH, PANEL_HEIGHT = 57 * mm, 40 * mm
_LEFT, _RIGHT, _BOTTOM, _TOP = 9 * mm, 3 * mm, 5.5 * mm, 5.5 * mm
_REFERENCE_DAYS = 400.0
# Decades of volume that a panel shows at least, and room beyond the points.
_LEAST_DECADES, _ROOM_DECADES = 0.6, 0.12
# Two dates nearer than this would print over each other, points.
_DATE_WIDTH = 31.0
_SMALL = 5.5


@dataclass(frozen=True)
class Point:
    """A nodule in one exam: days before this one (0 or less), mm³.

    `factor` is how many times larger or smaller a volume may be without having changed beyond the
    error of measurement; 1 where no error is known.
    """

    days: float
    study_date: str
    volume_mm3: float
    factor: float

    @property
    def log_ends(self) -> tuple[float, float]:
        """The ends of its bar, log10 of mm³."""
        middle, half = math.log10(self.volume_mm3), math.log10(self.factor)
        return middle - half, middle + half


def points_of(nodule: Nodule, study_date: str) -> tuple[Point, ...]:
    """Return a nodule in all exams that show it, the earliest first, this exam last."""
    earlier = [
        Point(
            -past.interval_days,
            past.study_date,
            max(1, past.volume_mm3),
            1 + ((prior and prior.volume_error_percent) or 0) / 100,
        )
        for past, prior in compared(nodule)
    ]
    return (*earlier, Point(0, study_date, max(1, nodule.volume_mm3), 1))


def growth_plots(content: Content, languages: Sequence[Language] = LANGUAGES) -> list[Drawing]:
    """Return a panel for each nodule that an earlier exam shows, in order of number."""
    shown = [(nodule, points_of(nodule, content.exam.study_date)) for nodule in tracked(content)]
    if not shown:
        return []
    first_day = min(points[0].days for _, points in shown)
    decades = max(_decades(points) for _, points in shown)
    return [
        _panel(nodule, points, _Frame(first_day, _low(points, decades), decades), languages)
        for nodule, points in shown
    ]


def _low(points: Sequence[Point], decades: float) -> float:
    low, high = _bounds(points)
    return (low + high - decades) / 2


def _bounds(points: Sequence[Point]) -> tuple[float, float]:
    ends = [end for point in points for end in point.log_ends]
    return min(ends), max(ends)


def _decades(points: Sequence[Point]) -> float:
    low, high = _bounds(points)
    return max(_LEAST_DECADES, high - low + 2 * _ROOM_DECADES)


@dataclass(frozen=True)
class _Frame:
    """Where days and volumes stand in a panel, points."""

    first_day: float
    low: float
    decades: float

    left: ClassVar[float] = _LEFT
    right: ClassVar[float] = PANEL_WIDTH - _RIGHT
    bottom: ClassVar[float] = _BOTTOM
    top: ClassVar[float] = PANEL_HEIGHT - _TOP

    def x(self, days: float) -> float:
        """Return the place of a day; the exams stand a little inside the frame."""
        inner = 0.05 * (self.right - self.left)
        share = 1 - days / self.first_day if self.first_day else 1.0
        return self.left + inner + share * (self.right - self.left - 2 * inner)

    def y(self, log_volume: float) -> float:
        """Return the place of a log10 of mm³."""
        return self.bottom + (log_volume - self.low) / self.decades * (self.top - self.bottom)


def _panel(
    nodule: Nodule, points: Sequence[Point], frame: _Frame, languages: Sequence[Language]
) -> Drawing:
    drawing = Drawing(PANEL_WIDTH, PANEL_HEIGHT)
    lobe = LOBES[nodule.lobe]
    drawing.add(
        String(
            0,
            PANEL_HEIGHT - 3.4 * mm,
            str(nodule.number),
            fontName=STRONG,
            fontSize=7.5,
            fillColor=INK,
        )
    )
    name = " ".join(lobe.said(language) for language in languages)
    drawing.add(
        String(_LEFT, PANEL_HEIGHT - 3.4 * mm, name, fontName=TEXT, fontSize=6.5, fillColor=DIM)
    )
    for shape in (
        *_grid(frame),
        *_dates(frame, points),
        _reference(frame, points),
        *_course(frame, points),
    ):
        drawing.add(shape)
    return drawing


def _grid(frame: _Frame) -> Iterator[Line | String | Rect]:
    for exponent in range(math.floor(frame.low), math.ceil(frame.low + frame.decades) + 1):
        for step in (1, 2, 5) if frame.decades <= 2.5 else (1,):
            place = exponent + math.log10(step)
            if frame.low <= place <= frame.low + frame.decades:
                y = frame.y(place)
                yield Line(frame.left, y, frame.right, y, strokeColor=LINE, strokeWidth=0.4)
                yield _label(frame.left - 1.5, y - 1.9, f"{step * 10.0**exponent:g}", "end")
    yield Rect(
        frame.left,
        frame.bottom,
        frame.right - frame.left,
        frame.top - frame.bottom,
        strokeColor=LINE,
        strokeWidth=0.6,
        fillColor=None,
    )


def _dates(frame: _Frame, points: Sequence[Point]) -> Iterator[String]:
    """Name the last and the first exam, and those between where there is room."""
    last, first = points[-1], points[0]
    taken = [frame.x(last.days)]
    for point in (last, first, *reversed(points[1:-1])):
        x = frame.x(point.days)
        if point is last or all(abs(x - other) >= _DATE_WIDTH for other in taken):
            taken.append(x)
            # At the right edge the words would leave the panel.
            right = x + _DATE_WIDTH / 2 > PANEL_WIDTH
            anchor = "end" if right else "middle"
            at = PANEL_WIDTH if right else x
            yield _label(at, frame.bottom - 6.5, date(point.study_date), anchor)


def _reference(frame: _Frame, points: Sequence[Point]) -> Line:
    """Return how the first volume would have grown by a doubling in 400 days."""
    first = points[0]
    start = math.log10(first.volume_mm3)
    top = frame.low + frame.decades
    per_day = math.log10(2) / _REFERENCE_DAYS
    end = min(0.0, first.days + (top - start) / per_day)
    return Line(
        frame.x(first.days),
        frame.y(start),
        frame.x(end),
        frame.y(start + (end - first.days) * per_day),
        strokeColor=DIM,
        strokeWidth=0.5,
        strokeDashArray=(2, 2),
    )


def _course(frame: _Frame, points: Sequence[Point]) -> Iterator[PolyLine | Line | Circle]:
    places = [(frame.x(p.days), frame.y(math.log10(p.volume_mm3))) for p in points]
    yield PolyLine(
        [value for place in places for value in place], strokeColor=BLUE, strokeWidth=1.1
    )
    for point, (x, y) in zip(points, places, strict=True):
        if point.factor > 1:
            low, high = (frame.y(end) for end in point.log_ends)
            yield Line(x, low, x, high, strokeColor=INK, strokeWidth=0.6)
            for end in (low, high):
                yield Line(x - 1.8, end, x + 1.8, end, strokeColor=INK, strokeWidth=0.6)
        yield Circle(x, y, 1.9, strokeColor=BLUE, strokeWidth=0.6, fillColor=BLUE)


def _label(x: float, y: float, text: str, anchor: str) -> String:
    return String(x, y, text, fontName=TEXT, fontSize=_SMALL, fillColor=DIM, textAnchor=anchor)
