"""SEG and SR say what was found and refer to each other."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from lungmesh.mesh.arrays import read_array
from lungmesh.report import coding
from lungmesh.report.content import Content
from lungmesh.report.facts import from_event
from lungmesh.report.keyimages import Box
from lungmesh.report.segmentation import segmentation
from lungmesh.report.structured_report import structured_report
from tests.support.report import followup
from tests.support.report_course import corrected
from tests.unit.report.conftest import Exam


@pytest.fixture(scope="module")
def seg(exam: Exam) -> Dataset:
    return segmentation(exam.content, exam.masks, exam.headers)


@pytest.fixture(scope="module")
def sr(exam: Exam, seg: Dataset) -> Dataset:
    return structured_report(exam.content, seg, exam.headers)


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def voxels_of(
    dataset: Dataset, exam: Exam, segment: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Read a segment back onto the whole volume, [z, y, x]."""
    read = hd.seg.Segmentation.from_dataset(dcmread(io.BytesIO(encoded(dataset))))
    frames = read.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in exam.headers],
        segment_numbers=[segment],
        assert_missing_frames_are_empty=True,
    )
    return np.asarray(frames[..., 0], np.uint8)


def dates(dataset: Dataset) -> set[str]:
    """Return every date and date-time in an object, at any depth."""
    found = {str(e.value)[:8] for e in dataset.iterall() if e.VR in ("DA", "DT")}
    return found - {""}


def whole(box: Box, exam: Exam) -> npt.NDArray[np.uint8]:
    out = np.zeros(exam.grid.shape, np.uint8)
    x, y, z = box.offset
    d, h, w = box.voxels.shape
    out[z : z + d, y : y + h, x : x + w] = box.voxels > 0
    return out


def test_each_segment_is_the_nodules_mask_voxel_for_voxel(exam: Exam, seg: Dataset) -> None:
    for segment, nodule in enumerate(exam.content.nodules, 1):
        expected = whole(exam.masks[nodule.number], exam)
        np.testing.assert_array_equal(voxels_of(seg, exam, segment), expected)


def test_nodules_that_overlap_keep_all_their_voxels(exam: Exam) -> None:
    first = exam.masks[1]
    x, y, z = first.offset
    masks = {1: first, 2: Box(first.voxels, (x + 3, y, z + 1))}
    dataset = segmentation(exam.content, masks, exam.headers)
    for segment in (1, 2):
        expected = whole(masks[segment], exam)
        np.testing.assert_array_equal(voxels_of(dataset, exam, segment), expected)


def test_only_slices_that_a_nodule_touches_have_frames(exam: Exam, seg: Dataset) -> None:
    touched = sum(int(box.voxels.any(axis=(1, 2)).sum()) for box in exam.masks.values())
    assert int(seg.NumberOfFrames) == touched


def test_segments_name_nodule_place_algorithm_and_tracking(exam: Exam, seg: Dataset) -> None:
    nodule, item = exam.content.nodules[1], seg.SegmentSequence[1]
    assert item.SegmentLabel == "Nodule 2"
    assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "27925004"
    region = item.AnatomicRegionSequence[0]
    assert region.CodeMeaning == "Upper lobe of lung"
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Right"
    assert item.TrackingUID == nodule.ids["tracking_uid"]
    algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("log-bank", "1")


