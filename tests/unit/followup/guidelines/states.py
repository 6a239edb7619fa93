"""States for the guidelines, as the vectors write them and as an alternative changes them."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lungmesh.followup.guidelines.vocabulary import (
    FACTS,
    GROWTH_WORDS,
    SIGNS,
    TYPE_WORDS,
    Earlier,
    ExamState,
    NoduleState,
)

TYPES: dict[str, Any] = {word: number for number, word in TYPE_WORDS.items()}
GROWTHS: dict[str, Any] = {word: number for number, word in GROWTH_WORDS.items()}
_FIELDS = {field.name for field in fields(NoduleState)}


@dataclass(frozen=True)
class Vector:
    """A line of `vectors.csv`: a nodule's or an exam's state, and what the guideline says of it."""

    guideline: str
    edition: str
    state: NoduleState | None
    exam: ExamState | None
    given: tuple[str, ...]
    category: str
    row: str
    needs: tuple[str, ...]
    source: str


def vectors() -> list[Vector]:
    """Return the vectors of the file."""
    with (Path(__file__).parent / "vectors.csv").open(encoding="utf-8", newline="") as file:
        return [_vector(line) for line in csv.DictReader(file)]


def _vector(line: dict[str, str]) -> Vector:
    other = dict(item.split("=", 1) for item in line["other"].split())
    given = tuple(other.pop("given", "").split("+")) if "given" in other else ()
    of_exam = line["type"] == "exam"
    return Vector(
        line["guideline"],
        line["edition"],
        None if of_exam else _state(line, other),
        _exam(other) if of_exam else None,
        given,
        line["category"],
        line["row"],
        tuple(line["needs"].split()),
        line["source"],
    )


def _state(line: dict[str, str], other: dict[str, str]) -> NoduleState:
    given: dict[str, Any] = {name: value_of(name, text) for name, text in other.items()}
    return NoduleState(
        type=TYPES[line["type"]],
        growth=GROWTHS[line["growth"]],
        mean_diameter_mm=float(line["mean_mm"]) if line["mean_mm"] else None,
        solid_mean_diameter_mm=float(line["solid_mm"]) if line["solid_mm"] else None,
        **given,
    )


def value_of(name: str, text: str) -> Any:
    """Return a fact's value from its text."""
    if name == "earlier":
        kind, mean, solid, category, days = text.split(":")
        return Earlier(TYPES[kind], float(mean), float(solid), category, float(days))
    if name == "signs":
        return frozenset(text.split("+"))
    if name in ("nodules", "subsolid_nodules"):
        return int(text)
    if FACTS[name].flag:
        return text == "true"
    return float(text) if FACTS[name].number else text


def _exam(other: dict[str, str]) -> ExamState:
    return ExamState(
        nodules=int(other["nodules"]),
        new_nodules=int(other.get("new_nodules", "0")),
        qc_codes=frozenset(other["qc"].split("+")) if "qc" in other else frozenset(),
        resolved_categories=(
            frozenset(other["resolved"].split("+")) if "resolved" in other else frozenset()
        ),
        prior_awaited=other.get("prior_awaited") == "true",
        suspected_infection=other.get("suspected_infection") == "true",
    )


def changed(state: NoduleState, name: str, text: str) -> NoduleState:
    """Return the state with one fact changed, as an alternative names it."""
    value = value_of(name, text)
    if name == "type":
        return replace(state, type=TYPES[value])
    if name == "growth":
        return replace(state, growth=GROWTHS[value])
    if name in SIGNS:
        return replace(state, signs=state.signs | {name} if value else state.signs - {name})
    if name == "several_subsolid":
        return replace(
            state, subsolid_nodules=2 if value else 1, nodules=_solid(state) + (2 if value else 1)
        )
    if name == "several_solid":
        subsolid = state.subsolid_nodules or 0
        return replace(state, subsolid_nodules=subsolid, nodules=subsolid + (2 if value else 1))
    if name == "days_in_category":
        assert state.earlier is not None
        return replace(state, earlier=replace(state.earlier, days_in_category=value))
    assert name in _FIELDS
    change: dict[str, Any] = {name: value}
    return replace(state, **change)


def _solid(state: NoduleState) -> int:
    if state.nodules is None or state.subsolid_nodules is None:
        return 1
    return state.nodules - state.subsolid_nodules
