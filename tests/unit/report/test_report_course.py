"""What the report says of time: earlier exams, growth and its doubt, people's words, what next."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fhir.resources.R4B.bundle import Bundle
from reportlab.pdfbase.ttfonts import TTFontFile

from lungmesh.report import fhir, terms, text
from lungmesh.report.content import Content, content_sha256
from lungmesh.report.course import probability
from lungmesh.report.facts import from_event
from lungmesh.report.fonts import BOLD, REGULAR
from lungmesh.report.growth_plot import CAPTION
from lungmesh.report.pdf import pdf
from lungmesh.report.summary import summary
from lungmesh.report.terms import Phrase
from lungmesh.report.wording import Section, sections
from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.support.report_course import corrected, followed
from tests.unit.report.conftest import Exam

SCHEMA = Path(__file__).parents[3] / "docs" / "summary.schema.json"
DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def second(exam: Exam) -> Content:
    """A second edition after a radiologist's corrections, with two earlier exams."""
    return from_event(corrected(exam.case), exam.headers)


@pytest.fixture(scope="module")
def fourth(exam: Exam) -> Content:
    """Three earlier exams, of which the two most recent are compared directly."""
    return from_event(followed(exam.case, 4, 5), exam.headers)


def phrases(section: Section) -> Iterator[Phrase]:
    yield section.heading
    yield from section.lines
    for item in section.items:
        yield from phrases(item)


def changed(exam: Exam, change: Callable[[FollowupUpdated], None]) -> str:
    event = followed(exam.case, 3, 2)
    change(event)
    content = from_event(event, exam.headers)
    return content_sha256(content, [text.body(content, language) for language in text.LANGUAGES])


def resources(content: Content, kind: str) -> list[dict[str, Any]]:
    entries = json.loads(fhir.bundle(content, {}))["entry"]
    return [e["resource"] for e in entries if e["resource"]["resourceType"] == kind]


def test_each_earlier_exam_is_told_with_its_way_of_comparison(second: Content) -> None:
    written = text.report(second, "en")
    for part in (
        "CT of 1999-01-01, 365 days earlier: lungs registered by a deformable map (Dice 0.96, "
        "there and back 0.8 mm); 1 of its nodules has no counterpart now.",
        "CT of 1998-06-01, 579 days earlier: registration was refused; nodules were matched by "
        "lobe and place; 1 of its nodules lies outside this CT.",
        "The CT of 1998-06-01 is unlike this one in reconstruction kernel, slice thickness",
        "Resolved since 1999-01-01: 1 nodule.",
    ):
        assert part in written


def test_growth_is_told_with_interval_probability_and_error(second: Content) -> None:
    written = text.report(second, "en")
    assert "volume doubling time 964 days (95 %: 579 to 2025)" in written
    assert "volume doubling time 964 days (95 %: 579 to no change)" in written
    assert "probability that it has grown > 99 % (error of measurement ± 28 %)" in written
    assert "增大的概率 57 %（测量误差 ± 28 %）；两次检查不同：重建算法、层厚" in text.report(
        second, "zh"
    )


def test_no_probability_is_said_to_be_certain() -> None:
    assert [probability(p) for p in (0.0, 0.009, 0.01, 0.5, 0.99, 0.991, 1.0)] == [
        "< 1 %", "< 1 %", "1 %", "50 %", "99 %", "> 99 %", "> 99 %",
    ]  # fmt: skip


def test_an_exam_that_was_not_compared_is_told_by_its_size_alone(fourth: Content) -> None:
    (section,) = (s for s in sections(fourth) if s.heading.en == "Findings")
    for nodule, item in zip(fourth.nodules, section.items, strict=True):
        past = nodule.history[2]
        size = f"{past.mean_diameter_mm:.1f} mm, {past.volume_mm3} mm³"
        lines = [line.en for line in item.lines]
        assert f"On 1997-03-01 (1036 days earlier): {size}; not compared directly." in lines


def test_a_split_nodule_is_told(second: Content) -> None:
    written = text.report(second, "en")
    assert "Match: split: one nodule of the earlier exam is several now." in written
    assert "Split: nodule 3." in written
    assert "分裂：结节 3。" in text.report(second, "zh")


