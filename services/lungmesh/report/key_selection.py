"""DICOM Key Object Selection: slices of the sizes and key images (PS3.3 A.35.4, TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from lungmesh.report.content import Content, Nodule
from lungmesh.report.objects import (
    KO_SERIES_NUMBER,
    finish,
    identity,
    made_by_us,
    series_description,
    study_datetime,
)
from lungmesh.report.structured_report import observer


def key_selection(
    content: Content,
    shown: Sequence[Nodule],
    pictures: Sequence[Dataset],
    headers: Sequence[Dataset],
) -> Dataset:
    """Return the document.

    Parameters
    ----------
    shown
        The nodules that have key images, at least one.
    pictures
        Their key images.
    headers
        The source slices' headers.
    """
    wanted = {nodule.ids["slice_sop_instance_uid"] for nodule in shown}
    # By UID: two nodules may share a slice, and a header may stand for a missing one again.
    slices = {h.SOPInstanceUID: h for h in headers if h.SOPInstanceUID in wanted}
    selected = [*slices.values(), *pictures]
    made_by = made_by_us(identity(content, "selection"))
    dataset = KeyObjectSelectionDocument(
        evidence=selected,
        content=KeyObjectSelection(
            document_title=codes.DCM.OfInterest,
            referenced_objects=selected,
            observer_device_context=observer(),
            description="Slices that the nodules were measured on, and their key images",
        ),
        series_number=KO_SERIES_NUMBER,
        series_description=series_description(content, "LungMesh key objects"),
        **made_by,
    )
    finish(dataset, content, study_datetime(headers[0]))
    return dataset
