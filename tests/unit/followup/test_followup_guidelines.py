"""The engine of the guidelines: how tables are read, what a verdict says beside its category."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from lungmesh.followup.guidelines.engine import judge, judge_exam, load, worst
from lungmesh.followup.guidelines.message import category_message
from lungmesh.followup.guidelines.table import BadTable, Guideline, every, read
from lungmesh.followup.guidelines.verdict import Fact, Verdict
from lungmesh.followup.guidelines.vocabulary import FACTS, ExamState, NoduleState
from lungmesh.mesh.contract import validate
from lungmesh.v1.nodule_pb2 import Category
from tests.unit.followup.guidelines.states import GROWTHS, TYPES

LUNG_RADS = load("Lung-RADS")
SOLID_7 = NoduleState(TYPES["solid"], 7.0, 0.0, GROWTHS["baseline"])
TABLE = """
name: Test
edition: "1"
source: here
sources: [here]
effective: {from: 2020-01-01, to: null}
order: ["1", "2"]
positive: ["2"]
management:
  "1": {months: 12, en: "wait", zh: "等待"}
  "2": {work_up: true, en: "act", zh: "处理"}
stages:
  - rows:
      - {row: "small", zh: "小", category: "1", when: {mean_diameter_mm: {below: 6}}}
      - {row: "large", zh: "大", category: "2", when: {mean_diameter_mm: {at_least: 6}}}
