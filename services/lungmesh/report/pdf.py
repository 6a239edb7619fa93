"""The report as an A4 PDF in both languages: result, table, key images, the full text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import white
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    Image,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from lungmesh.report import course
from lungmesh.report.content import Category, Content, NextExam, Nodule
from lungmesh.report.keyimages import pictures_of
from lungmesh.report.objects import VERSION
from lungmesh.report.pdf_style import (
    BLUE,
    DIM,
    LINE,
    MARGIN,
    PALE,
    RED,
    STRIPE,
    STRONG,
    TEXT,
    WIDTH,
    Hanzi,
    bar,
    both,
    fonts,
    head_cells,
    row,
    style,
    table_style,
)
from lungmesh.report.pdf_timeline import timeline
from lungmesh.report.templating import Templates
from lungmesh.report.terms import GROWTH, LOBES, NODULE_TYPES, Phrase, date
from lungmesh.report.wording import (
    NOTICE,
    TITLE,
    Section,
    category_name,
    next_exam,
    nodule_name,
    sections,
)

# What ReportLab leaves free inside the frame of a page, points.
_FRAME_PADDING = 6


def pdf(
    content: Content,
    pictures: Mapping[str, bytes],
    content_sha256: str,
    words: Templates | None = None,
) -> bytes:
    """Return the PDF; the same content gives the same bytes.

    Parameters
    ----------
    pictures
        The key images by name (key_<number>_<plane>.png), in order.
    """
    fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN - _FRAME_PADDING,
        rightMargin=MARGIN - _FRAME_PADDING,
        topMargin=23 * mm,
        bottomMargin=19 * mm,
        title=f"{TITLE.en} {TITLE.zh}",
        author="LungMesh",
        subject=NOTICE.en,
        invariant=1,
    )
    story = [
        *_heading(content),
        *_result(content, words),
        *_nodule_table(content),
        *timeline(content),
        *_key_images(content, pictures),
        *_full_text(content, words),
    ]
    canvas = partial(_NumberedCanvas, foot=f"LungMesh report {VERSION} · {content_sha256[:16]}")
    document.build(story, canvasmaker=canvas)
    return buffer.getvalue()


def _heading(content: Content) -> Iterator[Flowable]:
    exam = content.exam
    for replaced in course.edition(content):
        yield row(replaced, 9.5, bold=True, textColor=RED)
    device = " ".join(part for part in (exam.manufacturer, exam.model) if part) or "–"
    rows = [
        (Phrase("Patient (pseudonym)", "患者（假名）"), content.ids["patient"]),
        (Phrase("Exam date", "检查日期"), date(exam.study_date) or "–"),
        (Phrase("Scanner", "设备"), device),
        (
            Phrase("Series", "序列"),
            f"{exam.slice_count} × {exam.slice_spacing_mm:g} mm, {exam.kernel or '–'}",
        ),
    ]
    cells = [
        [
            Paragraph(f"{label.en} {label.zh}", style(7, textColor=DIM)),
            Paragraph(escape(value), style(9, bold=True)),
        ]
        for label, value in rows
    ]
    table = Table([cells[:2], cells[2:]], colWidths=[WIDTH * 0.56, WIDTH * 0.44])
    table.setStyle(
        TableStyle(
            [
                ("BOX", (0, 0), (-1, -1), 0.6, LINE),
                ("INNERGRID", (0, 0), (-1, -1), 0.4, LINE),
                ("TOPPADDING", (0, 0), (-1, -1), 3),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
            ]
        )
    )
    yield table
    yield Spacer(1, 3 * mm)


def _result(content: Content, words: Templates | None) -> Iterator[Flowable]:
    """The exam's categories, each with what the guideline says to do."""
    rows = [[_badge(category), _advice(category)] for category in content.categories]
    if content.next:
        rows += _next(content.next, next_exam(content, words))
    table = Table(rows, colWidths=[34 * mm, WIDTH - 34 * mm])
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), PALE),
                ("LINEBEFORE", (0, 0), (0, -1), 2.5, BLUE),
                ("LINEBELOW", (0, 0), (-1, -2), 0.6, white),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("TOPPADDING", (0, 0), (-1, -1), 4),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 6),
            ]
        )
    )
    yield table
    yield Spacer(1, 4 * mm)


