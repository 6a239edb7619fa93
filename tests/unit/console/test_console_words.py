"""The page has a word in both languages for what the other services name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lungmesh.followup.guidelines.vocabulary import (
    CATEGORY_FACTS,
    EXAM_FACTS,
    FACTS,
    PAST,
)
from lungmesh.malignancy.risk_models import MODELS

ROOT = Path(__file__).parents[3] / "services" / "lungmesh"
TERMS = (ROOT / "console" / "web" / "src" / "terms.ts").read_text()


def known() -> set[str]:
    words = re.findall(r'^  "?([^":\n]+)"?: \["[^"]+", "[^"]+"\],$', TERMS, re.MULTILINE)
    assert len(words) > 150
    return set(words)


def test_every_fact_of_the_guidelines_and_its_words() -> None:
    named = set(CATEGORY_FACTS)
    for facts in (FACTS, PAST, EXAM_FACTS):
        for name, kind in facts.items():
            named |= {name, *kind.words, *({kind.unit} if kind.unit else ())}
    assert named - {"mm", "%"} <= known()


def test_every_covariate_of_the_risk_models() -> None:
    assert {name for model in MODELS for name in model.ranges} <= known()


def progress() -> Iterator[str]:
    for file in ROOT.rglob("*.py"):
        yield from re.findall(r'progress\([^"()]*"([^"]+)"\)', file.read_text())


def test_everything_that_a_stage_says_it_is_doing() -> None:
    said = set(progress())
    assert len(said) >= 10
    assert said <= known()
