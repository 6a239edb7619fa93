"""What a DICOM header tells of the patient that the risk models use."""

from __future__ import annotations

import re
from datetime import date, datetime

from pydicom.dataset import Dataset

from lungmesh.ingest.part10 import text
from lungmesh.v1.study_pb2 import SEX_FEMALE, SEX_MALE, SEX_OTHER, ClinicalContext, Sex

_YEARS_OF_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_SEX = {"F": SEX_FEMALE, "M": SEX_MALE, "O": SEX_OTHER}


def clinical_of(dataset: Dataset) -> ClinicalContext:
    """Return age and sex as the header states them; what it does not state stays unset."""
    context = ClinicalContext(sex=_sex(dataset))
    age = age_years(
        text(dataset, "PatientAge"), text(dataset, "PatientBirthDate"), text(dataset, "StudyDate")
    )
    if age is not None:
        context.age_years = age
    return context


def merged(lower: ClinicalContext, upper: ClinicalContext) -> ClinicalContext:
    """Return both; where both know something, `upper` counts."""
    context = ClinicalContext()
    context.CopyFrom(lower)
    context.MergeFrom(upper)
    return context


def age_years(patient_age: str, birth_date: str, study_date: str) -> float | None:
    """Return the age at the exam in years, from PatientAge (AS) or else from the dates (DA)."""
    match = re.fullmatch(r"([0-9]{3})([DWMY])", patient_age)
    if match:
        years = int(match[1]) * _YEARS_OF_UNIT[match[2]]
        return years if years <= 130 else None
    born, seen = _date(birth_date), _date(study_date)
    if born is None or seen is None or seen < born:
        return None
    years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    return float(years) if years <= 130 else None


def _sex(dataset: Dataset) -> Sex.ValueType:
    return _SEX.get(text(dataset, "PatientSex").upper(), Sex.SEX_UNSPECIFIED)


def _date(value: str) -> date | None:
    try:
        return datetime.strptime(value, "%Y%m%d").date()
    except ValueError:
        return None