def test_the_report_measures_each_nodule_and_refers_to_its_segment(
    exam: Exam, sr: Dataset, seg: Dataset
) -> None:
    read: Any = hd.sr.srread(io.BytesIO(encoded(sr)))
    groups = read.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_uid for group in groups] == [
        nodule.ids["tracking_uid"] for nodule in exam.content.nodules
    ]
    for number, (group, nodule) in enumerate(zip(groups, exam.content.nodules, strict=True), 1):
        for name, value in (
            (codes.SCT.LongAxis, nodule.long_axis_mm),
            (codes.SCT.ShortAxis, nodule.short_axis_mm),
            (codes.SCT.Diameter, nodule.mean_diameter_mm),
            (codes.SCT.Volume, nodule.volume_mm3),
            (codes.DCM.AttenuationCoefficient, nodule.mean_hu),
        ):
            (measurement,) = group.get_measurements(name=name)
            assert measurement.value == value
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert list(segment.referenced_segment_numbers) == [number]
    evaluations = {e.name.meaning: e.value.meaning for e in groups[0].get_qualitative_evaluations()}
    assert evaluations["Lung-RADS v2022 category"] == "Lung-RADS v2022: 4B"
    assert evaluations["Nodule type"] == "Solid"
    assert evaluations["Spiculation"] == "Present"


def test_the_report_holds_the_change_since_the_most_recent_exam_and_the_review(
    exam: Exam,
) -> None:
    event = corrected(exam.case)
    content = from_event(event, exam.headers)
    masks = {
        nodule.number: Box(read_array(exam.case.blobs, nodule.mask.voxels), offset)
        for nodule in event.nodules
        for offset in [(nodule.mask.offset[0], nodule.mask.offset[1], nodule.mask.offset[2])]
    }
    made = structured_report(content, segmentation(content, masks, exam.headers), exam.headers)
    read: Any = hd.sr.srread(io.BytesIO(encoded(made)))
    groups = read.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 3
    said = [
        {(e.name.meaning, e.value.meaning) for e in group.get_qualitative_evaluations()}
        for group in groups
    ]
    name = coding.REVIEW.meaning
    assert {(name, "Confirmed by radiologist"), (name, "Changed by radiologist")} <= said[0]
    assert not any(item == name for item, _ in said[1])
    outcome = "Split off from a nodule of an earlier exam"
    assert (coding.MATCH_OUTCOME.meaning, outcome) in said[2]
    prior = content.nodules[2].priors[0]
    for code, value in (
        (coding.DAYS_SINCE_PRIOR, prior.interval_days),
        (coding.VOLUME_CHANGE, prior.volume_change_percent),
        (coding.DOUBLING_TIME, prior.volume_doubling_time_days),
        (coding.DOUBLING_TIME_LOW, prior.volume_doubling_time_low_days),
        (coding.GROWTH_PROBABILITY, 57.0),
    ):
        (measurement,) = groups[2].get_measurements(name=code)
        assert measurement.value == value
    # No change is a bound without a figure.
    assert groups[2].get_measurements(name=coding.DOUBLING_TIME_HIGH) == []


def test_an_exam_without_nodules_has_a_report_that_says_so(exam: Exam) -> None:
    content = from_event(followup(exam.case, 0, prior=False), exam.headers)
    dataset = structured_report(content, None, exam.headers)
    read: Any = hd.sr.srread(io.BytesIO(encoded(dataset)))
    (group,) = read.content.get_image_measurement_groups()
    meanings = [evaluation.value.meaning for evaluation in group.get_qualitative_evaluations()]
    assert meanings == ["No pulmonary nodule found", "Lung-RADS v2022: 1"]


def test_the_objects_bear_the_studys_date_and_the_same_uids_at_every_making(
    exam: Exam, sr: Dataset, seg: Dataset
) -> None:
    again = segmentation(exam.content, exam.masks, exam.headers)
    assert encoded(again) == encoded(seg)
    assert encoded(structured_report(exam.content, again, exam.headers)) == encoded(sr)
    for dataset in (sr, seg):
        assert (dataset.ContentDate, dataset.ContentTime) == ("20000101", "103000")
        assert dates(dataset) == {"20000101"}
        assert dataset.StudyInstanceUID == exam.content.ids["study_instance_uid"]


def test_another_revision_has_other_objects(exam: Exam, seg: Dataset) -> None:
    later: Content = replace(exam.content, ids={**exam.content.ids, "revision": 2})
    assert segmentation(later, exam.masks, exam.headers).SOPInstanceUID != seg.SOPInstanceUID
