"""The report as plain text, one file a language."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from lungmesh.report.content import Content
from lungmesh.report.course import edition
from lungmesh.report.templating import Templates
from lungmesh.report.terms import Language, Phrase, date
from lungmesh.report.wording import LANGUAGES, NOTICE, TITLE, Section, sections

__all__ = ["LANGUAGES", "Language", "body", "report"]


def body(content: Content, language: Language, words: Templates | None = None) -> str:
    """Return the report below its heading of identity: what the content hash covers."""
    written = (_lines(section, language, "") for section in sections(content, words))
    return "\n\n".join("\n".join(lines) for lines in written)


def report(content: Content, language: Language, words: Templates | None = None) -> str:
    """Return the whole text, ending with a newline."""
    title, notice = TITLE.said(language), NOTICE.said(language)
    patient = Phrase("Patient (pseudonym)", "患者（假名）").said(language)
    day = Phrase("Exam date", "检查日期").said(language)
    unknown = Phrase("not stated", "未注明").said(language)
    head = [
        title,
        "=" * _width(title),
        notice,
        *(replaced.said(language) for replaced in edition(content)),
        "",
        f"{patient}: {content.ids['patient']}",
        f"{day}: {date(content.exam.study_date) or unknown}",
    ]
    return "\n".join(head) + "\n\n" + body(content, language, words) + "\n"


def _lines(section: Section, language: Language, indent: str) -> Iterator[str]:
    heading = section.heading.said(language)
    yield indent + heading
    if not indent:
        yield "-" * _width(heading)
    for line in section.lines:
        # A sentence that this language's template does not have.
        if words := line.said(language):
            yield f"{indent}  {words}" if indent else words
    for item in section.items:
        yield ""
        yield from _lines(item, language, indent + "  ")


def _width(text: str) -> int:
    """Return the columns of a text on a terminal; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
