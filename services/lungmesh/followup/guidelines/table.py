"""A guideline as it stands in its file under `tables/`: read, checked, and ready for the engine.

`docs/guidelines.md` says how a table is written. A table that names a fact, word, category or bound
that does not exist is refused when it is read.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import yaml

from lungmesh.followup.guidelines.conditions import Condition, Volumes, read_conditions
from lungmesh.followup.guidelines.vocabulary import EXAM_FACTS, FACTS, NONE, PAST, Kind

# A row's category: what the nodule was given in the earlier exam, and what the stages before gave.
EARLIER, SAME = "earlier", "same"


class BadTable(ValueError):
    """A table that cannot be used, with the place in it."""


@dataclass(frozen=True)
class Management:
    """What a category asks for.

    Attributes
    ----------
    months
        To the next exam, the latest that the guideline allows; None where it asks for no CT, or for
        work-up.
    """

    en: str
    zh: str
    months: int | None = None
    work_up: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a table: a nodule that meets all its conditions has the category.

    Attributes
    ----------
    name, zh
        What it is called in English and in Chinese.
    category
        Empty where the row gives none; `EARLIER` for the earlier exam's, `SAME` for that of the
        stages before.
    cap
        True: the nodule's category becomes the row's only if that is the less suspicious one.
    optional
        True: where a fact of the row is unknown the row is passed over, and the fact is named as
        one that may change the category.
    needs
        What is asked for, beside the category or in its place.
    management
        Where it is not that of the category.
    confirmed
        False where its figures were not found in two independent sources; its name says so: (?).
    note
        Our reading, where the guideline is silent or can be read in two ways.
    """

    name: str
    zh: str
    category: str
    when: tuple[Condition, ...]
    cap: bool = False
    optional: bool = False
    needs: tuple[str, ...] = ()
    management: Management | None = None
    confirmed: bool = True
    note: str = ""


@dataclass(frozen=True)
class Guideline:
    """A guideline's table.

    Attributes
    ----------
    effective_from, effective_to
        The edition's dates; `effective_to` is None while it is in force.
    order
        Its categories from the least suspicious up.
    positive
        Those that count as a positive exam.
    steps
        To how much a size is rounded, half up, before it meets a bound.
    stages
        The rows. The first row of a stage that holds speaks; a later stage may change what the
        stages before gave.
    exam
        Rows that speak of a whole exam; all that hold do.
    """

    name: str
    edition: str
    source: str
    sources: tuple[str, ...]
    effective_from: datetime.date
    effective_to: datetime.date | None
    order: tuple[str, ...]
    positive: frozenset[str]
    management: Mapping[str, Management]
    steps: Mapping[str, float]
    stages: tuple[tuple[Row, ...], ...]
    exam: tuple[Row, ...]

    @property
    def confirmed(self) -> bool:
        """Whether every row's figures were found in two independent sources."""
        return all(row.confirmed for row in self.rows())

    def rank(self, category: str) -> int:
        """Return the place in `order`; −1 for none."""
        return self.order.index(category) if category else -1

    @cached_property
    def stages_by_type(self) -> Mapping[str, tuple[tuple[Row, ...], ...]]:
        """The stages with the rows that a nodule of a type can meet."""
        return {
            word: tuple(tuple(row for row in stage if _may_be(row, word)) for stage in self.stages)
            for word in FACTS["type"].words
        }

    @cached_property
    def looks_back(self) -> bool:
        """Whether a row asks if a size threshold was crossed since the earlier exam."""
        return any(one.fact == "crossed_threshold" for row in self.rows() for one in row.when)

    def rows(self) -> Iterator[Row]:
        """Yield every row."""
        for stage in (*self.stages, self.exam):
            yield from stage


def _may_be(row: Row, word: str) -> bool:
    return all(one.fact != "type" or one.holds({"type": word}) for one in row.when)


