"""The report in words: every sentence is a line of a template, in both languages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lungmesh.report.content import Category, Content, Fact, Model, Nodule
from lungmesh.report.course import day, edition, listed, probability
from lungmesh.report.page import Page
from lungmesh.report.templating import Templates
from lungmesh.report.terms import (
    CORRECTIONS,
    FACT_VALUES,
    FACTS,
    FEATURES,
    GROWTH,
    LOBES,
    METHODS,
    NODULE_TYPES,
    OUTCOMES,
    OUTSIDE_USE,
    SEVERITIES,
    SIGNS,
    UNITS,
    UNLIKE,
    VALUES,
    Language,
    Phrase,
    named,
)

LANGUAGES: tuple[Language, ...] = ("en", "zh")

TITLE = Phrase("Chest CT: pulmonary nodule report", "胸部CT肺结节报告")
NOTICE = Phrase(
    "Research use and decision support; not a cleared medical device. A radiologist must confirm "
    "every finding.",
    "仅供科研与辅助决策，非获批医疗器械；所有结果须由放射科医师确认。",
)
# The sections in reading order; the findings are followed by a paragraph a nodule.
_SECTIONS = (
    "technique", "quality", "comparison", "findings", "recommendation", "impression", "limits",
)  # fmt: skip
_WHOLE = {"report": Content, "notice": str}
_OF_A_NODULE = {"report": Content, "nodule": Nodule}
_SCOPES = {
    **dict.fromkeys((*_SECTIONS, "next"), _WHOLE),
    **dict.fromkeys(("nodule", "course"), _OF_A_NODULE),
}
# Words of codes, by the name that a template gives.
_TABLES: Mapping[str, Mapping[Any, Phrase]] = {
    "correction": CORRECTIONS,
    "fact": FACTS,
    "feature": FEATURES,
    "growth": GROWTH,
    "lobe": LOBES,
    "method": METHODS,
    "outcome": OUTCOMES,
    "outside_use": OUTSIDE_USE,
    "severity": SEVERITIES,
    "sign": SIGNS,
    "type": NODULE_TYPES,
    "unlike": UNLIKE,
    "value": VALUES,
}


@dataclass(frozen=True)
class Section:
    """A heading and its sentences; `items` are paragraphs with a heading of their own.

    A heading or sentence that one language does not have is empty there.
    """

    name: str
    heading: Phrase
    lines: tuple[Phrase, ...] = ()
    items: tuple[Section, ...] = ()


def templates(folder: Path | None = None) -> Templates:
    """Return the packaged templates, those of a folder in the place of their namesakes.

    Raises SettingsError, which names file, line and fault, for one that is unknown or broken.
    """
    scopes = {
        f"{language}/{name}.txt": scope for name, scope in _SCOPES.items() for language in LANGUAGES
    }
    filters: dict[str, dict[str, Any]] = {
        "": {},
        **{language: _filters(language) for language in LANGUAGES},
    }
    return Templates({**scopes, "report.html": {"page": Page}}, filters, folder)


@cache
def packaged() -> Templates:
    """Return the templates that come with LungMesh."""
    return templates()


def sections(content: Content, words: Templates | None = None) -> tuple[Section, ...]:
    """Return the report's sections in reading order; the packaged templates speak by default."""
    said = _Writer(content, words or packaged())
    return tuple(section for name in _SECTIONS for section in said.section(name))


def conclusion(content: Content, words: Templates | None = None) -> tuple[Phrase, ...]:
    """Return what the report says in short: what it replaces, and its impression."""
    found = _Writer(content, words or packaged()).section("impression")
    return (*edition(content), *(line for section in found for line in section.lines))


def course(nodule: Nodule, content: Content, words: Templates | None = None) -> tuple[Phrase, ...]:
    """Say how a nodule has changed, and what people said of it."""
    return _Writer(content, words or packaged()).lines("course", nodule=nodule)


def next_exam(content: Content, words: Templates | None = None) -> tuple[Phrase, ...]:
    """Say what the programme's guideline asks for next; nothing where it names no date."""
    return _Writer(content, words or packaged()).lines("next")


