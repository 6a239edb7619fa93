"""A DICOM file as bytes: which elements it has and where its Pixel Data lies (PS3.10, PS3.5).

Values are looked at as they are encoded. That is quick, and nothing a sender wrote can make it
fail: an element that is no number or UID simply has no such value.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from lungmesh.ingest.refusals import Rejection

_PREAMBLE = 132
_PIXEL_DATA = 0x7FE00010
UNDEFINED_LENGTH = 0xFFFFFFFF
# DICOM files of this inflated size are no single images.
_MAX_INFLATED = 1 << 30
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")

KEYWORDS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyDate", "Modality"),
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "StudyInstanceUID", "SeriesInstanceUID", "NumberOfFrames", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SamplesPerPixel"),
    *("BitsAllocated", "RescaleIntercept", "RescaleSlope"),
)
_META = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
_TAG: dict[str, BaseTag] = {
    keyword: Tag(tag) for keyword in (*KEYWORDS, *_META) if (tag := tag_for_keyword(keyword))
}
_READ: list[BaseTag | int] = [_TAG[keyword] for keyword in KEYWORDS]


@dataclass
class Body:
    """A data set.

    Attributes
    ----------
    dataset
        The elements of `KEYWORDS`.
    data
        The bytes it was read from; inflated where it was deflated.
    pixels_at, pixels_length
        Where the value of Pixel Data begins in `data` (-1 when there is none), and its length.
    whole
        False when the bytes end inside an element.
    """

    dataset: Dataset
    data: bytes
    pixels_at: int
    pixels_length: int
    whole: bool


class _Reader(io.BytesIO):
    """Notes a read that met the end before it had what it wanted."""

    short = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and size > len(data) and data:
            self.short = True
        return data


def read_meta(file: bytes) -> tuple[Dataset, int]:
    """Return the File Meta Information and where the data set begins.

    Raises Rejection when the bytes are no DICOM file.
    """
    if not file:
        raise Rejection("empty", "The object has no bytes")
    if file[128:_PREAMBLE] != b"DICM":
        raise Rejection("not_dicom", "The object has no DICOM prefix after 128 bytes")
    reader = _Reader(file)
    reader.seek(_PREAMBLE)
    try:
        meta = read_dataset(reader, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    except Exception as error:
        raise Rejection("unreadable", "The file meta information cannot be read") from error
    return meta, reader.tell()


def read_body(file: bytes, start: int, syntax: UID) -> Body:
    """Read the data set that begins at `start`.

    Raises Rejection when it cannot be parsed.
    """
    if start >= len(file):
        raise Rejection("empty", "The object has no data set")
    data = file
    if syntax == DeflatedExplicitVRLittleEndian:
        data, start = _inflate(file[start:]), 0
    reader = _Reader(data)
    reader.seek(start)
    body = Body(Dataset(), data, -1, 0, True)

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag < _PIXEL_DATA:
            return False
        if tag == _PIXEL_DATA:
            body.pixels_at, body.pixels_length = reader.tell(), length
        return True

    implicit = syntax == ImplicitVRLittleEndian
    try:
        body.dataset = read_dataset(
            reader, implicit, True, stop_when=at_pixels, specific_tags=_READ
        )
    # Whatever a data set's bytes do to the parser, the fault is in the bytes.
    except Exception as error:
        raise Rejection("unreadable", "The data set cannot be parsed") from error
    body.whole = body.pixels_at >= 0 or not (reader.short or reader.tell() > len(data))
    return body


def _inflate(data: bytes) -> bytes:
    """Inflate a whole data set (PS3.5 A.5: raw deflate, no header)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error as error:
        raise Rejection("corrupt_deflate", "The deflated data set is damaged") from error
    if inflater.unconsumed_tail:
        raise Rejection("oversized", "The inflated data set is larger than 1 GiB")
    if not inflater.eof:
        raise Rejection("truncated", "The deflated data set ends too early")
    return inflated


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text in its character set, empty when absent or unreadable."""
    try:
        return str(dataset.get(keyword) or "").strip()
    except Exception:
        return ""


def words(dataset: Dataset, keyword: str) -> list[str]:
    """Return an element's values as ASCII text, without outer spaces; empty when absent."""
    value = getattr(dataset.get_item(_TAG[keyword]), "value", None)
    if not isinstance(value, bytes):
        return []
    stripped = value.decode("latin-1").strip("\0 ")
    return [word.strip("\0 ") for word in stripped.split("\\")] if stripped else []


def word(dataset: Dataset, keyword: str) -> str:
    """Return an element's first value as ASCII text."""
    return next(iter(words(dataset, keyword)), "")


def uid(value: str) -> str:
    """Return the value when it is a UID (PS3.5 9.1), else nothing."""
    return value if len(value) <= 64 and _UID.fullmatch(value) else ""


def numbers(dataset: Dataset, keyword: str) -> list[float] | None:
    """Return a DS or IS element's numbers; None when one of them is none."""
    try:
        found = [float(item) for item in words(dataset, keyword)]
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


def short(dataset: Dataset, keyword: str) -> int | None:
    """Return a US element's number, None when it is absent or not one number."""
    value = getattr(dataset.get_item(_TAG[keyword]), "value", None)
    if not isinstance(value, bytes) or len(value) != 2:
        return None
    return int.from_bytes(value, "little")


def check_fragments(data: bytes, start: int) -> None:
    """Walk the items of encapsulated Pixel Data (PS3.5 A.4): offset table, then fragments.

    Raises Rejection when they hold nothing or do not end.
    """
    place, items, coded = start, 0, 0
    while place + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHL", data, place)
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
