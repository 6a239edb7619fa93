"""The report as an A4 PDF in both languages: result, table, key images, the full text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
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

from lungmesh.report.content import LUNG_RADS, Category, Content, Nodule
from lungmesh.report.fonts import BOLD, REGULAR
from lungmesh.report.objects import VERSION
from lungmesh.report.terms import GROWTH, LOBES, NODULE_TYPES, Phrase, date
from lungmesh.report.wording import NOTICE, TITLE, Section, category_name, nodule_name, sections

_MARGIN = 15 * mm
_WIDTH = A4[0] - 2 * _MARGIN
# What ReportLab leaves free inside the frame of a page, points.
_FRAME_PADDING = 6
_INK, _DIM, _LINE = HexColor("#1b2733"), HexColor("#5b6b7a"), HexColor("#cfd8e0")
_BLUE, _PALE, _STRIPE = HexColor("#0f4c81"), HexColor("#e9f1f8"), HexColor("#f6f8fa")
_TEXT, _STRONG = "NotoSansSC", "NotoSansSC-Bold"


def pdf(content: Content, pictures: Mapping[str, bytes], content_sha256: str) -> bytes:
    """Return the PDF; the same content gives the same bytes.

    Parameters
    ----------
    pictures
        The key images by name (key_<number>_<plane>.png), in order.
    """
    _fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN - _FRAME_PADDING,
        rightMargin=_MARGIN - _FRAME_PADDING,
        topMargin=23 * mm,
        bottomMargin=19 * mm,
        title=f"{TITLE.en} {TITLE.zh}",
        author="LungMesh",
        subject=NOTICE.en,
        invariant=1,
    )
    story = [
        *_heading(content),
        *_result(content),
        *_nodule_table(content),
        *_key_images(content, pictures),
        *_full_text(content),
    ]
    canvas = partial(_NumberedCanvas, foot=f"LungMesh report {VERSION} · {content_sha256[:16]}")
    document.build(story, canvasmaker=canvas)
    return buffer.getvalue()


@cache
def _fonts() -> None:
    pdfmetrics.registerFont(TTFont(_TEXT, str(REGULAR)))
    pdfmetrics.registerFont(TTFont(_STRONG, str(BOLD)))


def _style(size: float, bold: bool = False, zh: bool = False, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(
        f"{size}-{bold}-{zh}-{sorted(more)}",
        fontName=_STRONG if bold else _TEXT,
        fontSize=size,
        leading=size * 1.38,
        textColor=more.pop("textColor", _INK),
        wordWrap="CJK" if zh else None,
        **more,
    )


def _both(phrase: Phrase, size: float, **more: Any) -> list[Flowable]:
    return [
        Paragraph(escape(phrase.en), _style(size, **more)),
        Paragraph(escape(phrase.zh), _style(size, zh=True, **more)),
    ]


def _heading(content: Content) -> Iterator[Flowable]:
    exam = content.exam
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
            Paragraph(f"{label.en} {label.zh}", _style(7, textColor=_DIM)),
            Paragraph(escape(value), _style(9, bold=True)),
        ]
        for label, value in rows
    ]
    table = Table([cells[:2], cells[2:]], colWidths=[_WIDTH * 0.56, _WIDTH * 0.44])
    table.setStyle(
        TableStyle(
            [
                ("BOX", (0, 0), (-1, -1), 0.6, _LINE),
                ("INNERGRID", (0, 0), (-1, -1), 0.4, _LINE),
                ("TOPPADDING", (0, 0), (-1, -1), 3),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
            ]
        )
    )
    yield table
    yield Spacer(1, 3 * mm)


def _result(content: Content) -> Iterator[Flowable]:
    """The exam's categories, each with what the guideline says to do."""
    rows = [[_badge(category), _advice(category)] for category in content.categories]
    table = Table(rows, colWidths=[34 * mm, _WIDTH - 34 * mm])
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), _PALE),
                ("LINEBEFORE", (0, 0), (0, -1), 2.5, _BLUE),
                ("LINEBELOW", (0, 0), (-1, -2), 0.6, white),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("TOPPADDING", (0, 0), (-1, -1), 4),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 6),
            ]
        )
    )
    yield table
    yield Spacer(1, 4 * mm)


def _badge(category: Category) -> list[Flowable]:
    return [
        Paragraph(
            escape(f"{category.guideline.name} {category.guideline.version}"),
            _style(7.5, textColor=_DIM),
        ),
        Paragraph(
            escape(category.category or "–"),
            _style(18 if len(category.category) < 4 else 11, bold=True, textColor=_BLUE),
        ),
    ]


def _advice(category: Category) -> list[Flowable]:
    source = Paragraph(escape(category.source), _style(6.5, textColor=_DIM))
    if not category.category:
        return [*_both(category_name(category), 8.5), source]
    return [*_both(Phrase(category.management_en, category.management_zh), 8.5), source]


def _nodule_table(content: Content) -> Iterator[Flowable]:
    if not content.nodules:
        yield from _both(
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
        (LUNG_RADS, "分级"),
        ("Score", "评分"),
    )
    rows = [[[Paragraph(text, _style(7, bold=True)) for text in labels] for labels in head]]
    rows += [_nodule_row(nodule) for nodule in content.nodules]
    shares = (0.035, 0.125, 0.13, 0.065, 0.11, 0.085, 0.085, 0.065, 0.12, 0.105, 0.075)
    table = Table(rows, colWidths=[_WIDTH * share for share in shares], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("LINEABOVE", (0, 0), (-1, 0), 0.9, _BLUE),
                ("LINEBELOW", (0, 0), (-1, 0), 0.9, _BLUE),
                ("LINEBELOW", (0, 1), (-1, -1), 0.4, _LINE),
                ("ROWBACKGROUNDS", (0, 1), (-1, -1), [white, _STRIPE]),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("LEFTPADDING", (0, 0), (-1, -1), 3),
                ("RIGHTPADDING", (0, 0), (-1, -1), 2),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
            ]
        )
    )
    yield table
    yield Spacer(1, 4 * mm)