def _next(coming: NextExam, said: Sequence[Phrase]) -> Iterator[list[list[Flowable]]]:
    if not said:
        return
    label = Paragraph("Next 下一步", style(7.5, textColor=DIM))
    look: dict[str, Any] = {"bold": True, "textColor": BLUE}
    if coming.work_up:
        badge = both(Phrase("work-up", "进一步检查"), 9, **look)
    else:
        badge = [Paragraph(date(coming.due_date), style(11, **look))]
    yield [[label, *badge], [part for line in said for part in both(line, 8.5)]]


def _badge(category: Category) -> list[Flowable]:
    return [
        Paragraph(
            escape(f"{category.guideline.name} {category.guideline.version}"),
            style(7.5, textColor=DIM),
        ),
        Paragraph(
            escape(category.category or "–"),
            style(18 if len(category.category) < 4 else 11, bold=True, textColor=BLUE),
        ),
    ]


def _advice(category: Category) -> list[Flowable]:
    rows = dict.fromkeys((category.row, category.row_zh)) if category.category else {}
    parts = [category.source, *(name for name in rows if name)]
    source = Hanzi(escape(" · ".join(parts)), style(6.5, zh=True, textColor=DIM))
    if not category.category:
        return [*both(category_name(category), 8.5), source]
    return [*both(Phrase(category.management_en, category.management_zh), 8.5), source]


def _nodule_table(content: Content) -> Iterator[Flowable]:
    if not content.nodules:
        yield from both(
            Phrase(
                "No pulmonary nodule was found by the automatic reading.",
                "自动阅片未检出肺结节。",
            ),
            10,
            bold=True,
        )
        yield Spacer(1, 4 * mm)
        return
    head = (
        ("#", ""),
        ("Type", "类型"),
        ("Lobe", "肺叶"),
        ("Image", "图像"),
        ("Axes mm", "长×短径"),
        ("Mean mm", "平均径"),
        ("Vol. mm³", "体积"),
        ("HU", "密度"),
        ("Course", "变化"),
        (content.guideline, "分级"),
        ("Score", "评分"),
    )
    rows: list[list[Any]] = [head_cells(head)]
    rows += [_nodule_row(nodule, content.guideline) for nodule in content.nodules]
    shares = (0.035, 0.125, 0.13, 0.065, 0.11, 0.085, 0.085, 0.065, 0.12, 0.105, 0.075)
    table = Table(rows, colWidths=[WIDTH * share for share in shares], repeatRows=1)
    table.setStyle(table_style(("ROWBACKGROUNDS", (0, 1), (-1, -1), [white, STRIPE])))
    yield table
    yield Spacer(1, 4 * mm)


def _nodule_row(nodule: Nodule, guideline: str) -> list[Any]:
    def figure(text: object) -> Paragraph:
        return Paragraph(str(text), style(8))

    short = {"non_solid": "non-solid", "atypical_cyst": "atypical cyst"}
    kind = NODULE_TYPES[nodule.type]
    growth = GROWTH[nodule.growth]
    said = Phrase(growth.en.split(" (")[0].split(" since")[0], growth.zh.split("（")[0])
    return [
        Paragraph(str(nodule.number), style(9, bold=True)),
        both(Phrase(short.get(nodule.type, kind.en), kind.zh.split("（")[0]), 7.5),
        both(LOBES[nodule.lobe], 7.5),
        figure(nodule.slice_number),
        figure(f"{nodule.long_axis_mm:.1f} × {nodule.short_axis_mm:.1f}"),
        Paragraph(f"{nodule.mean_diameter_mm:.1f}", style(8, bold=True)),
        figure(nodule.volume_mm3),
        figure(nodule.mean_hu),
        [
            *both(said, 7.5),
            *(part for word in course.reviewed(nodule) for part in both(word, 6.5, textColor=BLUE)),
        ],
        Paragraph(nodule.category_of(guideline) or "–", style(9, bold=True, textColor=BLUE)),
        figure(f"{nodule.detection_score:.2f}"),
    ]


