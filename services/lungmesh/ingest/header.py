"""The check that decides the answer to a sender: a DICOM file's header, never its pixels.

Only the elements named here are read, and Pixel Data is measured, not decoded. Rules are those of
the CT Image IOD (PS3.3 A.3) that the mesh depends on.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from lungmesh.ingest import syntaxes
from lungmesh.ingest.refusals import Rejection

_PREAMBLE = 132
_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
# DICOM files of this inflated size are no single images.
_MAX_INFLATED = 1 << 30
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")

KEYWORDS = (
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate"),
    *("Modality", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate"),
    *("PatientSex", "PatientAge", "StudyInstanceUID", "SeriesInstanceUID", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
    *("SamplesPerPixel", "BitsAllocated", "RescaleIntercept", "RescaleSlope"),
)
_TAGS: list[BaseTag | int] = [tag for word in KEYWORDS if (tag := tag_for_keyword(word))]


@dataclass(frozen=True)
class Header:
    """What ingest needs to know of an accepted object.

    Attributes
    ----------
    usable
        Whether it is a CT image; other objects are kept but make no study complete.
    dataset
        The elements of `KEYWORDS`; holds patient data, so it is never logged.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    transfer_syntax_uid: str
    usable: bool
    dataset: Dataset = field(repr=False, compare=False)


class _Reader(io.BytesIO):
    """Notes a read that met the end before it had what it wanted."""

    short = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and size > len(data) and data:
            self.short = True
        return data


@dataclass
class _PixelData:
    """Where Pixel Data lies in the data set's bytes; `start` is -1 when there is none."""

    start: int = -1
    length: int = 0


def data_set_offset(file: bytes) -> int:
    """Return where the data set begins, after preamble and File Meta Information (PS3.10 7.1).

    Raises Rejection when the bytes are no DICOM file.
    """
    return _meta(file)[1]


def check_file(file: bytes) -> Header:
    """Check a DICOM Part 10 file as it came.

    Raises Rejection, which carries the UIDs that could be read.
    """
    meta, offset = _meta(file)
    syntax = str(meta.get("TransferSyntaxUID") or "")
    found: dict[str, str] = {}
    try:
        if not syntax:
            raise Rejection("missing_transfer_syntax", "The file does not say how it is encoded")
        if UID(syntax) not in syntaxes.TRANSFER_SYNTAXES:
            raise Rejection(
                "unsupported_transfer_syntax", f"Transfer syntax {UID(syntax).name} is not taken"
            )
        return _check(meta, file, offset, UID(syntax), found)
    except Rejection as rejection:
        rejection.study_instance_uid = found.get("StudyInstanceUID", "")
        for name, stated in (
            ("sop_class_uid", "MediaStorageSOPClassUID"),
            ("sop_instance_uid", "MediaStorageSOPInstanceUID"),
        ):
            keyword = stated.removeprefix("MediaStorage")
            setattr(rejection, name, found.get(keyword) or _uid_or_empty(meta.get(stated)))
        raise


