"""Rows for a registry: what is known, nothing that is not."""

from __future__ import annotations

import csv
import io
import json

from lungmesh.followup import programme, registry
from lungmesh.followup.figures import RegistryExam
from lungmesh.followup.guidelines import engine
from lungmesh.followup.timeline import Rules, fold
from lungmesh.v1 import study_pb2
from lungmesh.v1.followup_pb2 import Outcome
from tests.support.followup import an_outcome, layings, unread_exam
from tests.support.nodules import a_nodule, a_study
from tests.support.preprocess import PSEUDONYM

HERE, THERE = (50.0, 80.0, -110.0), (-60.0, 20.0, -60.0)
RULES = Rules((engine.load("Lung-RADS"), engine.load("C-Lung-RADS")), 2)


def exams(
    *outcomes: Outcome, dates: tuple[str, ...] = ("20200101", "20210102")
) -> list[RegistryExam]:
    events = [
        unread_exam(
            a_study(f"e{n}"), day, [a_nodule(f"a{n}", HERE, 5), a_nodule(f"b{n}", THERE, 4)]
        )
        for n, day in enumerate(dates)
    ]
    for event in events:
        event.exam.clinical.age_years = 64
        event.exam.clinical.ever_smoker = True
        event.exam.clinical.sex = study_pb2.SEX_MALE
        event.exam.volume.acquisition.ctdi_vol_mgy = 1.25
    results = fold(events, (), layings(events), RULES)
    return [
        RegistryExam(
            (0, result.study.study_id),
            PSEUDONYM,
            line.baseline,
            line.positive,
            line.next_day,
            result,
            outcomes,
        )
        for result, line in zip(results, programme.lines(results, outcomes), strict=True)
    ]


def rows(found: list[RegistryExam]) -> list[dict[str, str]]:
    text = (registry.csv_head() + registry.csv_rows(found)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_row_tells_what_is_known() -> None:
    first, second = rows(exams())
    assert list(first) == list(registry.COLUMNS)
    wanted = {
        "patient_pseudonym": PSEUDONYM,
        "exam_date": "2020-01-01",
        "exam_kind": "baseline",
        "age_years": "64",
        "sex": "male",
        "ever_smoker": "yes",
        "ctdi_vol_mgy": "1.25",
        "guideline": "Lung-RADS",
        "category": "2",
        "positive": "no",
        "nodules": "2",
        "leading_nodule_mean_diameter_mm": "5.0",
        "leading_nodule_type": "solid",
        "leading_nodule_growth": "baseline",
        "leading_nodule_lobe": "left_lower",
        "next_exam_due": "2021-01-01",
        "next_exam_date": "2021-01-02",
    }
    assert {name: first[name] for name in wanted} == wanted
    assert second["exam_kind"] == "annual"
    unknown = ("years_since_quitting", "emphysema", "lung_cancer_date", "interval_cancer")
    assert {first[name] for name in unknown} == {""}


def test_an_exam_before_the_year_is_a_follow_up() -> None:
    assert rows(exams(dates=("20200101", "20200401")))[1]["exam_kind"] == "follow_up"


def test_a_cancer_soon_after_the_last_negative_exam_is_an_interval_cancer() -> None:
    cancer = an_outcome("LUNG_CANCER", "20210601", stage="IA2")
    first, second = rows(exams(cancer))
    assert (first["interval_cancer"], second["interval_cancer"]) == ("no", "yes")
    assert (second["lung_cancer_date"], second["lung_cancer_stage"]) == ("2021-06-01", "IA2")
    late = an_outcome("LUNG_CANCER", "20220601")
    assert rows(exams(late))[1]["interval_cancer"] == "no"


def test_the_bundles_are_fhir_and_carry_the_same_facts() -> None:
    found = exams(
        an_outcome("LUNG_CANCER", "20210601", stage="IA2"), an_outcome("DIED", "20230101")
    )
    lines = registry.fhir_lines(found).decode().splitlines()
    assert len(lines) == 2
    for line, row in zip(lines, rows(found), strict=True):
        resources = [entry["resource"] for entry in json.loads(line)["entry"]]
        by_kind = {resource["resourceType"]: resource for resource in resources}
        assert by_kind["Patient"]["identifier"][0]["value"] == PSEUDONYM
        assert by_kind["Patient"]["deceasedDateTime"] == "2023-01-01"
        observation = by_kind["Observation"]
        assert observation["valueCodeableConcept"]["text"] == row["category"]
        assert observation["effectiveDateTime"] == row["exam_date"]
        told = {c["code"]["text"]: c["valueString"] for c in observation["component"]}
        assert told["leading_nodule_mean_diameter_mm"] == "5.0"
        assert by_kind["Condition"]["stage"][0]["summary"]["text"] == "IA2"
    # One patient is one resource in every bundle.
    ids = {json.loads(line)["entry"][0]["resource"]["id"] for line in lines}
    assert len(ids) == 1
