"""Age and sex from the header; nothing is guessed."""

from __future__ import annotations

import pytest

from lungmesh.ingest.clinical import age_years, clinical_of, merged
from lungmesh.v1.study_pb2 import SEX_FEMALE, SEX_MALE, ClinicalContext
from tests.support.ingest import ct_slice


@pytest.mark.parametrize(
    ("patient_age", "birth_date", "study_date", "years"),
    [
        ("065Y", "", "", 65.0),
        ("018M", "", "", 1.5),
        ("052W", "", "", pytest.approx(0.9966, abs=1e-4)),
        ("", "19600203", "20260202", 65.0),
        ("", "19600203", "20260203", 66.0),
        ("65", "19600203", "20260203", 66.0),
        ("", "20270101", "20260203", None),
        ("", "19600230", "20260203", None),
        ("", "", "20260203", None),
        ("999Y", "", "", None),
    ],
)
def test_age_at_the_exam(
    patient_age: str, birth_date: str, study_date: str, years: float | None
) -> None:
    assert age_years(patient_age, birth_date, study_date) == years


def test_what_the_header_does_not_state_stays_unset() -> None:
    header = ct_slice("unit", PatientAge=None, PatientBirthDate=None, PatientSex=None)
    assert clinical_of(header) == ClinicalContext()
    assert clinical_of(ct_slice("unit")) == ClinicalContext(age_years=65, sex=SEX_FEMALE)


def test_what_the_sender_states_counts_more_than_the_header() -> None:
    header = ClinicalContext(age_years=65, sex=SEX_FEMALE)
    stated = ClinicalContext(sex=SEX_MALE, ever_smoker=False)
    expected = ClinicalContext(age_years=65, sex=SEX_MALE, ever_smoker=False)
    assert merged(header, stated) == expected
