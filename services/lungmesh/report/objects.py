"""What SEG and SR share: deterministic identifiers, the study's dates, the mesh as a device."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset

from lungmesh.mesh.ids import dicom_uid
from lungmesh.report.content import Content

# Raised whenever the same event gives another report.
VERSION = "2"
MANUFACTURER = "LungMesh"
DEVICE = "LungMesh report"
SERIAL = "0"
# UTF-8: the patient's name, when it comes back, may be Chinese.
CHARACTER_SET = "ISO_IR 192"
# Series numbers that scanners seldom use.
SEG_SERIES_NUMBER, SR_SERIES_NUMBER = 9701, 9702
_UNKNOWN_DATE, _UNKNOWN_TIME = "19000101", "000000"


@dataclass(frozen=True)
class Identity:
    """The identifiers of one object of the report; the same edition gives the same."""

    series_instance_uid: str
    sop_instance_uid: str


def identity(content: Content, kind: str) -> Identity:
    """Return the identifiers of the report's object of a kind (seg, sr)."""
    ids = content.ids
    study = [ids["tenant"], ids["study_id"], ids["revision"]]
    if content.edition > 1:
        study.append(f"edition-{content.edition}")
    return Identity(
        dicom_uid("report", *study, kind, "series"), dicom_uid("report", *study, kind, "instance")
    )


def made_by_us(names: Identity) -> dict[str, Any]:
    """Return what highdicom's constructors ask of every object: its identifiers and its maker."""
    return {
        "series_instance_uid": names.series_instance_uid,
        "sop_instance_uid": names.sop_instance_uid,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": DEVICE,
        "software_versions": VERSION,
        "specific_character_set": CHARACTER_SET,
        "device_serial_number": SERIAL,
    }


def study_datetime(source: Dataset) -> datetime:
    """Return when the study was made: the objects bear its date, never that of their making."""
    date = str(source.get("StudyDate") or source.get("SeriesDate") or "")
    time = str(source.get("StudyTime") or "")[:6]
    if not re.fullmatch(r"\d{8}", date):
        date = _UNKNOWN_DATE
    if not re.fullmatch(r"\d{6}", time):
        time = _UNKNOWN_TIME
    return datetime.strptime(date + time, "%Y%m%d%H%M%S")


def stamp(dataset: Dataset, when: datetime) -> None:
    """Put the study's date where highdicom took the clock's, so that a repeat gives equal bytes."""
    for keyword in ("InstanceCreationDate", "ContentDate", "SeriesDate"):
        if keyword in dataset:
            setattr(dataset, keyword, when.strftime("%Y%m%d"))
    for keyword in ("InstanceCreationTime", "ContentTime", "SeriesTime"):
        if keyword in dataset:
            setattr(dataset, keyword, when.strftime("%H%M%S"))
    for item in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
