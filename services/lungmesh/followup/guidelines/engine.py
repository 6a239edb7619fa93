"""The engine: any guideline on a nodule or an exam, with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lungmesh.followup.guidelines.alternatives import alternatives, said
from lungmesh.followup.guidelines.evaluate import Outcome, evaluate, evaluate_exam, rounded
from lungmesh.followup.guidelines.table import Guideline, load
from lungmesh.followup.guidelines.verdict import Verdict
from lungmesh.followup.guidelines.vocabulary import (
    ExamState,
    Facts,
    NoduleState,
    exam_facts_of,
    facts_of,
)

__all__ = ["judge", "judge_exam", "load", "worst"]


def judge(guideline: Guideline, state: NoduleState) -> Verdict:
    """Return a guideline's category of a nodule, the row that gave it, and what would change it.

    Where a fact is unknown that decides the category, there is none, and `needs` names the fact.
    """
    facts = rounded(guideline, facts_of(state))
    outcome = evaluate(guideline, facts)
    return replace(
        _verdict(guideline, outcome, facts), alternatives=alternatives(guideline, facts, outcome)
    )


def judge_exam(guideline: Guideline, verdicts: Sequence[Verdict], exam: ExamState) -> Verdict:
    """Return the exam's category: the most suspicious of its nodules' and of its own rows'.

    An exam of which no row speaks has no category.
    """
    facts = exam_facts_of(exam)
    own = [_verdict(guideline, outcome, facts) for outcome in evaluate_exam(guideline, facts)]
    return worst(guideline, [*verdicts, *own] or [Verdict("", "no nodule", "无结节")])


def worst(guideline: Guideline, verdicts: Sequence[Verdict]) -> Verdict:
    """Return the most suspicious verdict, with what all of them need.

    A nodule without a category may be more suspicious than the others: what it needs is named
    beside the category of the rest.

    Raises ValueError when there is no verdict.
    """
    if not verdicts:
        raise ValueError("an exam without verdicts has no most suspicious one")
    most = max(verdicts, key=lambda verdict: guideline.rank(verdict.category))
    needs = dict.fromkeys(need for verdict in verdicts for need in verdict.needs)
    return replace(most, needs=tuple(needs))


def _verdict(guideline: Guideline, outcome: Outcome, facts: Facts) -> Verdict:
    looked_at = dict.fromkeys(
        condition.looks_at(facts) for row in outcome.fired for condition in row.when
    )
    return Verdict(
        outcome.category,
        outcome.name,
        outcome.zh,
        outcome.needs,
        tuple(
            said(guideline, name, value)
            for name in looked_at
            if (value := facts.get(name)) is not None
        ),
        (),
        outcome.management if outcome.category else None,
    )
