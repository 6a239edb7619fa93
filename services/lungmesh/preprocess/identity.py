"""Slice headers that may travel: a list of what is kept, so that nothing else can leak."""

from __future__ import annotations

from copy import copy

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

# What objects that reference the slices (SEG, SR) need: UIDs, dates, geometry, technique. No
# names, no numbers of the patient, no free text, no private tags.
KEPT = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("FrameOfReferenceUID", "Modality", "ImageType"),
    *("StudyDate", "StudyTime", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"),
    *("ContentDate", "ContentTime", "SeriesNumber", "AcquisitionNumber", "InstanceNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PatientPosition", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "Rows", "Columns", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "KVP", "ConvolutionKernel"),
    *("Manufacturer", "ManufacturerModelName", "BodyPartExamined"),
)
# Required by PS3.3 C.7.1.1 and C.7.2.1 with a value that may be empty; here it always is.
EMPTIED = (
    *("PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "ReferringPhysicianName"),
)


def without_identity(header: Dataset, pseudonym: str) -> Dataset:
    """Return a slice's header with only what is kept, PatientID being the pseudonym."""
    kept = Dataset()
    for keyword in KEPT:
        if keyword in header:
            # A copy: a header moved to a missing slice's place must not move its neighbour.
            kept[keyword] = copy(header[keyword])
    for keyword in EMPTIED:
        setattr(kept, keyword, "")
    # Type 2 of the study module: there, if empty.
    for keyword in ("StudyDate", "StudyTime"):
        if keyword not in kept:
            setattr(kept, keyword, "")
    kept.PatientID = pseudonym
    kept.PatientIdentityRemoved = "YES"
    kept.DeidentificationMethod = "LungMesh pseudonym"
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return kept