def _meta(file: bytes) -> tuple[Dataset, int]:
    if not file:
        raise Rejection("empty", "The object has no bytes")
    if file[128:_PREAMBLE] != b"DICM":
        raise Rejection("not_dicom", "The object has no DICOM prefix after 128 bytes")
    reader = _Reader(file)
    reader.seek(_PREAMBLE)
    try:
        meta = read_dataset(reader, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        meta.get("TransferSyntaxUID")
    except Exception as error:
        raise Rejection("unreadable", "The file meta information cannot be read") from error
    return meta, reader.tell()


def _check(meta: Dataset, body: bytes, start: int, syntax: UID, found: dict[str, str]) -> Header:
    if start == len(body):
        raise Rejection("empty", "The object has no data set")
    if syntax == DeflatedExplicitVRLittleEndian:
        body, start = _inflate(body[start:]), 0
    reader = _Reader(body)
    reader.seek(start)
    pixels = _PixelData()

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag < _PIXEL_DATA:
            return False
        if tag == _PIXEL_DATA:
            pixels.start, pixels.length = reader.tell(), length
        return True

    implicit = syntax == ImplicitVRLittleEndian
    try:
        dataset = read_dataset(reader, implicit, True, stop_when=at_pixels, specific_tags=_TAGS)
    # Whatever a data set's bytes do to the parser, the fault is in the bytes.
    except Exception as error:
        raise Rejection("unreadable", "The data set cannot be parsed") from error
    ended_early = pixels.start < 0 and (reader.short or reader.tell() > len(body))
    for keyword in ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        found[keyword] = _uid_or_empty(_value(dataset, keyword))
    if ended_early:
        raise Rejection("truncated", "The data set ends inside an element")
    if not len(dataset):
        raise Rejection("unreadable", "The data set holds none of the elements of an image")
    _check_uids(meta, dataset)
    usable = found["SOPClassUID"] == syntaxes.CT
    if usable:
        _check_ct(dataset)
        _check_pixels(dataset, body, pixels, syntax)
    elif UID(found["SOPClassUID"]) not in syntaxes.COMPANIONS:
        name = UID(found["SOPClassUID"]).name
        raise Rejection("wrong_sop_class", f"{name} is not read by this mesh")
    return Header(
        sop_class_uid=found["SOPClassUID"],
        sop_instance_uid=found["SOPInstanceUID"],
        study_instance_uid=found["StudyInstanceUID"],
        series_instance_uid=found["SeriesInstanceUID"],
        modality=str(_value(dataset, "Modality") or ""),
        transfer_syntax_uid=str(syntax),
        usable=usable,
        dataset=dataset,
    )


def _inflate(body: bytes) -> bytes:
    """Inflate a whole data set (PS3.5 A.5: raw deflate, no header)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(body, _MAX_INFLATED)
    except zlib.error as error:
        raise Rejection("corrupt_deflate", "The deflated data set is damaged") from error
    if inflater.unconsumed_tail:
        raise Rejection("oversized", "The inflated data set is larger than 1 GiB")
    if not inflater.eof:
        raise Rejection("truncated", "The deflated data set ends too early")
    return data


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text without outer spaces, empty when it is absent or unreadable."""
    return str(_value(dataset, keyword) or "").strip()


def _value(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value, None when it is absent, empty or of a wrong form."""
    try:
        value = dataset.get(keyword)
    except Exception:
        return None
    return None if value in ("", None) else value


def _uid_or_empty(value: Any) -> str:
    text = str(value or "").strip("\0 ")
    return text if len(text) <= 64 and _UID.fullmatch(text) else ""


def _check_uids(meta: Dataset, dataset: Dataset) -> None:
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = _value(dataset, keyword)
        if value is None:
            raise Rejection("missing_uid", f"{keyword} is missing")
        if not _uid_or_empty(value):
            raise Rejection("invalid_uid", f"{keyword} is not a UID of at most 64 digits and dots")
    for keyword, code in (
        ("SOPClassUID", "sop_class_mismatch"),
        ("SOPInstanceUID", "sop_instance_mismatch"),
    ):
        stated = _uid_or_empty(meta.get(f"MediaStorage{keyword}"))
        if stated and stated != _uid_or_empty(_value(dataset, keyword)):
            raise Rejection(code, f"{keyword} is another in the message than in the data set")


def _check_ct(dataset: Dataset) -> None:
    if _value(dataset, "Modality") != "CT":
        raise Rejection("wrong_modality", "A CT image does not say Modality CT")
    for keyword in ("Rows", "Columns"):
        count = _number(dataset, keyword)
        if not count or count < 1:
            raise Rejection("missing_image_size", f"{keyword} is missing or zero")
    if _number(dataset, "SamplesPerPixel") not in (None, 1) or _number(
        dataset, "BitsAllocated"
    ) not in (8, 16):
        raise Rejection(
            "unsupported_pixel_format", "SamplesPerPixel or BitsAllocated is none of a CT image"
        )
    position = _numbers(dataset, "ImagePositionPatient", 3)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    spacing = _numbers(dataset, "PixelSpacing", 2)
    row, column = orientation[:3], orientation[3:]
    if not all(math.isclose(math.hypot(*axis), 1, abs_tol=1e-2) for axis in (row, column)):
        raise Rejection("invalid_geometry", "ImageOrientationPatient holds no unit vectors")
    if abs(sum(a * b for a, b in zip(row, column, strict=True))) > 1e-2:
        raise Rejection("invalid_geometry", "Rows and columns are not at right angles")
    if min(spacing) <= 0:
        raise Rejection("invalid_geometry", "PixelSpacing is not above zero")
    if max(abs(value) for value in position) > 1e5:
        raise Rejection("invalid_geometry", "ImagePositionPatient is farther than 100 m away")
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope is None or intercept is None or not slope:
        raise Rejection("missing_rescale", "Pixels cannot be turned into Hounsfield units")


def _number(dataset: Dataset, keyword: str) -> float | None:
    value = _value(dataset, keyword)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    value = _value(dataset, keyword)
    if value is None:
        raise Rejection("missing_geometry", f"{keyword} is missing or unreadable")
    try:
        numbers = [float(item) for item in value]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise Rejection("invalid_geometry", f"{keyword} does not hold {count} numbers")
    return numbers


def _check_pixels(dataset: Dataset, body: bytes, pixels: _PixelData, syntax: UID) -> None:
    if pixels.start < 0 or not pixels.length:
        raise Rejection("missing_pixel_data", "The image has no Pixel Data")
    if syntax.is_encapsulated != (pixels.length == _UNDEFINED):
        raise Rejection(
            "pixel_data_mismatch", "Pixel Data is encoded otherwise than the transfer syntax says"
        )
    if syntax.is_encapsulated:
        _check_fragments(body, pixels.start)
        return
    if pixels.start + pixels.length > len(body):
        raise Rejection("truncated", "Pixel Data ends before its stated length")
    frames = _number(dataset, "NumberOfFrames") or 1
    size = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8 * frames
    if pixels.length < size or pixels.length > size + 1:
        raise Rejection(
            "pixel_data_mismatch", f"Pixel Data has {pixels.length} bytes instead of {size:.0f}"
        )


def _check_fragments(body: bytes, start: int) -> None:
    """Walk the items of encapsulated Pixel Data (PS3.5 A.4): offset table, then fragments."""
    place, items, coded = start, 0, 0
    while place + 8 <= len(body):
        group, element, length = struct.unpack_from("<HHL", body, place)
        place += 8
        if (group, element) == (0xFFFE, 0xE0DD):
            if coded == 0:
                raise Rejection("missing_pixel_data", "Pixel Data holds no fragment")
            return
        if (group, element) != (0xFFFE, 0xE000):
            raise Rejection("unreadable", "Pixel Data holds something else than fragments")
        place += length
        coded += length if items else 0
        items += 1
    raise Rejection("truncated", "Pixel Data ends before its sequence does")
