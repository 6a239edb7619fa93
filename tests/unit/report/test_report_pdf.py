"""How the PDF sets its text: Chinese line breaks, and a glyph for everything that it can say."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
from reportlab.pdfbase.ttfonts import TTFontFile

from lungmesh.followup import guidelines
from lungmesh.report.facts import from_event
from lungmesh.report.fonts import BOLD, REGULAR
from lungmesh.report.pdf_style import Hanzi, fonts, style
from lungmesh.report.wording import sections
from tests.support.report_course import corrected
from tests.unit.report.conftest import Exam

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def sentences(exam: Exam) -> list[str]:
    """Every Chinese sentence of a report with two earlier exams and corrections."""
    content = from_event(corrected(exam.case), exam.headers)
    out = []
    for section in sections(content):
        for part in (section, *section.items):
            out += [phrase.zh for phrase in (part.heading, *part.lines)]
    return out


def figures(words: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", words)


@pytest.mark.parametrize("width", [60.0, 120.0, 230.0])
def test_a_chinese_line_breaks_where_a_reader_expects_it(
    sentences: list[str], width: float
) -> None:
    fonts()
    for sentence in sentences:
        escaped = sentence.replace("<", "&lt;").replace(">", "&gt;")
        made = Hanzi(escaped, style(8, zh=True)).breakLinesCJK([width])
        lines = [words for _, (words,) in made.lines]
        assert "".join(lines).replace(" ", "") == sentence.replace(" ", "")
        assert all(room >= 0 for room, _ in made.lines), sentence
        assert Counter(figures(sentence)) == Counter(f for line in lines for f in figures(line))
        for line, following in pairwise(lines):
            assert not re.match("[，。；：、）】”]|mm|%", following), (line, following)
            assert not re.search("[（【“]$", line), (line, following)


@pytest.mark.parametrize("font", [REGULAR, BOLD], ids=["regular", "bold"])
def test_the_fonts_hold_every_sign_of_words_templates_and_guidelines(font: Path) -> None:
    glyphs = TTFontFile(str(font)).charToGlyph
    report = ROOT / "services" / "lungmesh" / "report"
    sources = [
        *(report / f"{name}.py" for name in ("terms", "course", "wording", "growth_plot")),
        *report.glob("pdf*.py"),
        *report.glob("templates/*/*.txt"),
    ]
    tables = resources.files(guidelines) / "tables"
    words = "".join(source.read_text(encoding="utf-8") for source in sources)
    words += "".join(table.read_text(encoding="utf-8") for table in tables.iterdir())
    assert {sign for sign in words if sign != "\n" and ord(sign) not in glyphs} == set()
