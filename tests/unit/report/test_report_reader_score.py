"""The readers' score in the report: what it is said to be, and what drove it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
from reportlab.pdfbase.ttfonts import TTFontFile

from lungmesh.report import terms, text
from lungmesh.report.content import Content
from lungmesh.report.facts import from_event
from lungmesh.report.fonts import BOLD, REGULAR
from lungmesh.report.summary import summary
from lungmesh.report.wording import sections
from lungmesh.v1 import nodule_pb2, volume_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.unit.report.conftest import Exam

SCHEMA = Path(__file__).parents[3] / "docs" / "summary.schema.json"
MODEL = volume_pb2.ModelVersion(name="malignancy_lidc", version="1")


@pytest.fixture(scope="module")
def content(exam: Exam) -> Content:
    event = FollowupUpdated()
    event.CopyFrom(exam.event)
    assessment = event.nodules[0].assessment
    assessment.reader_score.CopyFrom(
        nodule_pb2.ReaderScore(
            model=MODEL,
            source="made up",
            basis="trained on readers' opinions, not on pathology",
            probability=0.87654,
            contributions=[
                nodule_pb2.Contribution(feature="diameter_mm", value=21.26, logit=2.14),
                nodule_pb2.Contribution(feature="nodule_type", value=1, logit=-0.52),
                nodule_pb2.Contribution(feature="notches", value=0.04, logit=0.31),
                nodule_pb2.Contribution(feature="flatness", value=0.7, logit=0.04),
            ],
            outside_intended_use=["the score was made on nodules of 3 to 30 mm"],
        )
    )
    for sign, probability in zip(assessment.signs, (0.71, 0.12), strict=True):
        sign.probability = probability
    return from_event(event, exam.headers)


def test_the_text_says_what_the_score_is_and_its_three_largest_parts(content: Content) -> None:
    written = text.report(content, "en")
    assert "trained on readers' opinions, not on pathology): 87.7 %" in written.replace("\n", " ")
    flat = " ".join(written.split())
    assert "diameter +2.1, density type -0.5, notches +0.3" in flat
    assert "flatness" not in flat
    assert "Readers would see: spiculation 71%, lobulation 12%" in flat
    assert "Outside the intended use of malignancy_lidc 1 (nodule 1)" in flat


def test_both_languages_state_the_same_figures(content: Content) -> None:
    rated = [
        line
        for section in sections(content)
        for item in section.items
        for line in item.lines
        if "readers" in line.en.lower()
    ]
    assert len(rated) == 2
    for line in rated:
        one, other = (Counter(re.findall(r"\d+(?:\.\d+)?", words)) for words in (line.en, line.zh))
        assert one == other


@pytest.mark.parametrize("font", [REGULAR, BOLD], ids=["regular", "bold"])
def test_the_embedded_fonts_hold_every_letter(content: Content, font: object) -> None:
    glyphs = TTFontFile(str(font)).charToGlyph
    words = text.report(content, "zh") + "".join(
        phrase.en + phrase.zh for phrase in terms.FEATURES.values()
    )
    assert {letter for letter in words if letter != "\n" and ord(letter) not in glyphs} == set()


def test_the_summary_holds_the_score_by_its_schema_and_null_where_there_is_none(
    content: Content,
) -> None:
    written = json.loads(summary(content, "0" * 64))
    jsonschema.validate(written, json.loads(SCHEMA.read_text(encoding="utf-8")))
    rated, other = written["nodules"]
    assert rated["reader_score"]["probability"] == 0.877
    assert rated["reader_score"]["contributions"][0] == {
        "feature": "diameter_mm",
        "value": 21.26,
        "logit": 2.14,
    }
    assert {sign["name"]: sign["probability"] for sign in rated["signs"]} == {
        "spiculation": 0.71,
        "lobulation": 0.12,
    }
    assert {"name": "malignancy_lidc", "version": "1"} in rated["models"]
    assert other["reader_score"] is None
    assert {sign["probability"] for sign in other["signs"]} == {None}