class _Writer:
    """Says one report in both languages."""

    def __init__(self, content: Content, words: Templates) -> None:
        self._content, self._words = content, words

    def lines(self, name: str, **facts: object) -> tuple[Phrase, ...]:
        en, zh = (self._in(language, name, facts) for language in LANGUAGES)
        return tuple(Phrase(*pair) for pair in zip_longest(en, zh, fillvalue=""))

    def _in(self, language: Language, name: str, facts: Mapping[str, object]) -> list[str]:
        written = self._words.render(
            f"{language}/{name}.txt",
            report=self._content,
            notice=NOTICE.said(language),
            **facts,
        )
        return [line for each in written.split("\n") if (line := each.strip())]

    def section(self, name: str, **facts: object) -> Iterator[Section]:
        """Yield a section: the first line is its heading; none where its templates say nothing."""
        lines = self.lines(name, **facts)
        if not lines:
            return
        items = [
            item
            for nodule in (self._content.nodules if name == "findings" else ())
            for item in self.section("nodule", nodule=nodule)
        ]
        yield Section(name, lines[0], lines[1:], tuple(items))


def nodule_name(nodule: Nodule) -> Phrase:
    """Return type and place of a nodule."""
    kind, lobe = named(NODULE_TYPES, nodule.type), named(LOBES, nodule.lobe)
    return Phrase(f"{kind.en} nodule, {lobe.en}", f"{lobe.zh}{kind.zh}结节")


def category_name(category: Category) -> Phrase:
    """Return guideline, edition and category, or what is missing for one."""
    name = _model_name(category.guideline).en
    if category.category:
        return Phrase(f"{name}: category {category.category}", f"{name}：{category.category} 类")
    needs = listed(named(FACTS, need) for need in category.needs)
    return Phrase(
        f"{name}: no category can be given; needed: {needs.en}",
        f"{name}：无法分级，尚需：{needs.zh}",
    )


def _model_name(model: Model) -> Phrase:
    name = f"{model.name} {model.version}"
    return Phrase(name, name)


def _fact_name(item: Fact) -> Phrase:
    name = named(FACTS, item.name)
    value = FACT_VALUES.get(item.value, Phrase(item.value, item.value))
    unit = UNITS.get(item.unit, Phrase(item.unit, item.unit))
    en, zh = f"{value.en} {unit.en}".strip(), f"{value.zh} {unit.zh}".strip()
    return Phrase(f"{name.en} {en}", f"{name.zh} {zh}")


def _name(thing: object) -> Phrase:
    """Return a thing in words.

    Raises TypeError for one that has none.
    """
    if isinstance(thing, Nodule):
        return nodule_name(thing)
    if isinstance(thing, Category):
        return category_name(thing)
    if isinstance(thing, Model):
        return _model_name(thing)
    if isinstance(thing, Fact):
        return _fact_name(thing)
    raise TypeError(f"{thing} has no name")


def _filters(language: Language) -> dict[str, Any]:
    """Return what templates of a language put values into words with."""

    def said(phrase: Phrase) -> str:
        return phrase.said(language)

    def words(codes: Iterable[Any], table: str) -> str:
        return said(listed(named(_TABLES[table], code) for code in codes))

    def commas(items: Iterable[str]) -> str:
        return said(listed(Phrase(item, item) for item in items))

    return {
        "word": lambda code, table: said(named(_TABLES[table], code)),
        "words": words,
        "name": lambda thing: said(_name(thing)),
        "names": lambda things: said(listed(_name(thing) for thing in things)),
        "commas": commas,
        "day": day,
        "fixed": lambda value, digits: f"{value:.{digits}f}",
        "signed": lambda value, digits: f"{value:+.{digits}f}",
        "short": lambda value: f"{value:g}",
        "percent": lambda share, digits: f"{share * 100:.{digits}f} %",
        "chance": probability,
        "sentence": lambda text: text.rstrip(".。"),
    }
