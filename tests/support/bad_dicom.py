"""Kinds of bad DICOM, and the answer that each must get at each door.

The statuses are written out here, not taken from the code: this table is the specification.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread, read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE

from tests.support.ingest import AE_TITLE, ct_slice

ALL_DOORS = frozenset({"dicom", "stow", "grpc"})
# What DIMSE cannot carry: no data set, no file meta information, a syntax that is not negotiated.
FILE_DOORS = frozenset({"stow", "grpc"})
MAX_OBJECT_BYTES = 100_000


@dataclass(frozen=True)
class BadObject:
    """One kind.

    Attributes
    ----------
    file
        Gives the bytes of the DICOM file (or what claims to be one) for a study's word.
    code, status, http
        Code in quarantine, DIMSE status, and HTTP status of a request that holds it alone.
    earlier
        Gives good files that must have come before.
    doors
        Doors that can carry it.
    asked_study
        StudyInstanceUID in the path of a STOW-RS request; such a kind goes by no other door.
    """

    name: str
    file: Callable[[str], bytes]
    code: str
    status: int
    http: int
    earlier: Callable[[str], Sequence[bytes]] = field(default=lambda study: ())
    doors: frozenset[str] = ALL_DOORS
    asked_study: str = ""


def encoded(ds: Dataset, **meta: Any) -> bytes:
    """Return a data set as a DICOM file; `meta` changes the File Meta Information afterwards."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    if not meta:
        return buffer.getvalue()
    whole = dcmread(io.BytesIO(buffer.getvalue()))
    for keyword, value in meta.items():
        if value is None:
            delattr(whole.file_meta, keyword)
        else:
            setattr(whole.file_meta, keyword, value)
    again = io.BytesIO()
    again.write(b"\0" * 128 + b"DICM")
    # Not enforced: the point is to write it wrong.
    write_file_meta_info(again, whole.file_meta, enforce_standard=False)  # type: ignore[arg-type]
    return again.getvalue() + data_set(buffer.getvalue())