def test_what_detection_may_have_missed_in_one_exam_is_to_be_checked(exam: Exam) -> None:
    event = followed(exam.case, 2, 2)
    event.nodules[0].tracking.shown_earlier = True
    event.priors[0].still_shown_nodule_ids.extend(event.priors[0].resolved_nodule_ids)
    content = from_event(event, exam.headers)
    english, chinese = text.report(content, "en"), text.report(content, "zh")
    assert english.count("perhaps not new, please check.") == 1
    assert "1 of its nodules has no counterpart now (at the place of 1 this CT shows" in english
    assert "Resolved since 1999-01-01: 1 nodule, 1 of them to be checked." in english
    assert "可能并非新发，请核对" in chinese
    assert "其中 1 个的位置本次仍可见类似影，不能确定消失，请核对" in chinese
    assert "后消失：1 个结节，其中 1 个待核对。" in chinese


def test_what_a_radiologist_said_stands_with_author_and_time_withdrawn_words_too(
    second: Content,
) -> None:
    written = text.report(second, "en")
    for part in (
        "Radiologist dr-7, 2000-01-02 10:01 UTC: confirmed.",
        "Radiologist dr-7, 2000-01-02 10:02 UTC: measured by hand.",
        "2000-01-02 10:03 UTC: type changed by hand (withdrawn, does not count).",
        "Measured by hand: long axis, volume.",
        "Rejected by a radiologist, without part in any result: candidate 4.",
    ):
        assert written.count(part) == 1, part
    assert "Nodule 4:" not in written


def test_only_a_later_edition_says_what_it_replaces(second: Content, fourth: Content) -> None:
    assert "Corrected report, edition 2: replaces edition 1." in text.report(second, "en")
    assert "更正报告，第 2 版：取代第 1 版。" in text.report(second, "zh")
    assert "Corrected report" not in text.report(fourth, "en")


def test_the_guideline_says_its_row_what_it_looked_at_and_what_would_change_it(
    second: Content,
) -> None:
    written = text.report(second, "en")
    for part in (
        'category 4B (row "solid, 15 mm or more at baseline").',
        'Row of the table: "solid, 15 mm or more at baseline"; by nodule type solid, mean diameter '
        "16.2 mm.",
        "It would be 4A with mean diameter 14.9 mm.",
    ):
        assert part in written
    written = text.report(second, "zh")
    assert "表中依据：“实性，基线 15 mm 及以上”；所据：结节类型 实性、平均直径 16.2 mm。" in written
    assert "4B 类（依据“实性，基线 15 mm 及以上”）。" in written


def test_the_next_exam_is_a_date_or_work_up(exam: Exam) -> None:
    event = followed(exam.case, 2, 1)
    assert "Next by Lung-RADS v2022: work-up now." in text.report(
        from_event(event, exam.headers), "en"
    )
    event.next.work_up, event.next.due_date = False, "20000701"
    dated = from_event(event, exam.headers)
    assert text.report(dated, "en").count("Next CT by Lung-RADS v2022: due 2000-07-01.") == 2
    assert "下次CT（Lung-RADS v2022）：应于 2000-07-01 进行。" in text.report(dated, "zh")
    (request,) = resources(dated, "ServiceRequest")
    assert (request["intent"], request["occurrenceDateTime"]) == ("proposal", "2000-07-01")
    event.next.due_date = ""
    undated = from_event(event, exam.headers)
    assert "Next" not in text.report(undated, "en")
    assert resources(undated, "ServiceRequest") == []


def test_the_programmes_guideline_names_the_leading_nodule(exam: Exam) -> None:
    event = followed(exam.case, 2, 3)
    event.next.guideline.name = "C-Lung-RADS"
    event.nodules[2].categories[1].category = "4"
    event.nodules[0].categories[1].category = "2"
    content = from_event(event, exam.headers)
    assert content.guideline == "C-Lung-RADS"
    assert content.dominant is not None
    assert content.dominant.number == 3


def test_both_languages_state_the_same_figures(second: Content, fourth: Content) -> None:
    for content in (second, fourth):
        for section in sections(content):
            for phrase in phrases(section):
                one, other = (
                    Counter(re.findall(r"\d+(?:\.\d+)?", words)) for words in (phrase.en, phrase.zh)
                )
                assert one == other, phrase


