"""Presentation state, key images, document and structure set say what the report says."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from lungmesh.report.content import Content, Review
from lungmesh.report.encapsulated_pdf import encapsulated_pdf
from lungmesh.report.key_selection import key_selection
from lungmesh.report.keyimages import Box, box_around, key_images
from lungmesh.report.outlines import outlines, to_lps
from lungmesh.report.presentation_state import presentation_states
from lungmesh.report.radiotherapy import structure_set
from lungmesh.report.secondary_capture import key_image
from lungmesh.report.segmentation import segmentation, solid_parts
from lungmesh.report.structured_report import structured_report
from tests.unit.report.conftest import Exam

PDF = b"%PDF-1.4 an odd number of bytes\n%%EOF"


def read(dataset: Dataset) -> Dataset:
    """Return an object as another reads it from a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return dcmread(io.BytesIO(buffer.getvalue()))


def confirmed(content: Content, *numbers: int) -> Content:
    review = Review(status="confirmed", kinds=("confirm",), measured_by_hand=())
    return replace(
        content,
        nodules=tuple(
            replace(n, review=review) if n.number in numbers else n for n in content.nodules
        ),
    )


def edition(content: Content, number: int) -> Content:
    return replace(content, ids={**content.ids, "edition": number})


@pytest.fixture(scope="module")
def pictures(exam: Exam) -> dict[str, bytes]:
    nodule = exam.content.nodules[0]
    z, y, x = box_around(nodule, exam.grid)
    shape = (z.stop - z.start, y.stop - y.start, x.stop - x.start)
    around = Box(np.full(shape, -850, np.int16), (x.start, y.start, z.start))
    return dict(key_images(nodule, around, exam.masks[1], exam.grid))


@pytest.fixture(scope="module")
def state(exam: Exam) -> Dataset:
    (made,) = presentation_states(exam.content, exam.masks, exam.headers)
    return read(made)


@pytest.fixture(scope="module")
def structures(exam: Exam) -> Dataset:
    made = structure_set(confirmed(exam.content, 1), exam.masks, exam.headers)
    assert made is not None
    return read(made)


def test_the_state_shows_the_series_in_the_lung_window(exam: Exam, state: Dataset) -> None:
    (series,) = state.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == exam.headers[0].SeriesInstanceUID
    shown = [item.ReferencedSOPInstanceUID for item in series.ReferencedImageSequence]
    assert sorted(shown) == sorted(header.SOPInstanceUID for header in exam.headers)
    (window,) = state.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (-600, 1500)


def test_each_slice_of_a_nodule_has_its_outline_and_number(exam: Exam, state: Dataset) -> None:
    places = {header.SOPInstanceUID: z for z, header in enumerate(exam.headers)}
    seen: dict[str, set[int]] = {}
    for item in state.GraphicAnnotationSequence:
        if item.GraphicLayer != "NODULES":
            continue
        (image,) = item.ReferencedImageSequence
        (number,) = item.TextObjectSequence
        z = places[image.ReferencedSOPInstanceUID]
        seen.setdefault(number.UnformattedTextValue, set()).add(z)
        expected = dict(outlines(exam.masks[int(number.UnformattedTextValue)]))[z]
        drawn = [np.reshape(shape.GraphicData, (-1, 2)) for shape in item.GraphicObjectSequence]
        assert len(drawn) == len(expected)
        for shape, line in zip(drawn, expected, strict=True):
            np.testing.assert_allclose(shape, line)
    for nodule in exam.content.nodules:
        assert seen[str(nodule.number)] == {z for z, _ in outlines(exam.masks[nodule.number])}


