"""The received objects for DICOMweb: technical headers under the pseudonym, and pixel data.

Identity stays in ingest: an object leaves with a list of attributes and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.multival import MultiValue
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from lungmesh.mesh.blobs import BlobStore
from lungmesh.v1.study_pb2 import (
    BlobRef,
    ManifestInstance,
    ManifestSeries,
    StudyManifest,
    StudyReceived,
)

_KEPT = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("StudyDate", "StudyTime", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"),
    *("FrameOfReferenceUID", "ImageType", "SeriesNumber", "AcquisitionNumber", "InstanceNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PatientPosition", "SliceLocation"),
    *("PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "PixelAspectRatio", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "SmallestImagePixelValue", "LargestImagePixelValue"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"),
    *("RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction", "LossyImageCompression"),
    *("LossyImageCompressionRatio", "LossyImageCompressionMethod", "KVP", "ConvolutionKernel"),
    *("GantryDetectorTilt", "Manufacturer", "ManufacturerModelName", "BodyPartExamined"),
)
_KEPT_TAGS = [Tag(keyword) for keyword in _KEPT]
_PIXEL_TAGS = [*_KEPT_TAGS, Tag("PixelData")]
_MEDIA = {
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    RLELossless: "image/dicom-rle",
}
# Pixel data of these is what Explicit VR Little Endian has.
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_OCTETS = "application/octet-stream"
# Media type of what `dicom_json` makes.
DICOM_JSON = "application/dicom+json"


class NoFrame(Exception):
    """The object has no such frame."""


@dataclass(frozen=True)
class Frame:
    """Pixel data of one frame, with the media type and transfer syntax of its bytes."""

    data: bytes
    media_type: str
    transfer_syntax: str


class StudyFiles:
    """The received objects of one revision of a study."""

    def __init__(self, blobs: BlobStore, received: StudyReceived) -> None:
        self._blobs, self._received = blobs, received
        self._manifest = _manifest(blobs, received.manifest.key, received.manifest.sha256)

    @property
    def study_instance_uid(self) -> str:
        """Its DICOM UID."""
        return self._received.study_instance_uid

    @property
    def study_id(self) -> str:
        """The mesh's id of it."""
        return self._received.study.study_id

    @property
    def manifest_sha256(self) -> str:
        """What tells this revision's objects from another's."""
        return self._received.manifest.sha256

    @property
    def series(self) -> Sequence[ManifestSeries]:
        """Its series, as received."""
        return self._manifest.series

    def instances(self, series_uid: str = "", sop_uid: str = "") -> list[ManifestInstance]:
        """Return the instances of a series, or of all; empty when there is none."""
        return [
            instance
            for series in self._manifest.series
            if series_uid in ("", series.series_instance_uid)
            for instance in series.instances
            if sop_uid in ("", instance.sop_instance_uid)
        ]

    def headers(self, instances: Sequence[ManifestInstance]) -> Iterator[Dataset]:
        """Yield the headers of instances, without identity and pixel data."""
        for instance in instances:
            header = self._read(instance, _KEPT_TAGS)
            header.AvailableTransferSyntaxUID = instance.transfer_syntax_uid
            yield header

    def frame(self, instance: ManifestInstance, number: int, accepted: Collection[str]) -> Frame:
        """Return a frame in its own transfer syntax when that is accepted, else decoded.

        Parameters
        ----------
        number
            1 is the first frame.
        accepted
            Transfer syntaxes that are taken; `*` stands for any.

        Raises NoFrame.
        """
        dataset = self._read(instance, _PIXEL_TAGS)
        count = int(dataset.get("NumberOfFrames") or 1)
        if not 1 <= number <= count or "PixelData" not in dataset:
            raise NoFrame
        syntax = UID(instance.transfer_syntax_uid)
        if syntax in _PLAIN:
            size = len(dataset.PixelData) // count
            data = dataset.PixelData[(number - 1) * size : number * size]
            return Frame(data, _OCTETS, ExplicitVRLittleEndian)
        if syntax != ExplicitVRBigEndian and ("*" in accepted or syntax in accepted):
            data = get_frame(dataset.PixelData, number - 1, number_of_frames=count)
            return Frame(data, _MEDIA.get(syntax, "image/jpeg"), syntax)
        pixels = pixel_array(dataset, index=number - 1, raw=True)
        little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
        return Frame(np.ascontiguousarray(little).tobytes(), _OCTETS, ExplicitVRLittleEndian)

    def instance(self, instance: ManifestInstance) -> bytes:
        """Return an object as a DICOM file: the header without identity, the pixel data as is."""
        dataset = self._read(instance, _PIXEL_TAGS)
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        return buffer.getvalue()

    def _read(self, instance: ManifestInstance, tags: list[BaseTag]) -> Dataset:
        file = io.BytesIO(self._blobs.get(instance.file))
        whole = pydicom.dcmread(
            file,
            force=True,
            specific_tags=[*tags],
            stop_before_pixels=tags is _KEPT_TAGS,
        )
        # Only the list: pydicom adds the character set, and a tag may lie in a private block.
        kept = Dataset()
        for tag in tags:
            if tag in whole:
                kept[tag] = whole[tag]
        kept.PatientID = self._received.study.patient
        kept.PatientName = kept.PatientBirthDate = kept.PatientSex = ""
        kept.PatientIdentityRemoved = "YES"
        kept.DeidentificationMethod = "LungMesh pseudonym"
        kept.file_meta = FileMetaDataset()
        kept.file_meta.TransferSyntaxUID = UID(instance.transfer_syntax_uid)
        return kept


