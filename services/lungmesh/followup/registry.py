"""Rows for a screening registry, as CSV and as FHIR R4.

The columns follow the exam form of the ACR's Lung Cancer Screening Registry (LCSR data dictionary,
2016 and 2021) as far as the mesh knows the facts; what it does not know is empty, never guessed.
The registry takes no such file as it stands: it asks for identities and facts that the mesh has
not. Patients bear the pseudonym. The README maps the columns to LCSR items.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Any

from fhir.resources.R4B.bundle import Bundle

from lungmesh.followup.figures import RegistryExam
from lungmesh.followup.programme import INTERVAL_DAYS, day_of
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import followup_pb2, nodule_pb2, study_pb2
from lungmesh.v1.followup_pb2 import Outcome
from lungmesh.v1.nodule_pb2 import Category, Nodule

# An annual exam comes no sooner than 11 months after the last (CMS, NCD 210.14).
_ANNUAL_DAYS = 335
_SEX = {
    study_pb2.SEX_FEMALE: "female",
    study_pb2.SEX_MALE: "male",
    study_pb2.SEX_OTHER: "other",
}
_CODING = "urn:lungmesh:coding"
_LUNG_CANCER = {
    "coding": [
        {
            "system": "http://snomed.info/sct",
            "code": "93880001",
            "display": "Primary malignant neoplasm of lung",
        }
    ]
}
COLUMNS = (
    "patient_pseudonym",
    "study_id",
    "exam_date",
    "exam_kind",
    "age_years",
    "sex",
    "ever_smoker",
    "years_since_quitting",
    "family_history_of_lung_cancer",
    "emphysema",
    "scanner_manufacturer",
    "scanner_model",
    "tube_voltage_kv",
    "ctdi_vol_mgy",
    "slice_thickness_mm",
    "guideline",
    "guideline_edition",
    "category",
    "positive",
    "nodules",
    "leading_nodule_type",
    "leading_nodule_mean_diameter_mm",
    "leading_nodule_solid_mean_diameter_mm",
    "leading_nodule_volume_mm3",
    "leading_nodule_growth",
    "leading_nodule_lobe",
    "leading_nodule_review",
    "next_exam_due",
    "work_up",
    "next_exam_date",
    "lung_cancer_date",
    "lung_cancer_stage",
    "interval_cancer",
    "left_programme_date",
    "death_date",
    "edition",
)


def csv_head() -> bytes:
    """Return the line of column names."""
    return _csv([COLUMNS])


def csv_rows(exams: Sequence[RegistryExam]) -> bytes:
    """Return a line an exam, UTF-8, CRLF as RFC 4180 asks."""
    return _csv([_row(exam) for exam in exams])


def fhir_lines(exams: Sequence[RegistryExam]) -> bytes:
    """Return one FHIR R4 Bundle (collection) an exam, a line each (NDJSON).

    Raises pydantic.ValidationError when one is not valid FHIR.
    """
    return b"".join(_bundle(exam).encode() + b"\n" for exam in exams)


def kind_of(exam: RegistryExam) -> str:
    """Return baseline, annual, or follow_up for one that came sooner than a year."""
    if exam.baseline:
        return "baseline"
    days = [prior.interval_days for prior in exam.result.priors]
    return "" if not days else "annual" if min(days) >= _ANNUAL_DAYS else "follow_up"


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _row(exam: RegistryExam) -> list[object]:
    values = _values(exam)
    return [values.get(column, "") for column in COLUMNS]


def _values(exam: RegistryExam) -> dict[str, object]:
    """Return what is known, by column."""
    result = exam.result
    acquisition, clinical = result.exam.volume.acquisition, result.exam.clinical
    known: dict[str, Any] = {
        field.name: value
        for message in (acquisition, clinical)
        for field, value in message.ListFields()
    }
    cancer = _first(exam.outcomes, followup_pb2.OUTCOME_KIND_LUNG_CANCER)
    values: dict[str, object] = {
        "patient_pseudonym": exam.patient,
        "study_id": result.study.study_id,
        "exam_date": _iso(acquisition.study_date),
        "exam_kind": kind_of(exam),
        "sex": _SEX.get(clinical.sex, ""),
        "scanner_manufacturer": acquisition.manufacturer,
        "scanner_model": acquisition.manufacturer_model_name,
        "guideline": result.next.guideline.name,
        "guideline_edition": result.next.guideline.version,
        "category": result.next.category,
        "positive": _yes(exam.positive),
        "nodules": len(result.nodules),
        "next_exam_due": _iso(result.next.due_date),
        "work_up": _yes(result.next.work_up),
        "next_exam_date": "" if exam.next_day is None else date.fromordinal(exam.next_day),
        "left_programme_date": _day_of_first(
            exam.outcomes, followup_pb2.OUTCOME_KIND_LEFT_PROGRAMME
        ),
        "death_date": _day_of_first(exam.outcomes, followup_pb2.OUTCOME_KIND_DIED),
        "edition": result.edition,
    }
    for column, field in (
        ("tube_voltage_kv", "kvp"),
        ("ctdi_vol_mgy", "ctdi_vol_mgy"),
        ("slice_thickness_mm", "slice_thickness_mm"),
        ("age_years", "age_years"),
        ("years_since_quitting", "years_since_quitting"),
    ):
        if field in known:
            values[column] = f"{known[field]:g}"
    for field in ("ever_smoker", "family_history_of_lung_cancer", "emphysema"):
        if field in known:
            values[field] = _yes(known[field])
    lead = _leading(exam)
    if lead is not None:
        size = lead.measurement
        values |= {
            "leading_nodule_type": _word(nodule_pb2.NoduleType.Name(lead.type), "NODULE_TYPE_"),
            "leading_nodule_mean_diameter_mm": f"{size.mean_diameter_mm:.1f}",
            "leading_nodule_solid_mean_diameter_mm": f"{size.solid_mean_diameter_mm:.1f}",
            "leading_nodule_volume_mm3": f"{size.volume_mm3:.0f}",
            "leading_nodule_growth": _word(
                nodule_pb2.GrowthClass.Name(lead.tracking.growth), "GROWTH_CLASS_"
            ),
            "leading_nodule_lobe": _word(nodule_pb2.Lobe.Name(lead.lobe), "LOBE_"),
            "leading_nodule_review": "confirmed"
            if lead.review.status == nodule_pb2.REVIEW_STATUS_CONFIRMED
            else "",
        }
    if cancer is not None:
        values["lung_cancer_date"] = _iso(cancer.date)
        values["lung_cancer_stage"] = cancer.stage
        values["interval_cancer"] = _yes(_interval(exam, cancer))
    return values


def _leading(exam: RegistryExam) -> Nodule | None:
    """Return the largest nodule of the exam's category."""
    result = exam.result

    def given(nodule: Nodule) -> str:
        return next(
            (c.category for c in nodule.categories if c.guideline == result.next.guideline), ""
        )

    deciding = [n for n in result.nodules if given(n) == result.next.category] or result.nodules
    return max(deciding, key=lambda n: (n.measurement.mean_diameter_mm, n.nodule_id), default=None)