def _nodule_row(nodule: Nodule) -> list[Any]:
    def figure(text: object) -> Paragraph:
        return Paragraph(str(text), _style(8))

    short = {"non_solid": "non-solid", "atypical_cyst": "atypical cyst"}
    kind = NODULE_TYPES[nodule.type]
    growth = GROWTH[nodule.growth]
    course = Phrase(growth.en.split(" (")[0].split(" since")[0], growth.zh.split("（")[0])
    return [
        Paragraph(str(nodule.number), _style(9, bold=True)),
        _both(Phrase(short.get(nodule.type, kind.en), kind.zh.split("（")[0]), 7.5),
        _both(LOBES[nodule.lobe], 7.5),
        figure(nodule.slice_number),
        figure(f"{nodule.long_axis_mm:.1f} × {nodule.short_axis_mm:.1f}"),
        Paragraph(f"{nodule.mean_diameter_mm:.1f}", _style(8, bold=True)),
        figure(nodule.volume_mm3),
        figure(nodule.mean_hu),
        _both(course, 7.5),
        Paragraph(nodule.category_of(LUNG_RADS) or "–", _style(9, bold=True, textColor=_BLUE)),
        figure(f"{nodule.detection_score:.2f}"),
    ]


def _key_images(content: Content, pictures: Mapping[str, bytes]) -> Iterator[Flowable]:
    side = (_WIDTH - 2 * 2 * mm) / 3
    for nodule in content.nodules:
        own = [data for name, data in pictures.items() if name.startswith(f"key_{nodule.number}_")]
        if not own:
            continue
        name = nodule_name(nodule)
        size = f"{nodule.mean_diameter_mm:.1f} mm, {nodule.volume_mm3} mm³"
        number = f'<font name="{_STRONG}">{nodule.number}</font>&nbsp;'
        caption = Paragraph(
            f"{number} {escape(name.en)} · {escape(name.zh)} · {size}",
            _style(8),
        )
        row = Table(
            [[Image(io.BytesIO(data), side, side) for data in own]],
            colWidths=[side + 2 * mm] * len(own),
        )
        row.setStyle(
            TableStyle(
                [
                    ("LEFTPADDING", (0, 0), (-1, -1), 0),
                    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                    ("TOPPADDING", (0, 0), (-1, -1), 2),
                    ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
                ]
            )
        )
        row.hAlign = "LEFT"
        yield KeepTogether([caption, row, Spacer(1, 4 * mm)])


def _full_text(content: Content) -> Iterator[Flowable]:
    """The whole text, English on the left and the same sentence in Chinese on the right."""
    for section in sections(content):
        yield CondPageBreak(28 * mm)
        yield _bar(section.heading)
        yield from _pairs(section)
        for item in section.items:
            heading = _row(item.heading, 8.5, bold=True)
            heading.setStyle(TableStyle([("BACKGROUND", (0, 0), (-1, -1), _STRIPE)]))
            yield CondPageBreak(22 * mm)
            yield heading
            yield from _pairs(item)
        yield Spacer(1, 3 * mm)


def _bar(heading: Phrase) -> Table:
    bar = _row(heading, 9.5, bold=True, textColor=_BLUE)
    bar.setStyle(TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.9, _BLUE)]))
    return bar


def _pairs(section: Section) -> Iterator[Flowable]:
    for line in section.lines:
        yield _row(line, 8)


def _row(phrase: Phrase, size: float, **more: Any) -> Table:
    table = Table([_both(phrase, size, **more)], colWidths=[_WIDTH * 0.54, _WIDTH * 0.46])
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 2),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
            ]
        )
    )
    return table


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
        self.setFillColor(_BLUE)
        self.rect(0, height - 17 * mm, width, 17 * mm, stroke=0, fill=1)
        self.setFillColor(white)
        self.setFont(_STRONG, 13)
        self.drawString(_MARGIN, height - 11 * mm, TITLE.zh)
        zh_width = pdfmetrics.stringWidth(TITLE.zh, _STRONG, 13)
        self.setFont(_TEXT, 10.5)
        self.drawString(_MARGIN + zh_width + 4 * mm, height - 11 * mm, TITLE.en)
        self.setFont(_STRONG, 10.5)
        self.drawRightString(width - _MARGIN, height - 11 * mm, "LungMesh")
        self.setStrokeColor(_LINE)
        self.line(_MARGIN, 15.5 * mm, width - _MARGIN, 15.5 * mm)
        self.setFillColor(_DIM)
        self.setFont(_TEXT, 6.5)
        self.drawString(_MARGIN, 12 * mm, NOTICE.en)
        self.drawString(_MARGIN, 8.8 * mm, NOTICE.zh)
        self.drawRightString(width - _MARGIN, 8.8 * mm, self._foot)
        self.setFont(_STRONG, 8)
        self.drawRightString(width - _MARGIN, 12 * mm, f"{number} / {count}")
