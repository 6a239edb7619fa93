"""The words for time: earlier exams, each nodule's course, corrections, what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lungmesh.report.content import (
    Content,
    PriorMatch,
)
from lungmesh.report.terms import (
    OUTCOMES,
    UNLIKE,
    Phrase,
    date,
    named,
)


def listed(phrases: Iterable[Phrase]) -> Phrase:
    """Return phrases as one, with the commas of their language."""
    items = list(phrases)
    return Phrase(", ".join(item.en for item in items), "、".join(item.zh for item in items))


def unlike(codes: Iterable[str]) -> Phrase:
    """Return what makes two exams unlike."""
    return listed(named(UNLIKE, code) for code in codes)


def in_a_word(outcome: str) -> Phrase:
    """Return an outcome without what it means."""
    word = OUTCOMES[outcome]
    return Phrase(word.en.split(":")[0], word.zh.split("：")[0])


def day(dicom_date: str) -> str:
    """Return a DICOM DA as YYYY-MM-DD; ? when there is none."""
    return date(dicom_date) or "?"


def doubling_time(prior: PriorMatch) -> str:
    """Return the volume doubling time for a table, days with its 95 % interval; ∞ is no change."""
    if prior.volume_doubling_time_days is None:
        return "–"
    low, high = prior.volume_doubling_time_low_days, prior.volume_doubling_time_high_days
    if low is None and high is None:
        return str(prior.volume_doubling_time_days)
    ends = " – ".join("∞" if end is None else str(end) for end in (low, high))
    return f"{prior.volume_doubling_time_days} ({ends})"


def probability(value: float) -> str:
    """Return a probability in percent; none is certain."""
    if value > 0.99:
        return "> 99 %"
    return "< 1 %" if value < 0.01 else f"{value:.0%}".replace("%", " %")


def edition(content: Content) -> Iterator[Phrase]:
    """Say that the report takes an earlier one's place; nothing of a first edition."""
    if content.edition > 1:
        now, before = content.edition, content.edition - 1
        yield Phrase(
            f"Corrected report, edition {now}: replaces edition {before}.",
            f"更正报告，第 {now} 版：取代第 {before} 版。",
        )
