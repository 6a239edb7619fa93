"""The report of a patient with a past, judged by the tools that others use."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.integration.report.test_report_artefacts import files_of, judged, write
from tests.support.pacs import program
from tests.support.report import Case, made_up_case
from tests.support.report_course import corrected, followed

_CASES: dict[str, Callable[[Case], FollowupUpdated]] = {
    "two exams": lambda case: followed(case, 2, 3),
    "three exams": lambda case: followed(case, 3, 4),
    "thirty nodules": lambda case: followed(case, 4, 30),
    "corrected": corrected,
}
# A4, and what the report leaves free at its sides, points.
_PAGE, _MARGIN = (595.3, 841.9), 42.5
_WORD = re.compile(
    r'<word xMin="([\d.]+)" yMin="([\d.]+)" xMax="([\d.]+)" yMax="([\d.]+)">(.*?)</word>'
)


@pytest.fixture(scope="module", params=_CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("course")
    case = made_up_case(out)
    for name, data in files_of(write(_CASES[request.param](case), case.blobs), case.blobs).items():
        (out / name).write_bytes(data)
    return out


def words_of(path: Path) -> list[tuple[tuple[float, ...], str]]:
    """Return each word of a PDF with its box: left, top, right, bottom in points."""
    said = subprocess.run(
        [program("pdftotext"), "-bbox", str(path), "-"], capture_output=True, text=True, check=True
    ).stdout
    return [
        (tuple(float(part) for part in found[:4]), html.unescape(found[4]))
        for found in _WORD.findall(said)
    ]


def test_no_word_leaves_the_page_and_none_is_without_a_glyph(folder: Path) -> None:
    words = words_of(folder / "report.pdf")
    assert len(words) > 300
    for (left, top, right, bottom), word in words:
        assert _MARGIN - 2 <= left < right <= _PAGE[0] - _MARGIN + 2, word
        assert 0 <= top < bottom <= _PAGE[1], word
        assert "\ufffd" not in word


def test_no_word_lies_over_another(folder: Path) -> None:
    said = subprocess.run(
        [program("pdftotext"), "-bbox", str(folder / "report.pdf"), "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for page in said.split("<page ")[1:]:
        boxes = [tuple(float(part) for part in found[:4]) for found in _WORD.findall(page)]
        for place, (left, top, right, bottom) in enumerate(boxes):
            for other_left, other_top, other_right, other_bottom in boxes[place + 1 :]:
                across = min(right, other_right) - max(left, other_left)
                down = min(bottom, other_bottom) - max(top, other_top)
                # The boxes of the font are taller than its letters, so lines may touch.
                assert across <= 1 or down <= 5, (page[:40], left, top)


@pytest.mark.parametrize("name", ["sr.dcm", "seg.dcm"])
def test_dciodvfy_finds_no_error(folder: Path, name: str) -> None:
    assert [line for line in judged(folder / name) if line.startswith("Error")] == []


def test_a_later_edition_names_the_sr_that_it_replaces(tmp_path: Path) -> None:
    case = made_up_case(tmp_path)
    second = corrected(case)
    first = corrected(case)
    first.edition = 1
    objects = []
    for event in (first, second):
        (tmp_path / "sr.dcm").write_bytes(files_of(write(event, case.blobs), case.blobs)["sr.dcm"])
        objects.append(dcmread(tmp_path / "sr.dcm"))
    assert "PredecessorDocumentsSequence" not in objects[0]
    (study,) = objects[1].PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == objects[0].SOPInstanceUID
    assert objects[1].SOPInstanceUID != objects[0].SOPInstanceUID
    assert study.StudyInstanceUID == objects[1].StudyInstanceUID
