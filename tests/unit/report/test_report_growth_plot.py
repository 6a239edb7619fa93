"""The growth plot: true to volumes, days and errors, and inside its panel."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, String

from lungmesh.report.content import Content, Nodule, PastSize, PriorMatch
from lungmesh.report.facts import from_event
from lungmesh.report.growth_plot import PANEL_HEIGHT, PANEL_WIDTH, growth_plots, points_of
from lungmesh.report.pdf_style import fonts
from tests.support.report_course import followed
from tests.unit.report.conftest import Exam


@pytest.fixture(scope="module")
def content(exam: Exam) -> Content:
    fonts()
    return from_event(followed(exam.case, 4, 5), exam.headers)


def past(days: int, volume: int) -> PastSize:
    ids = {"study_id": str(days), "nodule_id": str(days)}
    return PastSize(ids, "19900101", days, "solid", 5.0, volume, 100, 0.0)


def with_past(content: Content, now: int, *earlier: tuple[int, int]) -> Content:
    """Return one nodule of a volume now, and (days before, volume) of it."""
    nodule = replace(
        content.nodules[0],
        volume_mm3=now,
        history=tuple(past(days, volume) for days, volume in earlier),
        priors=(),
    )
    return replace(content, nodules=(nodule,))


def line_of(drawing: Drawing) -> list[tuple[float, float]]:
    (line,) = (shape for shape in drawing.contents if isinstance(shape, PolyLine))
    return list(zip(line.points[::2], line.points[1::2], strict=True))


def dashed(drawing: Drawing) -> Line:
    (line,) = (s for s in drawing.contents if isinstance(s, Line) and s.strokeDashArray)
    return line


def test_points_run_from_the_earliest_exam_to_this_one(content: Content) -> None:
    nodule = content.nodules[0]
    points = points_of(nodule, "20000101")
    assert [point.days for point in points] == [-1036, -579, -365, 0]
    assert [point.volume_mm3 for point in points] == [
        *(past.volume_mm3 for past in reversed(nodule.history)),
        nodule.volume_mm3,
    ]


def test_a_bar_holds_the_volumes_that_are_no_change_beyond_the_error(content: Content) -> None:
    nodule: Nodule = content.nodules[0]
    match: PriorMatch = replace(nodule.priors[0], volume_error_percent=25.0)
    points = points_of(replace(nodule, priors=(match,)), "20000101")
    compared = points[-2]
    low, high = (10**end for end in compared.log_ends)
    assert (low, high) == pytest.approx((compared.volume_mm3 / 1.25, compared.volume_mm3 * 1.25))
    # Not compared directly: no bar.
    assert points[0].factor == 1


def test_a_doubling_in_400_days_lies_on_the_dashed_line(content: Content) -> None:
    (panel,) = growth_plots(with_past(content, 400, (400, 200), (800, 100)))
    (x0, y0), (x1, y1), (x2, y2) = line_of(panel)
    line = dashed(panel)
    assert (line.x1, line.y1, line.x2, line.y2) == pytest.approx((x0, y0, x2, y2))
    assert (x1 - x0, y1 - y0) == pytest.approx((x2 - x1, y2 - y1))


def test_panels_share_their_scales_so_that_slopes_can_be_compared(content: Content) -> None:
    slopes = []
    for nodule, panel in zip(content.nodules, growth_plots(content), strict=True):
        (x0, y0), *_, (x1, y1) = line_of(panel)
        growth = math.log(nodule.volume_mm3 / nodule.history[-1].volume_mm3)
        slopes.append(((y1 - y0) / (x1 - x0), growth))
    scale = slopes[-1][0] / slopes[-1][1]
    assert [slope for slope, _ in slopes] == pytest.approx([scale * g for _, g in slopes])


def test_a_nodule_without_an_earlier_self_has_no_panel(content: Content) -> None:
    assert growth_plots(with_past(content, 400)) == []


@settings(max_examples=60, deadline=None)
@given(
    now=st.integers(0, 2_000_000),
    earlier=st.lists(
        st.tuples(st.integers(1, 4000), st.integers(0, 2_000_000)),
        min_size=1,
        max_size=6,
        unique_by=lambda item: item[0],
    ),
)
def test_nothing_is_drawn_outside_a_panel_and_no_dates_overlap(
    content: Content, now: int, earlier: list[tuple[int, int]]
) -> None:
    (panel,) = growth_plots(with_past(content, now, *sorted(earlier)))
    for shape in panel.contents:
        x0, y0, x1, y1 = shape.getBounds()
        assert x0 >= -3
        assert y0 >= -1
        assert x1 <= PANEL_WIDTH + 0.1
        assert y1 <= PANEL_HEIGHT + 0.1
    assert sum(isinstance(shape, Circle) for shape in panel.contents) == len(earlier) + 1
    dates = sorted(
        shape.getBounds()[::2]
        for shape in panel.contents
        if isinstance(shape, String) and "-" in shape.text
    )
    assert all(right <= left for (_, right), (left, _) in pairwise(dates))
