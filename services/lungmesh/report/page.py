"""What the HTML page shows, in one language: all that its template (`report.html`) may say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Labelled:
    """A value and what it is."""

    label: str
    value: str


@dataclass(frozen=True)
class Result:
    """A guideline's word on the exam."""

    guideline: str
    category: str
    advice: str
    source: str


@dataclass(frozen=True)
class Grid:
    """A table; the first cell of a row is its heading."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, and the same in words."""

    source: str
    words: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """Pictures with what they show."""

    heading: str
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Paragraph:
    """A heading and its sentences."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Chapter:
    """A section of the text, with its paragraphs."""

    name: str
    heading: str
    lines: tuple[str, ...]
    paragraphs: tuple[Paragraph, ...]


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes
    ----------
    language
        BCP 47.
    replaces
        That a corrected report takes an earlier one's place.
    next
        What the programme's guideline asks for next.
    galleries
        Growth plot and key images.
    foot
        Versions, and the hash of the content.
    """

    language: str
    title: str
    notice: str
    replaces: tuple[str, ...]
    exam: tuple[Labelled, ...]
    result_heading: str
    results: tuple[Result, ...]
    next: tuple[str, ...]
    grids: tuple[Grid, ...]
    galleries: tuple[Gallery, ...]
    chapters: tuple[Chapter, ...]
    foot: str