@pytest.mark.parametrize("font", [REGULAR, BOLD], ids=["regular", "bold"])
def test_the_embedded_fonts_hold_every_letter(second: Content, font: object) -> None:
    glyphs = TTFontFile(str(font)).charToGlyph
    words = text.report(second, "zh") + text.report(second, "en") + CAPTION.en + CAPTION.zh
    for table in (
        *(terms.FACTS, terms.FACT_VALUES, terms.UNITS, terms.METHODS),
        *(terms.OUTCOMES, terms.UNLIKE, terms.CORRECTIONS, terms.OUTSIDE_USE),
    ):
        words += "".join(phrase.en + phrase.zh for phrase in table.values())
    assert {letter for letter in words if letter != "\n" and ord(letter) not in glyphs} == set()


def test_every_change_of_what_follow_up_says_changes_the_hash(exam: Exam) -> None:
    def probability_of(event: FollowupUpdated) -> None:
        event.nodules[0].tracking.priors[0].growth_probability = 0.9

    def history_of(event: FollowupUpdated) -> None:
        event.nodules[0].tracking.history[1].volume_mm3 += 9

    def next_of(event: FollowupUpdated) -> None:
        event.next.work_up, event.next.due_date = False, "20000701"

    def outcome_of(event: FollowupUpdated) -> None:
        event.nodules[0].tracking.outcome = 5  # type: ignore[assignment]

    def rejection_of(event: FollowupUpdated) -> None:
        event.rejected.append(event.nodules.pop())

    changes = (probability_of, history_of, next_of, outcome_of, rejection_of)
    digests = {changed(exam, change) for change in (lambda event: None, *changes)}
    assert len(digests) == len(changes) + 1


def test_the_summary_keeps_its_schema_and_holds_all_of_it(second: Content, fourth: Content) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for content in (second, fourth):
        jsonschema.validate(json.loads(summary(content, DIGEST)), schema)
    facts = json.loads(summary(second, DIGEST))
    assert facts["study"]["edition"] == 2
    assert [nodule["number"] for nodule in facts["rejected"]] == [4]
    assert [said["withdrawn"] for said in facts["corrections"]] == [False, False, True, False]
    assert facts["next"] == {
        "guideline": "Lung-RADS", "edition": "v2022", "category": "4B", "due_date": "",
        "work_up": True,
    }  # fmt: skip
    first = facts["nodules"][0]
    assert first["review"] == {
        "status": "confirmed",
        "kinds": ["confirm", "remeasure"],
        "measured_by_hand": ["long_axis_mm", "volume_mm3"],
    }
    assert [past["study_date"] for past in first["history"]] == ["19990101", "19980601"]
    assert first["priors"][0]["volume_doubling_time_high_days"] is None


def test_figures_that_an_older_follow_up_did_not_know_stay_unknown(exam: Exam) -> None:
    (prior,) = exam.content.nodules[0].priors
    assert (prior.growth_probability, prior.volume_error_percent, prior.mass_mg) == (None,) * 3
    assert "probability that it has grown" not in text.report(exam.content, "en")


def test_fhir_holds_the_change_and_a_later_edition_of_the_same_resources(
    exam: Exam, second: Content
) -> None:
    Bundle.model_validate_json(fhir.bundle(second, {}))
    found = {
        (item["code"]["coding"][0]["code"], item["valueQuantity"]["value"])
        for item in resources(second, "Observation")
        if "component" in item
    }
    assert {("volume_change", 30.0), ("doubling_time", 964), ("growth_chance", 57.0)} <= found
    (report,) = resources(second, "DiagnosticReport")
    assert report["meta"]["versionId"] == "2"
    assert report["conclusion"].startswith("Corrected report, edition 2")
    event = corrected(exam.case)
    event.edition = 1
    (before,) = resources(from_event(event, exam.headers), "DiagnosticReport")
    assert before["id"] == report["id"]
    assert "meta" not in before


def test_the_pdf_of_a_course_has_the_same_bytes_at_every_making(second: Content) -> None:
    assert pdf(second, {}, DIGEST) == pdf(second, {}, DIGEST)
