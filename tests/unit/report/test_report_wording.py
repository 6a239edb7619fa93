"""The sentences of the report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from reportlab.pdfbase.ttfonts import TTFontFile

from lungmesh.report import terms, text
from lungmesh.report.facts import from_event
from lungmesh.report.fonts import BOLD, REGULAR
from lungmesh.report.terms import Phrase
from lungmesh.report.wording import Section, sections
from lungmesh.v1 import nodule_pb2, volume_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.support.report import followup
from tests.unit.report.conftest import Exam


def phrases(section: Section) -> Iterator[Phrase]:
    yield section.heading
    yield from section.lines
    for item in section.items:
        yield from phrases(item)


def numbers(sentence: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:\.\d+)?", sentence))


def test_both_languages_state_the_same_figures_in_every_sentence(exam: Exam) -> None:
    for section in sections(exam.content):
        for phrase in phrases(section):
            assert numbers(phrase.en) == numbers(phrase.zh), phrase


def test_a_nodule_is_described_by_place_type_size_signs_course_risk_and_category(
    exam: Exam,
) -> None:
    written = text.report(exam.content, "en")
    n = exam.content.nodules[0]
    for part in (
        f"Nodule 1: solid nodule, left lower lobe, image {n.slice_number} of 50",
        "Long × short axis 29.6 × 28.6 mm, mean diameter 29.1 mm",
        f"volume {n.volume_mm3} mm³",
        "Signs (score 0–1): spiculation 0.81.",
        "mean diameter 20.0 → 29.1 mm (+9.1 mm)",
        "volume doubling time 321 days",
        "Lung-RADS v2022: category 4B.",
        "Detection score 0.970 (log-bank 1).",
    ):
        assert part in written


def test_the_chinese_text_uses_the_chinese_terms(exam: Exam) -> None:
    written = text.report(exam.content, "zh")
    for part in (
        "结节 1：左肺下叶实性结节",
        "结节 2：右肺上叶部分实性结节",
        "长径 × 短径 29.6 × 28.6 mm，平均直径 29.1 mm",
        "毛刺征 0.81",
        "体积倍增时间 321 天",
        "Lung-RADS v2022：4B 类",
        "仅供科研与辅助决策，非获批医疗器械",
    ):
        assert part in written


def test_a_missing_covariate_gives_a_range_and_names_what_is_unknown(exam: Exam) -> None:
    written = text.report(exam.content, "en")
    assert "31.0–54.0 % (range; unknown: family history of lung cancer, emphysema)" in written
    assert "肺癌家族史、肺气肿" in text.report(exam.content, "zh")


def test_use_outside_a_models_intended_use_is_said_under_limits(exam: Exam) -> None:
    limits = sections(exam.content)[-1]
    assert any("Outside the intended use of va 2007 (nodule 2)" in p.en for p in limits.lines)


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "No pulmonary nodule was found"), ("zh", "自动阅片未检出肺结节")],
)
def test_a_negative_exam_says_so_in_findings_and_impression(
    exam: Exam, language: text.Language, words: str
) -> None:
    content = from_event(followup(exam.case, 0, prior=False), exam.headers)
    written = text.report(content, language)
    assert written.count(words) == 2


def test_a_category_that_cannot_be_given_says_what_it_needs(exam: Exam) -> None:
    content = from_event(followup(exam.case, 0, prior=False), exam.headers)
    assert "Fleischner 2017: no category can be given; needed: smoking history" in text.report(
        content, "en"
    )


def test_nothing_unknown_is_stated(exam: Exam) -> None:
    event = FollowupUpdated.FromString(exam.event.SerializeToString())
    event.exam.volume.acquisition.CopyFrom(volume_pb2.Acquisition())
    event.exam.ClearField("clinical")
    written = text.report(from_event(event, exam.headers), "en")
    assert "kVp" not in written
    assert "contrast medium not stated" in written
    assert "Clinical information: none was given." in written
    assert "Exam date: not stated" in written


def test_every_type_lobe_and_growth_class_has_words_in_both_languages(exam: Exam) -> None:
    for field, kinds in (
        ("type", nodule_pb2.NoduleType.DESCRIPTOR),
        ("lobe", nodule_pb2.Lobe.DESCRIPTOR),
    ):
        for value in kinds.values[1:]:
            event = FollowupUpdated.FromString(exam.event.SerializeToString())
            setattr(event.nodules[0], field, value.number)
            assert text.report(from_event(event, exam.headers), "zh")
    for value in nodule_pb2.GrowthClass.DESCRIPTOR.values[1:]:
        event = FollowupUpdated.FromString(exam.event.SerializeToString())
        event.nodules[0].tracking.growth = value.number  # type: ignore[assignment]
        assert text.report(from_event(event, exam.headers), "zh")


@pytest.mark.parametrize("font", [REGULAR, BOLD], ids=["regular", "bold"])
def test_the_embedded_fonts_hold_every_letter_of_the_words(exam: Exam, font: object) -> None:
    glyphs = TTFontFile(str(font)).charToGlyph
    words = text.report(exam.content, "zh") + text.report(exam.content, "en")
    for table in (
        *(terms.NODULE_TYPES, terms.LOBES, terms.GROWTH, terms.SEVERITIES),
        *(terms.SIGNS, terms.FACTS, terms.VALUES),
    ):
        words += "".join(phrase.en + phrase.zh for phrase in table.values())
    assert {letter for letter in words if letter != "\n" and ord(letter) not in glyphs} == set()
