"""The check that decides the answer to a sender: a DICOM file's header, never its pixels.

Pixel Data is measured, not decoded. Rules are those of the CT Image IOD (PS3.3 A.3) that the mesh
depends on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import UID

from lungmesh.ingest import syntaxes
from lungmesh.ingest.part10 import (
    UNDEFINED_LENGTH,
    Body,
    check_fragments,
    numbers,
    read_body,
    read_meta,
    short,
    text,
    uid,
    word,
)
from lungmesh.ingest.refusals import Rejection

_UIDS = ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
# Same thing said twice: in the message or file meta information, and in the data set.
_SAID_TWICE = {
    "SOPClassUID": "sop_class_mismatch",
    "SOPInstanceUID": "sop_instance_mismatch",
}
_FARTHEST_MM = 1e5


@dataclass(frozen=True)
class Header:
    """What ingest needs to know of an accepted object.

    Attributes
    ----------
    usable
        Whether it is a CT image; other objects are kept but make no study complete.
    patient_id, issuer_of_patient_id, dataset
        Patient data (`dataset` holds the elements of `part10.KEYWORDS`): never logged.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    transfer_syntax_uid: str
    usable: bool
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)
    dataset: Dataset = field(repr=False, compare=False)


def check_file(file: bytes) -> Header:
    """Check a DICOM Part 10 file as it came.

    Raises Rejection, which carries the UIDs that could be read.
    """
    meta, start = read_meta(file)
    found: dict[str, str] = {}
    try:
        syntax = UID(word(meta, "TransferSyntaxUID"))
        if not syntax:
            raise Rejection("missing_transfer_syntax", "The file does not say how it is encoded")
        if syntax not in syntaxes.TRANSFER_SYNTAXES:
            raise Rejection("unsupported_transfer_syntax", f"{syntax.name} is not taken")
        body = read_body(file, start, syntax)
        found.update({keyword: uid(word(body.dataset, keyword)) for keyword in _UIDS})
        return _check(meta, body, syntax, found)
    except Rejection as rejection:
        rejection.study_instance_uid = found.get("StudyInstanceUID", "")
        rejection.sop_class_uid = found.get("SOPClassUID") or _stated(meta, "SOPClassUID")
        rejection.sop_instance_uid = found.get("SOPInstanceUID") or _stated(meta, "SOPInstanceUID")
        raise


def _check(meta: Dataset, body: Body, syntax: UID, found: dict[str, str]) -> Header:
    dataset = body.dataset
    if not body.whole:
        raise Rejection("truncated", "The data set ends inside an element")
    if not len(dataset):
        raise Rejection("unreadable", "The data set holds none of the elements of an image")
    for keyword in _UIDS:
        if not found[keyword]:
            if not word(dataset, keyword):
                raise Rejection("missing_uid", f"{keyword} is missing")
            raise Rejection("invalid_uid", f"{keyword} is not a UID of at most 64 digits and dots")
    for keyword, code in _SAID_TWICE.items():
        stated = _stated(meta, keyword)
        if stated and stated != found[keyword]:
            raise Rejection(code, f"{keyword} is another in the message than in the data set")
    usable = found["SOPClassUID"] == syntaxes.CT
    if usable:
        _check_ct(dataset)
        _check_pixels(body, syntax)
    elif found["SOPClassUID"] not in syntaxes.COMPANIONS:
        name = UID(found["SOPClassUID"]).name
        raise Rejection("wrong_sop_class", f"{name} is not read by this mesh")
    return Header(
        sop_class_uid=found["SOPClassUID"],
        sop_instance_uid=found["SOPInstanceUID"],
        study_instance_uid=found["StudyInstanceUID"],
        series_instance_uid=found["SeriesInstanceUID"],
        modality=word(dataset, "Modality"),
        transfer_syntax_uid=str(syntax),
        usable=usable,
        patient_id=text(dataset, "PatientID"),
        issuer_of_patient_id=text(dataset, "IssuerOfPatientID"),
        dataset=dataset,
    )


def _stated(meta: Dataset, keyword: str) -> str:
    return uid(word(meta, f"MediaStorage{keyword}"))


def _check_ct(dataset: Dataset) -> None:
    if word(dataset, "Modality") != "CT":
        raise Rejection("wrong_modality", "A CT image does not say Modality CT")
    for keyword in ("Rows", "Columns"):
        if not short(dataset, keyword):
            raise Rejection("missing_image_size", f"{keyword} is missing or zero")
    if short(dataset, "SamplesPerPixel") not in (None, 1):
        raise Rejection("unsupported_pixel_format", "A CT image has one sample per pixel")
    if short(dataset, "BitsAllocated") not in (8, 16):
        raise Rejection("unsupported_pixel_format", "BitsAllocated is neither 8 nor 16")
    position = _geometry(dataset, "ImagePositionPatient", 3)
    orientation = _geometry(dataset, "ImageOrientationPatient", 6)
    spacing = _geometry(dataset, "PixelSpacing", 2)
    row, column = orientation[:3], orientation[3:]
    if not all(math.isclose(math.hypot(*axis), 1, abs_tol=1e-2) for axis in (row, column)):
        raise Rejection("invalid_geometry", "ImageOrientationPatient holds no unit vectors")
    if abs(sum(a * b for a, b in zip(row, column, strict=True))) > 1e-2:
        raise Rejection("invalid_geometry", "Rows and columns are not at right angles")
    if min(spacing) <= 0:
        raise Rejection("invalid_geometry", "PixelSpacing is not above zero")
    if max(abs(value) for value in position) > _FARTHEST_MM:
        raise Rejection("invalid_geometry", "ImagePositionPatient is farther than 100 m away")
    slope, intercept = numbers(dataset, "RescaleSlope"), numbers(dataset, "RescaleIntercept")
    if not slope or not intercept or not slope[0]:
        raise Rejection("missing_rescale", "Pixels cannot be turned into Hounsfield units")


def _geometry(dataset: Dataset, keyword: str, count: int) -> list[float]:
    values = numbers(dataset, keyword)
    if values == []:
        raise Rejection("missing_geometry", f"{keyword} is missing")
    if values is None or len(values) != count:
        raise Rejection("invalid_geometry", f"{keyword} does not hold {count} numbers")
    return values


def _check_pixels(body: Body, syntax: UID) -> None:
    dataset = body.dataset
    if body.pixels_at < 0 or not body.pixels_length:
        raise Rejection("missing_pixel_data", "The image has no Pixel Data")
    if syntax.is_encapsulated != (body.pixels_length == UNDEFINED_LENGTH):
        raise Rejection(
            "pixel_data_mismatch", "Pixel Data is encoded otherwise than the transfer syntax says"
        )
    if syntax.is_encapsulated:
        check_fragments(body.data, body.pixels_at)
        return
    if body.pixels_at + body.pixels_length > len(body.data):
        raise Rejection("truncated", "Pixel Data ends before its stated length")
    rows, columns = short(dataset, "Rows") or 0, short(dataset, "Columns") or 0
    frames = int((numbers(dataset, "NumberOfFrames") or [1])[0])
    size = rows * columns * (short(dataset, "BitsAllocated") or 0) // 8 * frames
    # One byte more may fill it up to an even length.
    if not size <= body.pixels_length <= size + 1:
        raise Rejection(
            "pixel_data_mismatch", f"Pixel Data has {body.pixels_length} bytes instead of {size}"
        )
