"""Who a patient is, and DICOM objects under that identity; in memory only."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field

from pydicom import dcmread
from pydicom.dataset import Dataset


@dataclass(frozen=True)
class PatientIdentity:
    """Who the patient is; never logged, never kept."""

    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    patient_birth_date: str = field(repr=False)
    patient_sex: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)


def birth_date(identity: PatientIdentity) -> str:
    """Return the date of birth as ISO 8601; empty where there is none."""
    day = identity.patient_birth_date
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if re.fullmatch(r"\d{8}", day) else ""


def with_identity(data: bytes, identity: PatientIdentity) -> Dataset:
    """Return a copy of a DICOM file with the patient's identity instead of the pseudonym."""
    dataset = dcmread(io.BytesIO(data))
    dataset.PatientID = identity.patient_id
    dataset.PatientName = identity.patient_name
    dataset.PatientBirthDate = identity.patient_birth_date
    dataset.PatientSex = identity.patient_sex
    if identity.issuer_of_patient_id:
        dataset.IssuerOfPatientID = identity.issuer_of_patient_id
    for keyword in ("PatientIdentityRemoved", "DeidentificationMethod"):
        if keyword in dataset:
            delattr(dataset, keyword)
    return dataset