def test_the_axes_lie_on_the_slice_that_they_were_measured_on(exam: Exam, state: Dataset) -> None:
    by_uid = {n.ids["tracking_uid"]: n for n in exam.content.nodules}
    headers = {header.SOPInstanceUID: header for header in exam.headers}
    axes = [item for item in state.GraphicAnnotationSequence if item.GraphicLayer == "AXES"]
    assert len(axes) == len(by_uid)
    for item in axes:
        uid = item.ReferencedImageSequence[0].ReferencedSOPInstanceUID
        long_axis, short_axis = item.GraphicObjectSequence
        nodule = by_uid[long_axis.TrackingUID]
        assert uid == nodule.ids["slice_sop_instance_uid"]
        for line, ends in (
            (long_axis, nodule.long_axis_lps_mm),
            (short_axis, nodule.short_axis_lps_mm),
        ):
            places = to_lps(np.reshape(line.GraphicData, (2, 2)), headers[uid])
            expected = np.reshape(ends, (2, 3))
            # Graphic data are 32-bit.
            np.testing.assert_allclose(places[:, :2], expected[:, :2], atol=1e-3)


def test_slices_rescaled_otherwise_get_a_state_of_their_own(exam: Exam) -> None:
    headers = []
    for z, header in enumerate(exam.headers):
        scaled = Dataset()
        scaled.update(header)
        scaled.RescaleSlope, scaled.RescaleIntercept = 1, -1024 if z < 20 else -1000
        scaled.RescaleType = "HU"
        headers.append(scaled)
    states = presentation_states(exam.content, exam.masks, headers)
    assert [float(state.RescaleIntercept) for state in states] == [-1024, -1000]
    shown = [len(s.ReferencedSeriesSequence[0].ReferencedImageSequence) for s in states]
    assert shown == [20, len(headers) - 20]
    assert len({state.SOPInstanceUID for state in states}) == 2
    assert len({state.SeriesInstanceUID for state in states}) == 1


def test_key_images_are_the_pictures_pixel_for_pixel(
    exam: Exam, pictures: dict[str, bytes]
) -> None:
    nodule = exam.content.nodules[0]
    made = read(key_image(exam.content, nodule, pictures, exam.headers))
    frames = made.pixel_array
    assert list(pictures) == ["axial", "coronal", "sagittal"]
    for frame, png in zip(frames, pictures.values(), strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.open(io.BytesIO(png))))
    (source,) = made.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == nodule.ids["slice_sop_instance_uid"]
    assert made.BurnedInAnnotation == "NO"


def test_key_images_of_one_report_are_one_series(exam: Exam, pictures: dict[str, bytes]) -> None:
    made = [key_image(exam.content, n, pictures, exam.headers) for n in exam.content.nodules]
    assert len({one.SeriesInstanceUID for one in made}) == 1
    assert len({one.SOPInstanceUID for one in made}) == 2


def test_the_selection_lists_the_slices_of_the_sizes_and_the_key_images(
    exam: Exam, pictures: dict[str, bytes]
) -> None:
    nodules = exam.content.nodules
    keys = [key_image(exam.content, n, pictures, exam.headers) for n in nodules]
    made = read(key_selection(exam.content, nodules, keys, exam.headers))
    assert made.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
    listed = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in made.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    slices = {nodule.ids["slice_sop_instance_uid"] for nodule in nodules}
    assert listed == slices | {key.SOPInstanceUID for key in keys}
    (study,) = made.CurrentRequestedProcedureEvidenceSequence
    assert {series.SeriesInstanceUID for series in study.ReferencedSeriesSequence} == {
        exam.headers[0].SeriesInstanceUID,
        keys[0].SeriesInstanceUID,
    }


def test_the_document_holds_the_pdf_and_names_its_source(exam: Exam) -> None:
    sr = structured_report(exam.content, None, exam.headers)
    made = read(encapsulated_pdf(exam.content, PDF, sr, exam.headers[0]))
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == PDF
    assert made.SourceInstanceSequence[0].ReferencedSOPInstanceUID == sr.SOPInstanceUID
    assert made.ConceptNameCodeSequence[0].CodeValue == "18748-4"
    assert "PredecessorDocumentsSequence" not in made


