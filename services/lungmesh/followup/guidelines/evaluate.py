"""A table on facts: which row speaks.

Within a stage the first row that holds speaks. A condition on an unknown fact neither holds nor
fails: every row that it leaves possible is kept, and where they disagree there is no category but a
need for the fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

from lungmesh.followup.guidelines.table import EARLIER, SAME, Guideline, Management, Row
from lungmesh.followup.guidelines.vocabulary import NONE, SIGNS, Facts, Value

# An earlier self is put to the table by its type and size alone.
_SIZE_ALONE: Mapping[str, Value | None] = {
    "growth": "stable",
    "vdt_days": None,
    "volume_change_percent": None,
    "doubled_in_a_year": False,
    "long_axis_mm": None,
    "volume_mm3": None,
    "solid_volume_mm3": None,
    "cyst_change": NONE,
    **dict.fromkeys(SIGNS, False),
}


@dataclass(frozen=True)
class Outcome:
    """What a table says, and the rows it said it with; `fired` are those of every stage."""

    category: str = ""
    name: str = ""
    zh: str = ""
    needs: tuple[str, ...] = ()
    fired: tuple[Row, ...] = ()
    management: Management | None = None


def rounded(guideline: Guideline, facts: Facts) -> dict[str, Value | None]:
    """Return the facts with sizes rounded half up as the guideline reports them."""
    return {name: _rounded(guideline.steps.get(name), value) for name, value in facts.items()}


def evaluate(guideline: Guideline, facts: Facts) -> Outcome:
    """Return what the table says of a nodule, of rounded facts."""
    facts = {**facts, "category": NONE, "crossed_threshold": _crossed(guideline, facts)}
    outcome = Outcome()
    for number, stage in enumerate(guideline.stages_by_type[str(facts["type"])]):
        if number and not outcome.category:
            break
        outcome = _speak(guideline, stage, {**facts, "category": outcome.category}, outcome)
    return outcome


def evaluate_exam(guideline: Guideline, facts: Facts) -> list[Outcome]:
    """Return what each row on whole exams says that holds."""
    return [
        _outcome(guideline, row, Outcome(), facts)
        for row in guideline.exam
        if missing(row, facts) == ()
    ]


def missing(row: Row, facts: Facts) -> tuple[str, ...] | None:
    """Return the unknown facts that a row hangs on; none when it holds, None when it does not."""
    unknown: list[str] = []
    for condition in row.when:
        holds = condition.holds(facts)
        if holds is False:
            return None
        if holds is None:
            unknown.append(condition.fact)
    return tuple(unknown)


def _speak(guideline: Guideline, stage: Sequence[Row], facts: Facts, before: Outcome) -> Outcome:
    possible: list[Outcome] = []
    passed: list[tuple[Outcome, tuple[str, ...]]] = []
    unknown: list[str] = []
    certain = False
    for row in stage:
        gaps = missing(row, facts)
        if gaps is None:
            continue
        outcome = _outcome(guideline, row, before, facts)
        if gaps and row.optional:
            passed.append((outcome, gaps))
            continue
        possible.append(outcome)
        unknown.extend(gaps)
        certain = not gaps
        if certain:
            break
    if not certain and before.fired:
        possible.append(before)
    if not possible:
        raise AssertionError(f"no row of {guideline.name} {guideline.edition} fits {dict(facts)}")
    outcome = _agreed(guideline, possible, unknown)
    may_change = [gap for other, gaps in passed if _word(other) != _word(outcome) for gap in gaps]
    needs = tuple(dict.fromkeys((*outcome.needs, *may_change)))
    return replace(outcome, needs=needs)


def _agreed(guideline: Guideline, possible: Sequence[Outcome], unknown: Sequence[str]) -> Outcome:
    """Return the one thing that all possible rows say; no category where they disagree."""
    first = possible[0]
    if all(_word(other) == _word(first) for other in possible):
        return first if len(possible) == 1 else _joined(possible, first.category, first.management)
    needs = tuple(unknown)
    if all(other.category == first.category for other in possible):
        management = guideline.management.get(first.category)
        return _joined(possible, first.category, management, needs)
    return _joined(possible, "", None, needs)


def _joined(
    possible: Sequence[Outcome],
    category: str,
    management: Management | None,
    needs: tuple[str, ...] = (),
) -> Outcome:
    return Outcome(
        category,
        " or ".join(dict.fromkeys(outcome.name for outcome in possible)),
        "，或".join(dict.fromkeys(outcome.zh for outcome in possible)),
        tuple(dict.fromkeys((*needs, *(need for one in possible for need in one.needs)))),
        tuple(dict.fromkeys(row for outcome in possible for row in outcome.fired)),
        management,
    )


def _word(outcome: Outcome) -> tuple[str, Management | None]:
    return outcome.category, outcome.management


def _outcome(guideline: Guideline, row: Row, before: Outcome, facts: Facts) -> Outcome:
    """Return what a row makes of what the stages before said."""
    earlier = str(facts.get("earlier_category", NONE))
    category = {EARLIER: earlier, SAME: before.category}.get(row.category, row.category)
    fired = (*before.fired, row)
    if row.cap and guideline.rank(before.category) <= guideline.rank(category):
        return replace(before, fired=fired)
    name = row.name.format(row=before.name, earlier_category=earlier)
    zh = row.zh.format(row=before.zh, earlier_category=earlier)
    return Outcome(
        category,
        name if row.confirmed else f"{name} (?)",
        zh if row.confirmed else f"{zh} (?)",
        tuple(dict.fromkeys((*before.needs, *row.needs))),
        fired,
        row.management or _management(guideline, row, before, category),
    )


def _management(
    guideline: Guideline, row: Row, before: Outcome, category: str
) -> Management | None:
    return before.management if row.category == SAME else guideline.management.get(category)


def _crossed(guideline: Guideline, facts: Facts) -> bool:
    """Return whether a nodule's size alone gives more than its size in the earlier exam did."""
    if not guideline.looks_back or facts["earlier_type"] == NONE:
        return False
    past: dict[str, Value | None] = {**facts, "category": NONE, "crossed_threshold": False}
    now = _by_size(guideline, past)
    past |= _SIZE_ALONE
    for fact in ("type", "mean_diameter_mm", "solid_mean_diameter_mm"):
        past[fact] = facts[f"earlier_{fact}"]
    if facts["cyst_change"] == "multilocular":
        past["cyst_multilocular"] = False
    then = _by_size(guideline, past)
    return guideline.rank(now.category) > guideline.rank(then.category)


def _by_size(guideline: Guideline, facts: Facts) -> Outcome:
    return _speak(guideline, guideline.stages_by_type[str(facts["type"])][0], facts, Outcome())


def _rounded(step: float | None, value: Value | None) -> Value | None:
    if step is None or value is None or isinstance(value, (str, bool, frozenset)):
        return value
    unit = Decimal(repr(step))
    steps = (Decimal(repr(float(value))) / unit).quantize(Decimal(1), ROUND_HALF_UP)
    return float(steps * unit)