def _interval(exam: RegistryExam, cancer: Outcome) -> bool:
    """Return whether the cancer came soon after this exam, the last before it and negative."""
    day = day_of(exam.result.exam.volume.acquisition.study_date)
    found = day_of(cancer.date)
    if exam.positive or day is None or found is None:
        return False
    last = exam.next_day is None or exam.next_day > found
    return last and 0 <= found - day <= INTERVAL_DAYS


def _bundle(exam: RegistryExam) -> str:
    result = exam.result
    study = result.study
    made = deterministic_id("registry", study.tenant, study.study_id, study.revision)

    def name(part: str) -> str:
        owner = exam.patient if part == "patient" else made
        return deterministic_id("registry", study.tenant, owner, part)

    subject = {"reference": f"urn:uuid:{name('patient')}"}
    day = _iso(result.exam.volume.acquisition.study_date)
    patient: dict[str, object] = {
        "resourceType": "Patient",
        "id": name("patient"),
        "identifier": [{"system": "urn:lungmesh:pseudonym", "value": exam.patient}],
    }
    if result.exam.clinical.sex in _SEX:
        patient["gender"] = _SEX[result.exam.clinical.sex]
    resources = [patient, _observation(exam, name("category"), subject, day)]
    for outcome in exam.outcomes:
        if outcome.kind == followup_pb2.OUTCOME_KIND_LUNG_CANCER:
            resources.append(_condition(outcome, subject))
        elif outcome.kind == followup_pb2.OUTCOME_KIND_DIED:
            patient["deceasedDateTime"] = _iso(outcome.date)
    bundle = Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "id": made,
            "type": "collection",
            "entry": [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in resources],
        }
    )
    text: str = bundle.model_dump_json(exclude_none=True)
    return text


def _observation(
    exam: RegistryExam, name: str, subject: dict[str, str], day: str
) -> dict[str, object]:
    """Return the exam's category, with the columns of the CSV as components."""
    result = exam.result
    guideline = result.next.guideline
    observation: dict[str, object] = {
        "resourceType": "Observation",
        "id": name,
        # No radiologist has signed what the mesh computed.
        "status": "preliminary",
        "code": {"text": f"{guideline.name} {guideline.version} category".strip()},
        "subject": subject,
        "component": [
            {
                "code": {"coding": [{"system": _CODING, "code": column}], "text": column},
                "valueString": str(value),
            }
            for column, value in _values(exam).items()
            if str(value) and column not in ("patient_pseudonym", "category")
        ],
    }
    if day:
        observation["effectiveDateTime"] = day
    if result.next.category:
        observation["valueCodeableConcept"] = {"text": result.next.category}
    else:
        needs = [need for c in _own(exam) for need in c.needs]
        observation["dataAbsentReason"] = {"text": f"needs {', '.join(needs)}".strip()}
    return observation


def _condition(outcome: Outcome, subject: dict[str, str]) -> dict[str, object]:
    condition: dict[str, object] = {
        "resourceType": "Condition",
        "id": outcome.outcome_id,
        "code": _LUNG_CANCER,
        "subject": subject,
        "onsetDateTime": _iso(outcome.date),
    }
    if outcome.stage:
        condition["stage"] = [{"summary": {"text": outcome.stage}}]
    return condition


def _own(exam: RegistryExam) -> list[Category]:
    guideline = exam.result.next.guideline
    return [c for c in exam.result.exam_categories if c.guideline == guideline]


def _first(outcomes: Sequence[Outcome], kind: int) -> Outcome | None:
    return next((outcome for outcome in outcomes if outcome.kind == kind), None)


def _day_of_first(outcomes: Sequence[Outcome], kind: int) -> str:
    outcome = _first(outcomes, kind)
    return "" if outcome is None else _iso(outcome.date)


def _iso(text: str) -> str:
    """Return a DICOM DA as ISO 8601; empty when it is no date."""
    day = day_of(text)
    return "" if day is None else date.fromordinal(day).isoformat()


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _word(name: str, prefix: str) -> str:
    word = name.removeprefix(prefix).lower()
    return "" if word == "unspecified" else word