def test_a_later_document_names_the_one_that_it_replaces(exam: Exam) -> None:
    sr = structured_report(exam.content, None, exam.headers)
    first, second = (
        read(encapsulated_pdf(edition(exam.content, n), PDF, sr, exam.headers[0])) for n in (1, 2)
    )
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == second.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID != second.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.SeriesDescription == "LungMesh report, edition 2"


def test_only_confirmed_lesions_are_structures(exam: Exam, structures: Dataset) -> None:
    assert structure_set(exam.content, exam.masks, exam.headers) is None
    (roi,) = structures.StructureSetROISequence
    assert (roi.ROINumber, roi.ROIName) == (1, "LungMesh 1")
    assert structures.ApprovalStatus == "UNAPPROVED"


def test_contours_lie_on_their_slices_and_enclose_the_lesion(
    exam: Exam, structures: Dataset
) -> None:
    by_uid = {header.SOPInstanceUID: (z, header) for z, header in enumerate(exam.headers)}
    (lesion,) = structures.ROIContourSequence
    area = np.prod([float(v) for v in exam.headers[0].PixelSpacing])
    volume = 0.0
    for contour in lesion.ContourSequence:
        _, header = by_uid[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        points = np.reshape(np.asarray(contour.ContourData, float), (-1, 3))
        assert len(points) == contour.NumberOfContourPoints
        np.testing.assert_allclose(points[:, 2], float(header.ImagePositionPatient[2]))
        assert not (points[0] == points[-1]).all()
        x, y = points[:, 0], points[:, 1]
        volume += 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    pixels = int((exam.masks[1].voxels > 0).sum())
    # Half-way between the centres the corners of the staircase are cut.
    assert 0.94 * pixels * area < volume <= pixels * area
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == exam.headers[0].FrameOfReferenceUID


def test_solid_parts_are_voxel_for_voxel_an_object_of_their_own(exam: Exam) -> None:
    assert solid_parts(exam.content, exam.masks, exam.headers) is None
    whole = exam.masks[2]
    voxels = whole.voxels.copy()
    voxels[voxels.shape[0] // 2] *= 2
    masks = {**exam.masks, 2: Box(voxels, whole.offset)}
    made = solid_parts(exam.content, masks, exam.headers)
    assert made is not None
    seg = segmentation(exam.content, masks, exam.headers)
    assert made.SeriesInstanceUID == seg.SeriesInstanceUID
    assert made.SOPInstanceUID != seg.SOPInstanceUID
    (segment,) = made.SegmentSequence
    assert segment.SegmentLabel == "Nodule 2, solid part"
    assert segment.TrackingUID not in {s.TrackingUID for s in seg.SegmentSequence}
    assert int(read(made).pixel_array.sum()) == int((voxels == 2).sum())


def test_the_same_exam_gives_the_same_bytes_and_every_object_its_maker(
    exam: Exam, pictures: dict[str, bytes]
) -> None:
    def made() -> list[Dataset]:
        content = confirmed(exam.content, 1, 2)
        sr = structured_report(content, None, exam.headers)
        structures = structure_set(content, exam.masks, exam.headers)
        assert structures is not None
        return [
            *presentation_states(content, exam.masks, exam.headers),
            key := key_image(content, content.nodules[0], pictures, exam.headers),
            key_selection(content, content.nodules[:1], [key], exam.headers),
            encapsulated_pdf(content, PDF, sr, exam.headers[0]),
            structures,
        ]

    def encoded(dataset: Dataset) -> bytes:
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    first = made()
    assert [encoded(one) for one in first] == [encoded(one) for one in made()]
    models = {(model.name, model.version) for model in exam.content.models}
    for one in first:
        assert one.StudyInstanceUID == exam.content.ids["study_instance_uid"]
        assert one.PatientID == exam.content.ids["patient"]
        assert {str(e.value or "")[:8] for e in one.iterall() if e.VR in ("DA", "DT")} <= {
            "20000101",
            "",
        }
        said = {
            (item.ManufacturerModelName, item.SoftwareVersions)
            for item in one.ContributingEquipmentSequence
            if item.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Algorithm"
        }
        assert said == models
