"""The report as a page: its structure, its words, and what cannot get into it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from lungmesh.report.content import Content
from lungmesh.report.facts import from_event
from lungmesh.report.html import html
from lungmesh.report.terms import Language
from lungmesh.report.wording import LANGUAGES, Section, sections
from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.support.report import followup
from tests.support.report_course import corrected
from tests.unit.report.conftest import Exam

DIGEST = "ab" * 32
# A PNG of one black pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63600000000200014821bc330000000049454e44ae426082"
)
PICTURES = {f"key_1_{plane}.png": PNG for plane in ("axial", "coronal", "sagittal")}


@dataclass
class Read(HTMLParser):
    """What a page holds: (tag, attributes), the words, the levels of its headings."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(page: bytes) -> Read:
    reader = Read()
    reader.feed(page.decode())
    return reader


@pytest.fixture(scope="module")
def second(exam: Exam) -> Content:
    """A second edition after a radiologist's corrections, with two earlier exams."""
    return from_event(corrected(exam.case), exam.headers)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_screen_reader_finds_its_way(second: Content, language: Language) -> None:
    page = read(html(second, language, PICTURES, DIGEST))
    assert page.all("html") == [{"lang": {"en": "en", "zh": "zh-CN"}[language]}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - now <= 1 for now, later in pairwise(levels))
    assert {tag for tag, _ in page.tags} >= {"header", "main", "footer", "section"}
    assert {cell["scope"] for cell in page.all("th")} == {"col", "row"}
    assert len(page.all("table")) == 2
    pictures = page.all("img")
    assert len(pictures) == 3 + len(second.nodules)
    assert all(picture["alt"] for picture in pictures)
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(names)) == len(names)


def test_nothing_is_run_and_nothing_is_fetched(second: Content) -> None:
    written = html(second, "en", PICTURES, DIGEST)
    page = read(written)
    assert not page.all("script") + page.all("link") + page.all("a")
    assert {str(picture["src"]).partition(":")[0] for picture in page.all("img")} == {"data"}
    assert b"url(" not in written
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_says_what_the_text_says(second: Content, language: Language) -> None:
    words = "".join(read(html(second, language, PICTURES, DIGEST)).words)

    def lines(section: Section) -> list[str]:
        phrases = [section.heading, *section.lines]
        own = [phrase.en if language == "en" else phrase.zh for phrase in phrases]
        return own + [line for item in section.items for line in lines(item)]

    for section in sections(second):
        for line in lines(section):
            assert line in words


def test_pictures_are_told_in_words(second: Content) -> None:
    said = [picture["alt"] for picture in read(html(second, "en", PICTURES, DIGEST)).all("img")]
    assert said[0] == (
        "Volume of nodule 1, right middle lobe, over time: 1998-06-01 581 mm³, 1999-01-01 588 mm³, "
        "2000-01-01 600 mm³."
    )
    assert (
        "Nodule 1, part-solid nodule, right middle lobe, coronal plane through its centre, "
        "outlined." in said
    )


def test_a_header_cannot_bring_markup_into_the_page(exam: Exam) -> None:
    event = FollowupUpdated.FromString(exam.event.SerializeToString())
    event.exam.volume.acquisition.manufacturer = "<script>alert(1)</script><b>"
    page = read(html(from_event(event, exam.headers), "en", {}, DIGEST))
    assert not page.all("script") + page.all("b")
    assert "<script>alert(1)</script><b>" in "".join(page.words)


def test_the_same_content_gives_the_same_bytes(exam: Exam) -> None:
    content = from_event(followup(exam.case, 0, prior=False), exam.headers)
    assert html(content, "zh", {}, DIGEST) == html(content, "zh", {}, DIGEST)
    assert "自动阅片未检出肺结节。" in html(content, "zh", {}, DIGEST).decode()
