"""DICOM RT Structure Set: contours of the chosen lesions for planning (PS3.3 A.19)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage
from pydicom.valuerep import format_number_as_ds

from lungmesh.report import coding
from lungmesh.report.content import Content, Nodule
from lungmesh.report.keyimages import Box
from lungmesh.report.objects import (
    RTSTRUCT_SERIES_NUMBER,
    identity,
    reference,
    shell,
    study_datetime,
)
from lungmesh.report.outlines import outlines, own_slices, to_lps
from lungmesh.report.wording import nodule_name

# Detached Study Management: retired, but no other SOP class names a study, and the type is 1.
_STUDY = "1.2.840.10008.3.1.2.3.1"
_COLOUR = [255, 214, 10]


def chosen(content: Content) -> list[Nodule]:
    """Return the lesions that a radiologist confirmed."""
    return [n for n in content.nodules if n.review and n.review.status == "confirmed"]


def structure_set(
    content: Content, masks: Mapping[int, Box], headers: Sequence[Dataset]
) -> Dataset | None:
    """Return the structure set of the chosen lesions; None where none is chosen.

    Holes in a mask (a cavity, a vessel) belong to the lesion.

    Parameters
    ----------
    masks
        Each nodule's mask by its number: uint8 [z, y, x], the nodule where it is not 0.
    headers
        The source slices' headers in z order.
    """
    lesions = chosen(content)
    if not lesions:
        return None
    own = own_slices(headers)
    when = study_datetime(headers[0])
    dataset = shell(
        RTStructureSetStorage,
        identity(content, "rtstruct"),
        content,
        headers[0],
        modality="RTSTRUCT",
        series_number=RTSTRUCT_SERIES_NUMBER,
        description="LungMesh lesions",
    )
    # The structure set's own date stands in their place (PS3.3 C.8.8.5).
    del dataset.ContentDate, dataset.ContentTime
    dataset.OperatorsName = ""
    dataset.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = ""
    dataset.StructureSetLabel = "LUNGMESH"
    dataset.StructureSetName = dataset.SeriesDescription
    dataset.StructureSetDescription = "Lesions that a radiologist confirmed; outlined by software"
    dataset.StructureSetDate = when.strftime("%Y%m%d")
    dataset.StructureSetTime = when.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(list(own.values()))]
    dataset.StructureSetROISequence = [_roi(n, dataset.FrameOfReferenceUID) for n in lesions]
    dataset.ROIContourSequence = [_contours(n, masks[n.number], headers, own) for n in lesions]
    dataset.RTROIObservationsSequence = [_observation(n) for n in lesions]
    return dataset


def _frame_of_reference(slices: Sequence[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ContourImageSequence = [reference(header) for header in slices]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY
    study.ReferencedSOPInstanceUID = slices[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(nodule: Nodule, frame_of_reference: str) -> Dataset:
    item = Dataset()
    item.ROINumber = nodule.number
    item.ReferencedFrameOfReferenceUID = frame_of_reference
    item.ROIName = f"LungMesh {nodule.number}"
    item.ROIDescription = nodule_name(nodule).en
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = f"{nodule.detector.name} {nodule.detector.version}"[:64]
    return item


def _contours(
    nodule: Nodule, mask: Box, headers: Sequence[Dataset], own: Mapping[int, Dataset]
) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = nodule.number
    item.ROIDisplayColor = _COLOUR
    item.ContourSequence = list(_planes(mask, headers, own))
    return item


def _planes(mask: Box, headers: Sequence[Dataset], own: Mapping[int, Dataset]) -> Iterator[Dataset]:
    for z, lines in outlines(mask, filled=True):
        for line in lines:
            # Closed without repeating the first point (PS3.3 C.8.8.6.1).
            places = to_lps(line[:-1], headers[z])
            contour = Dataset()
            if z in own:
                contour.ContourImageSequence = [reference(own[z])]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(places)
            contour.ContourData = [format_number_as_ds(round(v, 4)) for v in places.ravel()]
            yield contour


def _observation(nodule: Nodule) -> Dataset:
    item = Dataset()
    item.ObservationNumber = nodule.number
    item.ReferencedROINumber = nodule.number
    item.ROIObservationLabel = f"Nodule {nodule.number}"[:16]
    item.RTROIIdentificationCodeSequence = [coding.concept(coding.NODULE)]
    # A target volume is for the radiation oncologist to name.
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    return item