"""


def test_a_table_is_read_from_its_text() -> None:
    table = read(TABLE, "test.yaml")
    assert judge(table, SOLID_7).row == "large"
    assert judge(table, replace(SOLID_7, mean_diameter_mm=5.9)).category == "1"


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("when: {mean_diameter_mm: {below: 6}}", "when: {colour: red}", "no fact colour"),
        ("when: {mean_diameter_mm: {below: 6}}", "when: {type: jelly}", "type has no word jelly"),
        ("when: {mean_diameter_mm: {below: 6}}", "when: {age_years: {under: 6}}", "has bounds"),
        ("{below: 6}", "{at_least: 8, below: 6}", "nothing meets"),
        ("when: {mean_diameter_mm: {below: 6}}", "when: {spiculation: 3}", "true or false"),
        ('category: "1", when', 'category: "9", when', "no category 9"),
        ('row: "large"', 'row: "small"', "two rows «small»"),
        ('positive: ["2"]', 'positive: ["3"]', "positive names a category"),
        ('order: ["1", "2"]', 'order: ["1"]', "no category 2"),
        ('  "1": {months: 12, en: "wait", zh: "等待"}\n', "", "management and order"),
        ('months: 12, en: "wait", ', "months: 12, ", "en"),
        ("source: here\n", "", "source"),
        ("stages:", "stages: [", "while parsing"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_place(
    right: str, wrong: str, told: str
) -> None:
    assert right in TABLE
    with pytest.raises(BadTable, match=r"test\.yaml: ") as refusal:
        read(TABLE.replace(right, wrong, 1), "test.yaml")
    assert told in str(refusal.value)


def test_the_newest_edition_is_loaded_unless_another_is_named() -> None:
    assert load("NCCN").edition == "2018"
    assert load("NCCN", "2014").edition == "2014"


def test_a_guideline_that_is_not_there_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"no guideline TNM .*Lung-RADS v2022"):
        load("TNM")
    with pytest.raises(ValueError, match="there are: NCCN 2014, NCCN 2018"):
        load("NCCN", "1999")


def test_every_table_of_the_folder_is_a_guideline() -> None:
    folder = resources.files("lungmesh.followup.guidelines") / "tables"
    assert len(every()) == sum(file.name.endswith(".yaml") for file in folder.iterdir())
    assert {table.name for table in every()} == {
        "Lung-RADS", "Fleischner", "NCCN", "C-Lung-RADS", "BTS", "NELSON",
    }  # fmt: skip


@pytest.mark.parametrize("table", every(), ids=lambda table: f"{table.name}-{table.edition}")
def test_every_category_says_what_to_do_in_both_languages_and_when(table: Guideline) -> None:
    own = [row.management for row in table.rows() if row.management]
    for management in (*table.management.values(), *own):
        assert management.en.isascii() or "≥" in management.en
        assert any("一" <= letter <= "鿿" for letter in management.zh)
        assert management.months is None or 1 <= management.months <= 60


def test_rows_that_were_not_confirmed_say_so() -> None:
    assert not load("NCCN").confirmed
    assert judge(load("NCCN"), SOLID_7).row == "solid 6 to 7 mm (?)"
    assert LUNG_RADS.confirmed


@pytest.mark.parametrize(
    ("category", "months"),
    [("1", 12), ("2", 12), ("3", 6), ("4A", 3), ("4B", None), ("4X", None)],
)
def test_lung_rads_names_the_next_exam_or_work_up(category: str, months: int | None) -> None:
    management = LUNG_RADS.management[category]
    assert (management.months, management.work_up) == (months, months is None)


def test_a_verdict_names_what_its_row_looked_at_as_it_was_compared() -> None:
    verdict = judge(LUNG_RADS, replace(SOLID_7, mean_diameter_mm=6.96))
    assert verdict.facts == (
        Fact("type", "solid"),
        Fact("growth", "baseline"),
        Fact("mean_diameter_mm", "7.0", "mm"),
    )


def test_a_verdict_names_the_smallest_changes_that_give_another_category() -> None:
    changes = {
        (one.change.name, one.change.value): (one.category, one.row)
        for one in judge(LUNG_RADS, SOLID_7).alternatives
    }
    assert changes["mean_diameter_mm", "8.0"] == ("4A", "solid 8 to < 15 mm")
    assert changes["mean_diameter_mm", "5.9"] == ("2", "solid < 6 mm")
    assert changes["growth", "new"] == ("4A", "new solid 6 to < 8 mm")
    assert changes["spiculation", "true"] == ("4X", "solid 6 to < 8 mm, with spiculation")
    assert ("growth", "growing") not in changes


def test_where_a_fact_is_unknown_its_words_are_told_with_what_they_would_give() -> None:
    verdict = judge(LUNG_RADS, NoduleState(TYPES["airway"], 6.0, 0.0))
    assert (verdict.category, verdict.needs) == ("", ("airway",))
    told = {(one.change.value, one.category) for one in verdict.alternatives}
    assert {("subsegmental", "2"), ("proximal", "4A")} <= told


def test_rows_of_one_category_need_only_what_changes_the_management() -> None:
    fleischner = load("Fleischner")
    scope = {"age_years": 60.0, "known_cancer": False, "immunosuppressed": False}
    state = replace(SOLID_7, nodules=1, subsolid_nodules=0, **scope)  # type: ignore[arg-type]
    verdict = judge(fleischner, state)
    assert (verdict.category, verdict.needs) == ("6-12m", ("risk",))
    assert verdict.management == fleischner.management["6-12m"]
    low, high = (judge(fleischner, replace(state, risk=risk)) for risk in ("low", "high"))
    assert low.category == high.category == "6-12m"
    assert low.management is not None
    assert low.management.en == "CT at 6 to 12 months, then consider CT at 18 to 24 months."
    assert high.management != low.management


def test_beside_an_undecided_nodule_the_exam_names_what_is_needed() -> None:
    undecided = judge(LUNG_RADS, NoduleState(TYPES["airway"], 8.0, 0.0))
    exam = judge_exam(LUNG_RADS, [Verdict("3", "a", "甲"), undecided], ExamState(nodules=2))
    assert (exam.category, exam.needs) == ("3", ("airway",))


def test_an_exam_of_which_no_row_speaks_has_no_category() -> None:
    verdict = judge_exam(load("C-Lung-RADS"), [], ExamState())
    assert (verdict.category, verdict.row, verdict.management) == ("", "no nodule", None)


def test_without_verdicts_there_is_no_worst() -> None:
    with pytest.raises(ValueError, match="without verdicts"):
        worst(LUNG_RADS, [])


def test_a_verdict_travels_whole() -> None:
    verdict = judge(LUNG_RADS, SOLID_7)
    message = category_message(LUNG_RADS, verdict)
    validate(message)
    back = Category.FromString(message.SerializeToString())
    assert (back.guideline.name, back.guideline.version) == ("Lung-RADS", "v2022")
    assert (back.category, back.row, back.next_exam_months) == ("3", verdict.row, 6)
    assert (back.management_en, back.management_zh) == (
        "Low-dose CT in 6 months.",
        "6个月后低剂量CT。",
    )
    assert [(f.name, f.value, f.unit) for f in back.facts][-1] == ("mean_diameter_mm", "7.0", "mm")
    assert len(back.alternatives) == len(verdict.alternatives)


def test_without_a_category_no_management_travels() -> None:
    message = category_message(LUNG_RADS, judge(LUNG_RADS, NoduleState(TYPES["airway"], 8.0, 0.0)))
    assert not message.management_en
    assert not message.HasField("next_exam_months")


def test_the_page_on_guidelines_names_every_guideline_and_every_fact() -> None:
    page = (Path(__file__).parents[3] / "docs" / "guidelines.md").read_text(encoding="utf-8")
    for name in (*FACTS, *(f"| {table.name} | {table.edition} |" for table in every())):
        assert name in page, name


def test_every_row_is_named_in_chinese_with_the_same_figures() -> None:
    def figures(name: str) -> Counter[str]:
        return Counter(re.findall(r"\d+(?:\.\d+)?", name.replace("mm3", "mm³")))

    for guideline in every():
        for row in guideline.rows():
            assert re.search("[\u4e00-\u9fff]", row.zh) or row.zh.startswith("{row}"), row.name
            assert figures(row.name) == figures(row.zh), row.name
            assert re.findall(r"\{\w+\}", row.name) == re.findall(r"\{\w+\}", row.zh)
