"""The DICOM files of a folder, whatever else lies there."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from lungmesh.cli.exits import CommandError, Exit

_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_TAGS = ["StudyInstanceUID", "StudyDate", "PatientID"]


@dataclass(frozen=True)
class StudyFolder:
    """One study on disk.

    Attributes
    ----------
    files
        Its DICOM files, in order of path.
    skipped
        How many other files lie there, by reason.
    study_date
        DICOM DA, empty when the headers have none.
    patient_id
        For comparing two folders only; never shown.
    """

    path: Path
    files: tuple[Path, ...]
    study_instance_uid: str
    study_date: str
    patient_id: str
    skipped: dict[str, int]


def read_folder(path: Path) -> StudyFolder:
    """Find the one study below a folder.

    Raises CommandError (BAD_FOLDER) when there is no folder, no DICOM file, or more than one study.
    """
    if not path.is_dir():
        raise CommandError(f"there is no folder {path}", Exit.BAD_FOLDER)
    skipped: Counter[str] = Counter()
    found: dict[str, tuple[list[Path], str, str]] = {}
    for file in _files_below(path):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        except InvalidDicomError:
            skipped["not DICOM"] += 1
            continue
        except (OSError, ValueError, EOFError) as error:
            skipped[f"unreadable ({type(error).__name__})"] += 1
            continue
        if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == _MEDIA_DIRECTORY:
            skipped["DICOMDIR"] += 1
            continue
        uid = str(header.get("StudyInstanceUID", ""))
        if not uid:
            skipped["without StudyInstanceUID"] += 1
            continue
        date, patient = str(header.get("StudyDate", "")), str(header.get("PatientID", ""))
        found.setdefault(uid, ([], date, patient))[0].append(file)
    if not found:
        others = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise CommandError(
            f"no DICOM file lies below {path}" + (f" ({others})" if others else ""),
            Exit.BAD_FOLDER,
        )
    if len(found) > 1:
        raise CommandError(
            f"{len(found)} studies lie below {path}: name the folder of one of them",
            Exit.BAD_FOLDER,
        )
    uid, (files, date, patient) = next(iter(found.items()))
    return StudyFolder(path, tuple(files), uid, date, patient, dict(skipped))


def _files_below(path: Path) -> list[Path]:
    return sorted(
        Path(folder) / name
        for folder, _, names in os.walk(path)
        for name in names
        if not name.startswith(".")
    )
