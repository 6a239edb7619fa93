"""The words for time that sentences, tables and pages share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lungmesh.report.content import Content, Nodule, PastSize, PriorMatch
from lungmesh.report.terms import OUTCOMES, UNLIKE, Phrase, date, named


def listed(phrases: Iterable[Phrase]) -> Phrase:
    """Return phrases as one, with the commas of their language."""
    items = list(phrases)
    return Phrase(", ".join(item.en for item in items), "、".join(item.zh for item in items))


def tracked(content: Content) -> list[Nodule]:
    """Return the nodules that an earlier exam shows."""
    return [nodule for nodule in content.nodules if nodule.history]


def compared(nodule: Nodule) -> Iterator[tuple[PastSize, PriorMatch | None]]:
    """Yield a nodule's earlier selves, the earliest first, each with what it was compared by."""
    priors = {prior.ids["study_id"]: prior for prior in nodule.priors}
    for past in reversed(nodule.history):
        yield past, priors.get(past.ids["study_id"])


def unlike(prior: PriorMatch) -> Phrase:
    """Return for a table what makes an earlier exam unlike this one."""
    differ = listed(named(UNLIKE, code) for code in prior.warnings)
    return Phrase(f"unlike: {differ.en}", f"不同：{differ.zh}")


def in_a_word(outcome: str) -> Phrase:
    """Return an outcome without what it means."""
    word = OUTCOMES[outcome]
    return Phrase(word.en.split(":")[0], word.zh.split("：")[0])


def day(dicom_date: str) -> str:
    """Return a DICOM DA as YYYY-MM-DD; ? when there is none."""
    return date(dicom_date) or "?"


def mean_diameter(size: Nodule | PastSize) -> str:
    """Return the mean diameter for a table, of a part-solid nodule with that of its solid part."""
    total = f"{size.mean_diameter_mm:.1f}"
    if size.type != "part_solid":
        return total
    return f"{total} ({size.solid_mean_diameter_mm:.1f})"


def of_now(nodule: Nodule) -> Iterator[Phrase]:
    """Say what this exam's row of a table needs beside figures: split, merged, a person's word."""
    if nodule.outcome in ("split", "merged"):
        yield in_a_word(nodule.outcome)
    if nodule.review and nodule.review.measured_by_hand:
        yield Phrase("measured by hand", "手工测量")


def reviewed(nodule: Nodule) -> Iterator[Phrase]:
    """Say for a table that a person confirmed or changed a nodule."""
    if nodule.review and nodule.review.status == "confirmed":
        yield Phrase("confirmed", "医师确认")
    if nodule.review and nodule.review.changed:
        yield Phrase("changed by hand", "医师更改")


def changes(prior: PriorMatch) -> tuple[str, str, str]:
    """Return for a table the change of volume, the doubling time, the probability of growth."""
    chance = prior.growth_probability
    return (
        f"{prior.volume_change_percent:+.1f} %",
        doubling_time(prior),
        "–" if chance is None else probability(chance),
    )


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