def load(name: str, edition: str | None = None) -> Guideline:
    """Return a guideline's table: the newest edition, or the one asked for.

    Raises ValueError, with what there is, for a name or edition that is not there.
    """
    editions = [table for table in _all() if table.name == name]
    found = [table for table in editions if edition in (None, table.edition)]
    if not found:
        there = ", ".join(f"{table.name} {table.edition}" for table in editions or _all())
        raise ValueError(f"no guideline {name} {edition or ''}; there are: {there}")
    return max(found, key=lambda table: table.effective_from)


def every() -> tuple[Guideline, ...]:
    """Return every edition of every guideline, by name and date."""
    return tuple(sorted(_all(), key=lambda table: (table.name, table.effective_from)))


@cache
def _all() -> tuple[Guideline, ...]:
    folder = resources.files("lungmesh.followup.guidelines") / "tables"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")),
        key=lambda file: file.name,
    )
    return tuple(read(file.read_text(encoding="utf-8"), file.name) for file in files)


def read(text: str, where: str) -> Guideline:
    """Return the guideline that a table's text holds.

    Raises BadTable, which names the place, for one that cannot be used.
    """
    try:
        content: dict[str, Any] = yaml.safe_load(text)
        guideline = _guideline(content)
        _check(guideline)
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise BadTable(f"{where}: {error}") from error
    return guideline


def _guideline(content: dict[str, Any]) -> Guideline:
    order = tuple(content["order"])
    category_words = Kind((NONE, *order))
    nodule = {
        **FACTS,
        **PAST,
        "category": category_words,
        "earlier_category": category_words,
    }
    exam = {**EXAM_FACTS, "resolved_category": category_words}
    volumes = {
        "mean_diameter_mm": _floats(content.get("volumes", {})),
        "solid_mean_diameter_mm": _floats(content.get("solid_volumes", {})),
    }
    return Guideline(
        name=content["name"],
        edition=content["edition"],
        source=content["source"],
        sources=tuple(content["sources"]),
        effective_from=content["effective"]["from"],
        effective_to=content["effective"]["to"],
        order=order,
        positive=frozenset(content["positive"]),
        management={key: _management(value) for key, value in content["management"].items()},
        steps=_floats(content.get("steps", {})),
        stages=tuple(_rows(stage["rows"], nodule, volumes) for stage in content["stages"]),
        exam=_rows(content.get("exam", ()), exam, {}),
    )


def _rows(
    rows: Sequence[dict[str, Any]], facts: Mapping[str, Kind], volumes: Volumes
) -> tuple[Row, ...]:
    return tuple(_row(dict(row), facts, volumes) for row in rows)


def _row(row: dict[str, Any], facts: Mapping[str, Kind], volumes: Volumes) -> Row:
    name = row.pop("row")
    try:
        management = row.pop("management", None)
        return Row(
            name=name,
            zh=row.pop("zh"),
            when=read_conditions(row.pop("when", {}), facts, volumes),
            category=row.pop("category"),
            needs=tuple(row.pop("needs", ())),
            management=None if management is None else _management(management),
            **row,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"row «{name}»: {error}") from error


def _floats(content: Mapping[Any, Any]) -> dict[Any, float]:
    return {key: float(value) for key, value in content.items()}


def _management(content: dict[str, Any]) -> Management:
    return Management(**content)


def _check(guideline: Guideline) -> None:
    known = {"", EARLIER, SAME, *guideline.order}
    names: set[str] = set()
    for row in guideline.rows():
        if row.category not in known:
            raise ValueError(f"row «{row.name}»: no category {row.category} in its order")
        if row.name in names:
            raise ValueError(f"two rows «{row.name}»")
        names.add(row.name)
    if set(guideline.management) != set(guideline.order):
        raise ValueError("management and order do not name the same categories")
    if not guideline.positive <= set(guideline.order):
        raise ValueError("positive names a category that is not in its order")
