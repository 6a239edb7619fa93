"""DICOM Encapsulated PDF: the report as a document of the study (PS3.3 A.45.1)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from lungmesh.report import coding
from lungmesh.report.content import Content
from lungmesh.report.objects import (
    PDF_SERIES_NUMBER,
    edition_before,
    identity,
    reference,
    shell,
    study_datetime,
)


def encapsulated_pdf(content: Content, pdf: bytes, sr: Dataset, source: Dataset) -> Dataset:
    """Return the document.

    Parameters
    ----------
    sr
        The SR that says the same.
    source
        The header of a source slice.
    """
    dataset = shell(
        EncapsulatedPDFStorage,
        identity(content, "pdf"),
        content,
        source,
        modality="DOC",
        series_number=PDF_SERIES_NUMBER,
        description="LungMesh report",
    )
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = study_datetime(source).strftime("%Y%m%d%H%M%S")
    # The pages bear the patient's pseudonym.
    dataset.BurnedInAnnotation = "YES"
    dataset.SourceInstanceSequence = [reference(sr)]
    dataset.DocumentTitle = dataset.SeriesDescription
    dataset.ConceptNameCodeSequence = [coding.concept(coding.IMAGING_REPORT)]
    dataset.VerificationFlag = "UNVERIFIED"
    replaced = edition_before(content, "pdf", EncapsulatedPDFStorage, source)
    if replaced is not None:
        dataset.PredecessorDocumentsSequence = [_in_study(replaced)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf
    return dataset


def _in_study(instance: Dataset) -> Dataset:
    """Return a reference by study and series (PS3.3 table C.17-3)."""
    series = Dataset()
    series.SeriesInstanceUID = instance.SeriesInstanceUID
    series.ReferencedSOPSequence = [reference(instance)]
    study = Dataset()
    study.StudyInstanceUID = instance.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
