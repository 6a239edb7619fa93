"""What the DICOM objects share: identifiers, the study's dates, the mesh as device."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from lungmesh.mesh.ids import dicom_uid
from lungmesh.report import coding
from lungmesh.report.content import Content

# Raised whenever the same event gives another report.
VERSION = "3"
MANUFACTURER = "LungMesh"
DEVICE = "LungMesh report"
SERIAL = "0"
# An unpaired part: without it the standard asks for a laterality.
BODY_PART = "CHEST"
# UTF-8: the patient's name, when it comes back, may be Chinese.
CHARACTER_SET = "ISO_IR 192"
# Series numbers that scanners seldom use.
SEG_SERIES_NUMBER, SR_SERIES_NUMBER, GSPS_SERIES_NUMBER = 9701, 9702, 9703
KEY_SERIES_NUMBER, PDF_SERIES_NUMBER, RTSTRUCT_SERIES_NUMBER = 9704, 9705, 9706
KO_SERIES_NUMBER = 9707
# What stands for what a study does not tell.
UNKNOWN_DATE, _UNKNOWN_TIME = "19000101", "000000"
_DATES = ("InstanceCreationDate", "ContentDate", "SeriesDate")
_TIMES = ("InstanceCreationTime", "ContentTime", "SeriesTime")
_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)


@dataclass(frozen=True)
class Identity:
    """The identifiers of one object of the report; the same edition gives the same."""

    series_instance_uid: str
    sop_instance_uid: str


def identity(content: Content, kind: str, number: int = 1) -> Identity:
    """Return the identifiers of the report's object of a kind (seg, sr, gsps, key, pdf, rtstruct).

    Parameters
    ----------
    number
        Tells the objects of one series apart.
    """
    ids = content.ids
    study = [ids["tenant"], ids["study_id"], ids["revision"]]
    if content.edition > 1:
        study.append(f"edition-{content.edition}")
    if kind == "pdf" and content.templates:
        # The words are the hospital's: others give another object.
        study.append(content.templates)
    instance = ["instance", number] if number > 1 else ["instance"]
    return Identity(
        dicom_uid("report", *study, kind, "series"), dicom_uid("report", *study, kind, *instance)
    )


def series_description(content: Content, what: str) -> str:
    """Return a series' description, which names the edition of a corrected report."""
    return f"{what}, edition {content.edition}" if content.edition > 1 else what


def made_by_us(names: Identity, instance_number: int = 1) -> dict[str, Any]:
    """Return what highdicom's constructors ask of every object: its identifiers and its maker."""
    return {
        "series_instance_uid": names.series_instance_uid,
        "sop_instance_uid": names.sop_instance_uid,
        "instance_number": instance_number,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": DEVICE,
        "software_versions": VERSION,
        "specific_character_set": CHARACTER_SET,
        "device_serial_number": SERIAL,
    }


def shell(
    sop_class: str,
    names: Identity,
    content: Content,
    source: Dataset,
    *,
    modality: str,
    series_number: int,
    description: str,
    instance_number: int = 1,
) -> Dataset:
    """Return an object that highdicom does not make: patient and study of a slice, series, maker.

    Parameters
    ----------
    source
        The header of a source slice.
    """
    when = study_datetime(source)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = CHARACTER_SET
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, names.sop_instance_uid
    for keyword in _PATIENT_AND_STUDY:
        if keyword in source:
            dataset[keyword] = source[keyword]
    dataset.Modality = modality
    dataset.SeriesInstanceUID, dataset.SeriesNumber = names.series_instance_uid, series_number
    dataset.SeriesDescription = series_description(content, description)
    dataset.InstanceNumber = instance_number
    dataset.InstanceCreationDate = dataset.SeriesDate = dataset.ContentDate = when.strftime(
        "%Y%m%d"
    )
    dataset.InstanceCreationTime = dataset.SeriesTime = dataset.ContentTime = when.strftime(
        "%H%M%S"
    )
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, DEVICE
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = VERSION, SERIAL
    dataset.ContributingEquipmentSequence = _algorithms(content)
    dataset.CodingSchemeIdentificationSequence = coding.schemes(dataset)
    return dataset


def reference(instance: Dataset) -> Dataset:
    """Return a reference to an instance (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item


def edition_before(content: Content, kind: str, sop_class: str, source: Dataset) -> Dataset | None:
    """Return the identifiers of a report's object in the edition before; None for a first."""
    if content.edition == 1:
        return None
    before = replace(content, ids={**content.ids, "edition": content.edition - 1})
    names = identity(before, kind)
    replaced = Dataset()
    replaced.StudyInstanceUID = source.StudyInstanceUID
    replaced.SeriesInstanceUID = names.series_instance_uid
    replaced.SOPInstanceUID = names.sop_instance_uid
    replaced.SOPClassUID = sop_class
    return replaced


def study_datetime(source: Dataset) -> datetime:
    """Return when the study was made: the objects bear its date, never that of their making."""
    date = str(source.get("StudyDate") or source.get("SeriesDate") or "")
    time = str(source.get("StudyTime") or "")[:6]
    if not re.fullmatch(r"\d{8}", date):
        date = UNKNOWN_DATE
    if not re.fullmatch(r"\d{6}", time):
        time = _UNKNOWN_TIME
    return datetime.strptime(date + time, "%Y%m%d%H%M%S")


def finish(dataset: Dataset, content: Content, when: datetime) -> None:
    """Finish what highdicom made: name the algorithms, and be the same at every making.

    The study's date takes the place of the clock's.
    """
    for keyword in _DATES:
        if keyword in dataset:
            setattr(dataset, keyword, when.strftime("%Y%m%d"))
    for keyword in _TIMES:
        if keyword in dataset:
            setattr(dataset, keyword, when.strftime("%H%M%S"))
    equipment = list(dataset.get("ContributingEquipmentSequence", []))
    for item in equipment:
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    dataset.ContributingEquipmentSequence = [*equipment, *_algorithms(content)]
    schemes = coding.schemes(dataset)
    if schemes:
        dataset.CodingSchemeIdentificationSequence = schemes


def _algorithms(content: Content) -> list[Dataset]:
    """Return what IHE AIR asks to be said of each algorithm that took part (section 6.5.3.1)."""
    out = []
    for model in content.models:
        item = Dataset()
        item.PurposeOfReferenceCodeSequence = [coding.concept(coding.PROCESSING_ALGORITHM)]
        item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, model.name[:64]
        item.SoftwareVersions = model.version[:64]
        item.DeviceUID = dicom_uid("model", model.name, model.version)
        out.append(item)
    return out