@lru_cache(maxsize=64)
def _manifest(blobs: BlobStore, key: str, sha256: str) -> StudyManifest:
    return StudyManifest.FromString(blobs.get(BlobRef(key=key, sha256=sha256)))


def study_answer(files: StudyFiles, patient: str) -> Dataset:
    """Return the QIDO-RS attributes of a study (PS3.18 table 10.6.3-3), by the pseudonym."""
    first = next(iter(files.headers(files.instances()[:1])), Dataset())
    answer = Dataset()
    for keyword in ("StudyDate", "StudyTime"):
        setattr(answer, keyword, first.get(keyword, ""))
    answer.StudyInstanceUID = files.study_instance_uid
    answer.PatientID, answer.PatientName = patient, ""
    answer.ModalitiesInStudy = sorted({series.modality for series in files.series})
    answer.NumberOfStudyRelatedSeries = len(files.series)
    answer.NumberOfStudyRelatedInstances = len(files.instances())
    return answer


def series_answer(files: StudyFiles, series: ManifestSeries) -> Dataset:
    """Return the QIDO-RS attributes of a series (PS3.18 table 10.6.3-4)."""
    first = next(iter(files.headers(series.instances[:1])), Dataset())
    answer = Dataset()
    answer.Modality = series.modality
    answer.StudyInstanceUID = files.study_instance_uid
    answer.SeriesInstanceUID = series.series_instance_uid
    answer.SeriesNumber = first.get("SeriesNumber")
    answer.NumberOfSeriesRelatedInstances = len(series.instances)
    return answer


def dicom_json(datasets: Iterable[Dataset]) -> list[dict[str, object]]:
    """Return data sets as DICOM JSON (PS3.18 Annex F); values that JSON cannot hold drop.

    The slices of a series have most of their values in common, and each value is translated once.
    """
    known: dict[Hashable, dict[str, object]] = {}
    made = []
    for dataset in datasets:
        text = dataset.get_item("SpecificCharacterSet")
        one: dict[str, object] = {}
        for tag in dataset.keys():  # noqa: SIM118 - iterating itself translates every value
            raw = dataset.get_item(tag)
            if not isinstance(raw, RawDataElement):
                one |= _json_of(dataset[tag])
                continue
            key = (tag, raw.VR, raw.value, text.value if text is not None else None)
            if key not in known:
                known[key] = _json_of(dataset[tag])
            one |= known[key]
        made.append(one)
    return made


def _json_of(element: DataElement) -> dict[str, object]:
    if isinstance(element.value, MultiValue) and None in element.value:
        return {}
    try:
        return {f"{element.tag:08X}": element.to_json_dict(None, 0)}
    except (TypeError, ValueError, OverflowError):
        return {}
