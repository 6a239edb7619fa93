"""The facts behind the report, and their hash."""

from __future__ import annotations

from pathlib import Path

from lungmesh.mesh.headers import read_headers
from lungmesh.report import text
from lungmesh.report.content import Content, content_sha256
from lungmesh.report.facts import from_event
from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.support.report import followup, made_up_case
from tests.unit.report.conftest import Exam


def digest(content: Content) -> str:
    return content_sha256(content, [text.body(content, language) for language in text.LANGUAGES])


def changed(exam: Exam, change: str) -> Content:
    event = FollowupUpdated.FromString(exam.event.SerializeToString())
    nodule = event.nodules[1]
    if change == "size":
        nodule.measurement.mean_diameter_mm += 0.1
    elif change == "category":
        nodule.categories[0].category = "2"
    elif change == "management":
        event.exam_categories[0].management_zh = "随访。"
    elif change == "sign":
        nodule.assessment.signs[1].present = True
    elif change == "model":
        event.models[0].version = "2"
    elif change == "missing nodule":
        del event.nodules[1]
    return from_event(event, exam.headers)


def test_sizes_volumes_and_densities_are_rounded_as_a_report_states_them(exam: Exam) -> None:
    first = exam.content.nodules[0]
    measured = exam.event.nodules[0].measurement
    assert first.mean_diameter_mm == 29.1
    assert first.volume_mm3 == round(measured.volume_mm3)
    assert isinstance(first.mean_hu, int)
    assert first.priors[0].mean_diameter_mm == 20.0


def test_the_slice_is_named_by_its_instance_number_not_by_its_place(exam: Exam) -> None:
    nodule = exam.event.nodules[0]
    header = exam.headers[nodule.slice_index]
    assert exam.content.nodules[0].slice_number == header.InstanceNumber != nodule.slice_index


def test_the_same_pixels_sent_as_another_study_of_another_patient_hash_alike(
    exam: Exam, tmp_path: Path
) -> None:
    other = made_up_case(tmp_path, "another", "99999999-2222-4333-8444-555555555555")
    headers = read_headers(other.blobs, other.ready.volume.headers)
    content = from_event(followup(other), headers)
    assert content.ids != exam.content.ids
    assert digest(content) == digest(exam.content)


def test_every_clinical_change_changes_the_hash(exam: Exam) -> None:
    digests = {digest(exam.content)}
    changes = ("size", "category", "management", "sign", "model", "missing nodule")
    digests |= {digest(changed(exam, change)) for change in changes}
    assert len(digests) == len(changes) + 1


def test_the_leading_nodule_is_the_one_that_decides_the_category(exam: Exam) -> None:
    event = FollowupUpdated.FromString(exam.event.SerializeToString())
    event.nodules[0].categories[0].category = "3"
    event.nodules[1].categories[0].category = "4B"
    lead = from_event(event, exam.headers).dominant
    assert lead is not None
    assert lead.number == 2


def test_without_nodules_there_is_no_leading_one(exam: Exam) -> None:
    content = from_event(followup(exam.case, 0, prior=False), exam.headers)
    assert content.dominant is None
