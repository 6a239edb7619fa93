"""The SR's root says what IHE AI Results asks: docs/air-conformance.md names these tests."""

from __future__ import annotations

import io
from typing import Any

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from lungmesh.report.facts import from_event
from lungmesh.report.objects import DEVICE, MANUFACTURER
from lungmesh.report.segmentation import segmentation
from lungmesh.report.structured_report import structured_report
from tests.support.report import followup
from tests.unit.report.conftest import Exam


@pytest.fixture(scope="module")
def seg(exam: Exam) -> Dataset:
    return segmentation(exam.content, exam.masks, exam.headers)


@pytest.fixture(scope="module", params=["nodules", "none"])
def sr(exam: Exam, seg: Dataset, request: pytest.FixtureRequest) -> Dataset:
    if request.param == "nodules":
        made = structured_report(exam.content, seg, exam.headers)
    else:
        content = from_event(followup(exam.case, 0, prior=False), exam.headers)
        made = structured_report(content, None, exam.headers)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return dcmread(io.BytesIO(buffer.getvalue()))


def said(sr: Dataset, name: str) -> list[Dataset]:
    """Return the content items of the root by the meaning of their name."""
    return [
        item
        for item in sr.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning.lower() == name.lower()
    ]


def test_the_root_is_a_measurement_report(sr: Dataset) -> None:
    assert sr.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    title = sr.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("126000", "DCM")


def test_the_procedure_is_the_imaging_not_the_algorithm(sr: Dataset) -> None:
    (procedure,) = said(sr, "Procedure reported")
    assert procedure.ConceptCodeSequence[0].CodeValue == "169069000"


def test_language_and_observing_device_are_said(sr: Dataset) -> None:
    (language,) = said(sr, "Language of Content Item and Descendants")
    assert language.ConceptCodeSequence[0].CodeValue.startswith("en")
    (kind,) = said(sr, "Observer Type")
    assert kind.ConceptCodeSequence[0].CodeMeaning == "Device"
    for name, value in (
        ("Device Observer Manufacturer", MANUFACTURER),
        ("Device Observer Model Name", DEVICE),
    ):
        (item,) = said(sr, name)
        assert item.TextValue == value
    assert said(sr, "Device Observer UID")
    assert said(sr, "Device Observer Serial Number")


def test_every_analysed_slice_is_evidence(sr: Dataset, exam: Exam, seg: Dataset) -> None:
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == exam.headers[0].StudyInstanceUID
    named = {
        series.SeriesInstanceUID: {i.ReferencedSOPInstanceUID for i in series.ReferencedSOPSequence}
        for series in study.ReferencedSeriesSequence
    }
    slices = {header.SOPInstanceUID for header in exam.headers}
    assert named.pop(exam.headers[0].SeriesInstanceUID) == slices
    assert set(named) <= {seg.SeriesInstanceUID}


def test_nobody_has_verified_it(sr: Dataset) -> None:
    assert (sr.CompletionFlag, sr.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "VerifyingObserverSequence" not in sr


def test_every_finding_is_tracked_by_the_uid_of_its_segment(exam: Exam, seg: Dataset) -> None:
    made = structured_report(exam.content, seg, exam.headers)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    read: Any = hd.sr.srread(io.BytesIO(buffer.getvalue()))
    groups = read.content.get_volumetric_roi_measurement_groups()
    tracked = [(g.tracking_identifier, g.tracking_uid) for g in groups]
    assert tracked == [(s.TrackingID, s.TrackingUID) for s in seg.SegmentSequence]


def test_codes_of_our_own_are_identified(sr: Dataset) -> None:
    used = {
        str(element.value)
        for element in sr.iterall()
        if element.keyword == "CodingSchemeDesignator" and str(element.value).startswith("99")
    }
    assert used <= {i.CodingSchemeDesignator for i in sr.CodingSchemeIdentificationSequence}
