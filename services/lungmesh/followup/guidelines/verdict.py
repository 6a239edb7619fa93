"""A guideline's word, and how it explains itself."""

from __future__ import annotations

from dataclasses import dataclass

from lungmesh.followup.guidelines.table import Management


@dataclass(frozen=True)
class Fact:
    """A fact as it was compared: a number, or a word of the vocabulary (true and false too)."""

    name: str
    value: str
    unit: str = ""


@dataclass(frozen=True)
class Alternative:
    """The category and row that one changed fact would give."""

    category: str
    row: str
    change: Fact


@dataclass(frozen=True)
class Verdict:
    """A guideline's word on a nodule or an exam.

    Attributes
    ----------
    category
        Empty when no row can be used without what `needs` names, or the guideline has none for it.
    row, row_zh
        The row that fired, in English and in Chinese; where unknown facts leave several possible,
        all of them.
    needs
        Facts that are missing; beside a category they may still change it.
    facts
        What the rows that fired looked at.
    alternatives
        The smallest changes of one fact that would give another category.
    management
        What is to be done; None when there is no category.
    """

    category: str
    row: str
    row_zh: str
    needs: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    management: Management | None = None