def _key_images(content: Content, pictures: Mapping[str, bytes]) -> Iterator[Flowable]:
    side = (WIDTH - 2 * 2 * mm) / 3
    for nodule in content.nodules:
        own = pictures_of(nodule, pictures).values()
        if not own:
            continue
        name = nodule_name(nodule)
        size = f"{nodule.mean_diameter_mm:.1f} mm, {nodule.volume_mm3} mm³"
        number = f'<font name="{STRONG}">{nodule.number}</font>&nbsp;'
        caption = Paragraph(
            f"{number} {escape(name.en)} · {escape(name.zh)} · {size}",
            style(8),
        )
        images = Table(
            [[Image(io.BytesIO(data), side, side) for data in own]],
            colWidths=[side + 2 * mm] * len(own),
        )
        images.setStyle(
            TableStyle(
                [
                    ("LEFTPADDING", (0, 0), (-1, -1), 0),
                    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                    ("TOPPADDING", (0, 0), (-1, -1), 2),
                    ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
                ]
            )
        )
        images.hAlign = "LEFT"
        yield KeepTogether([caption, images, Spacer(1, 4 * mm)])


def _full_text(content: Content, words: Templates | None) -> Iterator[Flowable]:
    """The whole text, English on the left and the same sentence in Chinese on the right."""
    for section in sections(content, words):
        yield CondPageBreak(28 * mm)
        yield bar(section.heading)
        yield from _pairs(section)
        for item in section.items:
            heading = row(item.heading, 8.5, bold=True)
            heading.setStyle(TableStyle([("BACKGROUND", (0, 0), (-1, -1), STRIPE)]))
            yield CondPageBreak(22 * mm)
            yield heading
            yield from _pairs(item)
        yield Spacer(1, 3 * mm)


def _pairs(section: Section) -> Iterator[Flowable]:
    for line in section.lines:
        yield row(line, 8)


class _NumberedCanvas(Canvas):  # type: ignore[misc]
    """Draws head and foot once the number of pages is known."""

    def __init__(self, *arguments: Any, foot: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._foot = foot
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:
        """Keep the page until the last one is made."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Draw head and foot on every page and write the file."""
        pages = self._pages
        for number, page in enumerate(pages, 1):
            self.__dict__.update(page)
            self._furniture(number, len(pages))
            super().showPage()
        super().save()

    def _furniture(self, number: int, count: int) -> None:
        width, height = A4
        self.setFillColor(BLUE)
        self.rect(0, height - 17 * mm, width, 17 * mm, stroke=0, fill=1)
        self.setFillColor(white)
        self.setFont(STRONG, 13)
        self.drawString(MARGIN, height - 11 * mm, TITLE.zh)
        zh_width = pdfmetrics.stringWidth(TITLE.zh, STRONG, 13)
        self.setFont(TEXT, 10.5)
        self.drawString(MARGIN + zh_width + 4 * mm, height - 11 * mm, TITLE.en)
        self.setFont(STRONG, 10.5)
        self.drawRightString(width - MARGIN, height - 11 * mm, "LungMesh")
        self.setStrokeColor(LINE)
        self.line(MARGIN, 15.5 * mm, width - MARGIN, 15.5 * mm)
        self.setFillColor(DIM)
        self.setFont(TEXT, 6.5)
        self.drawString(MARGIN, 12 * mm, NOTICE.en)
        self.drawString(MARGIN, 8.8 * mm, NOTICE.zh)
        self.drawRightString(width - MARGIN, 8.8 * mm, self._foot)
        self.setFont(STRONG, 8)
        self.drawRightString(width - MARGIN, 12 * mm, f"{number} / {count}")