def data_set(file: bytes) -> bytes:
    """Return the data set of a DICOM file, without preamble and meta information."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


def changed(**changes: Any) -> Callable[[str], bytes]:
    """Return the maker of a CT slice with elements changed or (None) left out."""
    return lambda study: encoded(ct_slice(study, **changes))


def cut(share: float) -> Callable[[str], bytes]:
    """Return the maker of a slice whose data set ends after a share of its bytes."""

    def make(study: str) -> bytes:
        file = encoded(ct_slice(study))
        body = data_set(file)
        return file[: len(file) - len(body) + round(share * len(body))]

    return make


def with_body(body: bytes, syntax: UID = uid.ExplicitVRLittleEndian) -> Callable[[str], bytes]:
    """Return the maker of a file with right meta information over any bytes."""

    def make(study: str) -> bytes:
        file = encoded(ct_slice(study), TransferSyntaxUID=syntax)
        return file[: len(file) - len(data_set(file))] + body

    return make


def raw_element(keyword: str, value: bytes) -> Callable[[str], bytes]:
    """Return the maker of a slice in which one element's bytes are replaced, as they stand."""

    def make(study: str) -> bytes:
        file = encoded(ct_slice(study))
        body = data_set(file)
        tag = Tag(keyword)
        start = body.index(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little"))
        length = int.from_bytes(body[start + 6 : start + 8], "little")
        padded = value + b" " * (len(value) % 2)
        head = body[: start + 6] + len(padded).to_bytes(2, "little") + padded
        return file[: len(file) - len(body)] + head + body[start + 8 + length :]

    return make


def encapsulated(items: bytes, syntax: UID, ended: bool = True) -> Callable[[str], bytes]:
    """Return the maker of a slice with encoded Pixel Data: its items as they stand."""

    def make(study: str) -> bytes:
        body = data_set(encoded(ct_slice(study, PixelData=None)))
        head = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
        end = b"\xfe\xff\xdd\xe0\0\0\0\0" if ended else b""
        return with_body(body + head + items + end, syntax)(study)

    return make


def _native_in_encapsulated(study: str) -> bytes:
    return encoded(ct_slice(study), TransferSyntaxUID=uid.JPEG2000Lossless)


def _damaged_deflate(study: str) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    good = compressor.compress(data_set(encoded(ct_slice(study)))) + compressor.flush()
    damaged = b"\xff" * 8 + good[8:]
    return with_body(damaged, uid.DeflatedExplicitVRLittleEndian)(study)


def _short_deflate(study: str) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    good = compressor.compress(data_set(encoded(ct_slice(study)))) + compressor.flush()
    return with_body(good[: len(good) // 2], uid.DeflatedExplicitVRLittleEndian)(study)


def _other_meta(keyword: str, value: str) -> Callable[[str], bytes]:
    return lambda study: encoded(ct_slice(study), **{keyword: value})


def _good(study: str) -> list[bytes]:
    return [encoded(ct_slice(study, 9))]


BAD_DICOM: tuple[BadObject, ...] = (
    # Not DICOM, or not to its end.
    BadObject(
        "text", lambda s: b"no DICOM at all, " * 40, "not_dicom", 0xC001, 400, doors=FILE_DOORS
    ),
    BadObject("nothing", lambda s: b"", "empty", 0xC002, 400, doors=FILE_DOORS),
    BadObject("no_data_set", with_body(b""), "empty", 0xC002, 400, doors=FILE_DOORS),
    BadObject(
        "meta_without_syntax",
        lambda s: encoded(ct_slice(s), TransferSyntaxUID=None),
        "missing_transfer_syntax",
        0xC006,
        400,
        doors=FILE_DOORS,
    ),
    BadObject("noise", with_body(b"\x08\x00\x05\x00" + b"\xff" * 500), "truncated", 0xC004, 400),
    BadObject("cut_in_header", cut(0.1), "truncated", 0xC004, 400),
    BadObject("cut_in_pixels", cut(0.9), "truncated", 0xC004, 400),
    BadObject("damaged_deflate", _damaged_deflate, "corrupt_deflate", 0xC005, 400),
    BadObject("short_deflate", _short_deflate, "truncated", 0xC004, 400),
    BadObject(
        "baseline_jpeg",
        encapsulated(encapsulate([b"\xff\xd8" + b"\0" * 62]), uid.JPEGBaseline8Bit),
        "unsupported_transfer_syntax",
        0xC122,
        409,
        doors=FILE_DOORS,
    ),
    # Identifiers.
    BadObject("no_study_uid", changed(StudyInstanceUID=None), "missing_uid", 0xA903, 409),
    BadObject("no_series_uid", changed(SeriesInstanceUID=None), "missing_uid", 0xA903, 409),
    BadObject("no_instance_uid", raw_element("SOPInstanceUID", b""), "missing_uid", 0xA903, 409),
    BadObject(
        "letters_in_uid", raw_element("StudyInstanceUID", b"1.2.abc"), "invalid_uid", 0xA904, 409
    ),
    BadObject(
        "long_uid", raw_element("SeriesInstanceUID", b"1." + b"2" * 70), "invalid_uid", 0xA904, 409
    ),
    BadObject(
        "two_instance_uids",
        _other_meta("MediaStorageSOPInstanceUID", "1.2.3.4.5"),
        "sop_instance_mismatch",
        0xA902,
        409,
    ),
    BadObject(
        "two_sop_classes",
        _other_meta("MediaStorageSOPClassUID", uid.MRImageStorage),
        "sop_class_mismatch",
        0xA901,
        409,
    ),
    # Another kind of image.
    BadObject(
        "mr_image",
        changed(SOPClassUID=uid.MRImageStorage, Modality="MR"),
        "wrong_sop_class",
        0x0122,
        409,
    ),
    BadObject(
        "enhanced_ct",
        changed(SOPClassUID=uid.EnhancedCTImageStorage),
        "wrong_sop_class",
        0x0122,
        409,
    ),
    BadObject("ct_says_mr", changed(Modality="MR"), "wrong_modality", 0xA905, 409),
    # Pixels.
    BadObject("no_pixel_data", changed(PixelData=None), "missing_pixel_data", 0xA906, 409),
    BadObject(
        "no_fragments",
        # An offset table without entries, and nothing more.
        encapsulated(b"\xfe\xff\x00\xe0" + b"\0" * 4, uid.RLELossless),
        "missing_pixel_data",
        0xA906,
        409,
    ),
    BadObject(
        "no_fragments_but_noise",
        encapsulated(b"\xff" * 64, uid.RLELossless),
        "unreadable",
        0xC003,
        400,
    ),
    BadObject(
        "unended_fragments",
        encapsulated(encapsulate([b"\0" * 64]), uid.RLELossless, ended=False),
        "truncated",
        0xC004,
        400,
    ),
    BadObject("no_rows", changed(Rows=None), "missing_image_size", 0xA907, 409),
    BadObject("zero_columns", changed(Columns=0), "missing_image_size", 0xA907, 409),
    BadObject("colour", changed(SamplesPerPixel=3), "unsupported_pixel_format", 0xA908, 409),
    BadObject("float_pixels", changed(BitsAllocated=32), "unsupported_pixel_format", 0xA908, 409),
    BadObject("too_few_pixels", changed(PixelData=b"\0" * 64), "pixel_data_mismatch", 0xA90C, 409),
    BadObject("plain_in_jpeg2000", _native_in_encapsulated, "pixel_data_mismatch", 0xA90C, 409),
    # Geometry and values.
    BadObject("no_position", changed(ImagePositionPatient=None), "missing_geometry", 0xA909, 409),
    BadObject(
        "no_orientation", changed(ImageOrientationPatient=None), "missing_geometry", 0xA909, 409
    ),
    BadObject("no_spacing", changed(PixelSpacing=None), "missing_geometry", 0xA909, 409),
    BadObject(
        "position_in_words",
        raw_element("ImagePositionPatient", b"left\\back\\up"),
        "invalid_geometry",
        0xA90A,
        409,
    ),
    BadObject(
        "skewed_axes",
        changed(ImageOrientationPatient=[1, 0, 0, 0.7, 0.714, 0]),
        "invalid_geometry",
        0xA90A,
        409,
    ),
    BadObject("zero_spacing", changed(PixelSpacing=[0, 1]), "invalid_geometry", 0xA90A, 409),
    BadObject("no_rescale", changed(RescaleSlope=None), "missing_rescale", 0xA90B, 409),
    # Against what is there already, and limits.
    BadObject(
        "another_patient",
        changed(PatientID="SOMEBODY-ELSE"),
        "mixed_patients",
        0xC010,
        409,
        earlier=_good,
    ),
    BadObject(
        "same_uid_other_pixels",
        lambda s: encoded(ct_slice(s, 9, PixelData=b"\1" * 2048)),
        "conflicting_instance",
        0xC011,
        409,
        earlier=_good,
    ),
    BadObject(
        "oversized",
        changed(Rows=256, Columns=256, PixelData=b"\0" * 131072),
        "oversized",
        0xA701,
        413,
    ),
    BadObject(
        "study_of_another_path",
        changed(),
        "wrong_study",
        0xC012,
        409,
        doors=frozenset({"stow"}),
        asked_study="1.2.3.4",
    ),
)


class Sender:
    """A DICOM sender of files as they stand: it parses and mends nothing."""

    def __init__(self, port: int, files: Sequence[bytes], ae_title: str = AE_TITLE) -> None:
        wanted = {self._meta(file)[:2] for file in files}
        contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]
        ae = AE("TESTS")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        self.association = ae.associate("127.0.0.1", port, contexts, ae_title)
        # A sender serves no requests: pynetdicom's own thread must not take our answers.
        self._take = self.association.dimse.get_msg
        self.association.dimse.get_msg = lambda block=False: (None, None)  # type: ignore[method-assign]

    @staticmethod
    def _meta(file: bytes) -> tuple[str, str, str]:
        length = len(file) - len(data_set(file))
        meta = read_dataset(io.BytesIO(file[132:length]), False, True)
        return (
            str(meta.MediaStorageSOPClassUID),
            str(meta.TransferSyntaxUID),
            str(meta.MediaStorageSOPInstanceUID),
        )

    def send(self, file: bytes) -> Dataset:
        """Send a file's data set as it stands; return the status."""
        sop_class, syntax, instance = self._meta(file)
        [context_id] = [
            one.context_id
            for one in self.association.accepted_contexts
            if one.abstract_syntax == sop_class and one.transfer_syntax[0] == syntax
        ]
        assert context_id is not None
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = sop_class
        request.AffectedSOPInstanceUID = instance
        request.Priority = 2
        request.DataSet = io.BytesIO(data_set(file))
        self.association.dimse.send_msg(request, context_id)
        _, response = self._take(block=True)
        assert isinstance(response, C_STORE), "the association ended without an answer"
        status = Dataset()
        status.Status = response.Status
        status.ErrorComment = response.ErrorComment or ""
        return status

    def release(self) -> None:
        """Release the association."""
        self.association.release()

    def abort(self) -> None:
        """Abort it."""
        self.association.abort()
