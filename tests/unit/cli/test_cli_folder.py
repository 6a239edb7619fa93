"""A folder as the command line reads it: one study, whatever else lies there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.folder import read_folder


def write(path: Path, study: str | None = "1.2", date: str = "20200101") -> Path:
    dataset = Dataset()
    if study is not None:
        dataset.StudyInstanceUID = study
    dataset.StudyDate = date
    dataset.PatientID = "P1"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"1.2.3.{abs(hash(path.name)) % 10**9}"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def refusal(folder: Path) -> str:
    with pytest.raises(CommandError) as caught:
        read_folder(folder)
    assert caught.value.exit_status == Exit.BAD_FOLDER
    return str(caught.value)


def test_the_files_of_one_study_are_found_below_the_folder(tmp_path: Path) -> None:
    files = [write(tmp_path / "series" / "b.dcm"), write(tmp_path / "a")]
    found = read_folder(tmp_path)
    assert found.files == (tmp_path / "a", files[0])
    assert (found.study_instance_uid, found.study_date, found.patient_id) == (
        "1.2",
        "20200101",
        "P1",
    )
    assert not found.skipped


def test_other_files_are_skipped_and_counted_by_reason(tmp_path: Path) -> None:
    kept = write(tmp_path / "a.dcm")
    (tmp_path / "notes.txt").write_text("not an image " * 20)
    (tmp_path / "empty.dcm").touch()
    (tmp_path / ".hidden").write_text("x" * 200)
    (tmp_path / "dangling.dcm").symlink_to(tmp_path / "gone")
    write(tmp_path / "nobody.dcm", study=None)
    found = read_folder(tmp_path)
    assert found.files == (kept,)
    assert sum(found.skipped.values()) == 4
    assert found.skipped["without StudyInstanceUID"] == 1
    assert found.skipped["unreadable (FileNotFoundError)"] == 1


def test_a_file_cut_in_its_header_is_skipped_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm")
    whole = write(tmp_path / "cut.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:150])
    assert sum(read_folder(tmp_path).skipped.values()) == 1


def test_a_folder_without_dicom_says_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 200)
    assert refusal(tmp_path) == f"no DICOM file lies below {tmp_path} (1 not DICOM)"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"no DICOM file lies below {tmp_path}"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"there is no folder {tmp_path / 'nowhere'}"


def test_two_studies_ask_for_one(tmp_path: Path) -> None:
    write(tmp_path / "1" / "a.dcm", study="1.2")
    write(tmp_path / "2" / "a.dcm", study="1.3")
    assert refusal(tmp_path) == (f"2 studies lie below {tmp_path}: name the folder of one of them")
