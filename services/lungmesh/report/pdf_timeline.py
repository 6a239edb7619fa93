"""The PDF's part on time: a table of each nodule in all exams that show it, and the growth plot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reportlab.lib.colors import white
from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, KeepTogether, Paragraph, Spacer, Table

from lungmesh.report import course
from lungmesh.report.content import Content, Nodule, PriorMatch
from lungmesh.report.growth_plot import CAPTION, PANEL_WIDTH, growth_plots
from lungmesh.report.pdf_style import INK, STRIPE, WIDTH, bar, both, head_cells, style, table_style
from lungmesh.report.terms import Phrase

HEADING = Phrase("Course of each nodule over all exams", "各结节历次检查变化")
NOTE = Phrase(
    "Changes are from the exam of the row to this one. VDT: volume doubling time in days with its "
    "95 % interval, ∞ where it reaches no change. P: probability of true growth, given the error "
    "of measurement. In brackets: the mean diameter of a solid part.",
    "变化为该行检查至本次检查。VDT：体积倍增时间（天）及其 95 % 区间，∞ 表示可至无变化。"
    "P：考虑测量误差后确有增大的概率。括号内为实性成分平均径。",
)
_PANELS_A_ROW = 3


def timeline(content: Content) -> Iterator[Flowable]:
    """Yield table and plot; nothing where no nodule is in an earlier exam."""
    tracked = course.tracked(content)
    if not tracked:
        return
    yield CondPageBreak(45 * mm)
    yield bar(HEADING)
    yield Spacer(1, 1.5 * mm)
    yield _table(tracked, content)
    yield Spacer(1, 1.5 * mm)
    yield from both(NOTE, 6.5)
    yield Spacer(1, 3 * mm)
    yield from _plots(content)


def _table(tracked: list[Nodule], content: Content) -> Table:
    head = (
        ("#", ""),
        ("Exam", "检查日期"),
        ("Days", "间隔天数"),
        ("Mean mm", "平均径（实性）"),
        ("Vol. mm³", "体积"),
        ("Vol. change", "体积变化"),
        ("VDT (95 %)", "倍增时间"),
        ("P", "增大概率"),
        ("Note", "说明"),
    )
    rows: list[list[Any]] = [head_cells(head)]
    looks: list[tuple[Any, ...]] = []
    for order, nodule in enumerate(tracked):
        first = len(rows)
        rows += _rows(nodule, content)
        last = len(rows) - 1
        looks += [
            ("NOSPLIT", (0, first), (-1, last)),
            ("BACKGROUND", (0, first), (-1, last), STRIPE if order % 2 else white),
            ("LINEBELOW", (0, last), (-1, last), 0.7, INK),
        ]
    shares = (0.04, 0.115, 0.075, 0.125, 0.09, 0.1, 0.18, 0.085, 0.19)
    table = Table(rows, colWidths=[WIDTH * share for share in shares], repeatRows=1)
    table.setStyle(table_style(*looks))
    return table


def _rows(nodule: Nodule, content: Content) -> Iterator[list[Any]]:
    for place, (past, prior) in enumerate(course.compared(nodule)):
        yield [
            Paragraph(str(nodule.number) if not place else "", style(9, bold=True)),
            _cell(course.day(past.study_date)),
            _cell(str(past.interval_days)),
            _cell(course.mean_diameter(past)),
            _cell(str(past.volume_mm3)),
            *(map(_cell, course.changes(prior)) if prior else [_cell("–")] * 3),
            _unlike(prior) if prior else "",
        ]
    yield [
        "",
        _cell(course.day(content.exam.study_date), bold=True),
        _cell("0"),
        _cell(course.mean_diameter(nodule), bold=True),
        _cell(str(nodule.volume_mm3), bold=True),
        *[_cell("")] * 3,
        _now(nodule),
    ]


def _unlike(prior: PriorMatch) -> list[Flowable]:
    return both(course.unlike(prior), 6.5) if prior.warnings else []


def _now(nodule: Nodule) -> list[Flowable]:
    said = list(course.of_now(nodule))
    return both(course.listed(said), 6.5) if said else []


def _cell(text: str, bold: bool = False) -> Paragraph:
    return Paragraph(text, style(7.5, bold=bold))


def _plots(content: Content) -> Iterator[Flowable]:
    panels: list[Any] = list(growth_plots(content))
    gap = (WIDTH - _PANELS_A_ROW * PANEL_WIDTH) / (_PANELS_A_ROW - 1)
    for first in range(0, len(panels), _PANELS_A_ROW):
        line = panels[first : first + _PANELS_A_ROW]
        grid = Table([line], colWidths=[PANEL_WIDTH + gap] * len(line), hAlign="LEFT")
        grid.setStyle(
            [
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ]
        )
        if first + _PANELS_A_ROW < len(panels):
            yield grid
        else:
            # The caption stays with the last panels.
            yield KeepTogether([grid, *both(CAPTION, 6.5), Spacer(1, 4 * mm)])
