"""What every part of the PDF shares: fonts, colours, measures, paragraphs in both languages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, Table, TableStyle

from lungmesh.report.fonts import BOLD, REGULAR
from lungmesh.report.terms import Phrase

MARGIN = 15 * mm
WIDTH = A4[0] - 2 * MARGIN
INK, DIM, LINE = HexColor("#1b2733"), HexColor("#5b6b7a"), HexColor("#cfd8e0")
BLUE, PALE, STRIPE = HexColor("#0f4c81"), HexColor("#e9f1f8"), HexColor("#f6f8fa")
RED = HexColor("#a61b1b")
TEXT, STRONG = "NotoSansSC", "NotoSansSC-Bold"


@cache
def fonts() -> None:
    """Make the fonts known to ReportLab."""
    pdfmetrics.registerFont(TTFont(TEXT, str(REGULAR)))
    pdfmetrics.registerFont(TTFont(STRONG, str(BOLD)))


def style(size: float, bold: bool = False, zh: bool = False, **more: Any) -> ParagraphStyle:
    """Return the style of a paragraph."""
    return ParagraphStyle(
        f"{size}-{bold}-{zh}-{sorted(more)}",
        fontName=STRONG if bold else TEXT,
        fontSize=size,
        leading=size * 1.38,
        textColor=more.pop("textColor", INK),
        wordWrap="CJK" if zh else None,
        **more,
    )


# What no line break may cut in Chinese text: a sign with the marks beside it that may not begin or
# end a line, a word, a number with its unit.
_PIECE = re.compile(
    r"[（【《“‘]*"
    r"(?:[^\s\u2e80-\u9fff\uff00-\uffef“”‘’]+(?: (?:mm³?|%|HU|mg|ml|kVp|mGy)(?![A-Za-z])[).]*)?|\S)"
    r"[，。；：、）】》？！”’]*\s*"
)


class Hanzi(Paragraph):  # type: ignore[misc]
    """A Chinese paragraph; ReportLab's own breaks cut words and begin lines with a comma."""

    def breakLinesCJK(self, maxWidths: list[float]) -> Any:
        """Return the lines, for the widths that the frame gives (points)."""
        if not self.frags or getattr(self, "_splitpara", False):
            return super().breakLinesCJK(maxWidths)
        # An entity such as &gt; stands in a fragment of its own; all look the same.
        fragment, text = self.frags[0], "".join(fragment.text for fragment in self.frags)
        name, size = fragment.fontName, fragment.fontSize
        lines: list[tuple[float, list[str]]] = []
        line = ""

        def left(text: str) -> float:
            """Return the room that a text leaves on the line to come."""
            width = maxWidths[min(len(lines), len(maxWidths) - 1)]
            return float(width - pdfmetrics.stringWidth(text.rstrip(), name, size))

        for piece in _PIECE.findall(text):
            for part in [piece] if left(piece) >= 0 else piece:
                if line and left(line + part) < 0:
                    lines.append((left(line), [line.rstrip()]))
                    line = ""
                line += part
        lines.append((left(line), [line.rstrip()]))
        return fragment.clone(kind=0, lines=lines, ascent=size, descent=-0.2 * size)


def both(phrase: Phrase, size: float, **more: Any) -> list[Flowable]:
    """Return a phrase as two paragraphs, English above Chinese."""
    return [
        Paragraph(escape(phrase.en), style(size, **more)),
        Hanzi(escape(phrase.zh), style(size, zh=True, **more)),
    ]


def row(phrase: Phrase, size: float, **more: Any) -> Table:
    """Return a phrase as a line: English on the left, Chinese on the right."""
    table = Table([both(phrase, size, **more)], colWidths=[WIDTH * 0.54, WIDTH * 0.46])
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


def bar(heading: Phrase) -> Table:
    """Return the heading of a section."""
    line = row(heading, 9.5, bold=True, textColor=BLUE)
    line.setStyle(TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.9, BLUE)]))
    return line


def head_cells(labels: Sequence[tuple[str, str]]) -> list[list[Paragraph]]:
    """Return the first row of a table: a label in each language over each column."""
    return [[Paragraph(text, style(7, bold=True)) for text in label] for label in labels]


def table_style(*more: tuple[Any, ...]) -> TableStyle:
    """Return the look of the report's tables, with what one of them adds."""
    return TableStyle(
        [
            ("LINEABOVE", (0, 0), (-1, 0), 0.9, BLUE),
            ("LINEBELOW", (0, 0), (-1, 0), 0.9, BLUE),
            ("LINEBELOW", (0, 1), (-1, -1), 0.4, LINE),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LEFTPADDING", (0, 0), (-1, -1), 3),
            ("RIGHTPADDING", (0, 0), (-1, -1), 2),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
            *more,
        ]
    )
