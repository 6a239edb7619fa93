"""Stored values become the same Hounsfield units however they were stored."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lungmesh.mesh import BadInput
from lungmesh.preprocess.findings import Severity
from lungmesh.preprocess.stack import stack_slices
from lungmesh.preprocess.volume import PADDING_HU, read_volume, slice_hu
from tests.unit.preprocess.ct import slices, volume

HU = volume((24, 32, 40))
PLANE = HU[3]


def _slice() -> Dataset:
    return slices(PLANE[None])[0]


def _store(dataset: Dataset, values: np.ndarray, bits: int, signed: bool) -> None:
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = values.astype("<i2" if signed else "<u2").tobytes()


@settings(max_examples=30, deadline=None)
@given(
    slope=st.sampled_from([1.0, 2.0, 0.5, -1.0]),
    intercept=st.sampled_from([-1024.0, 0.0, -8192.0, -1000.5]),
    signed=st.booleans(),
)
def test_rescale_and_sign_give_the_same_hu(slope: float, intercept: float, signed: bool) -> None:
    stored = np.rint((PLANE - intercept) / slope)
    if not signed and stored.min() < 0:
        stored = stored - stored.min()
    dataset = _slice()
    _store(dataset, stored, 16, signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)

    hu = slice_hu(dataset, 0)

    assert hu.dtype == np.int16
    assert np.array_equal(hu, np.rint(np.float32(stored) * slope + intercept))


def test_bits_above_the_stored_ones_are_dropped() -> None:
    stored = PLANE.astype(np.int32) + 1024
    dataset = _slice()
    _store(dataset, stored | 0xF000, 12, signed=False)

    assert np.array_equal(slice_hu(dataset, 0), PLANE)


def test_twelve_bit_signed_values_keep_their_sign() -> None:
    dataset = _slice()
    _store(dataset, PLANE & 0x0FFF, 12, signed=True)
    dataset.RescaleIntercept = "0"

    assert np.array_equal(slice_hu(dataset, 0), PLANE)


@pytest.mark.parametrize("value", [-2000, 63536])
def test_padding_reads_as_air_whatever_vr_its_value_has(value: int) -> None:
    stored = PLANE.astype(np.int32) + 1024
    stored[:4] = -2000
    dataset = _slice()
    _store(dataset, stored, 16, signed=True)
    dataset.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)

    hu = slice_hu(dataset, 0)

    assert (hu[:4] == PADDING_HU).all()
    assert np.array_equal(hu[4:], PLANE[4:])


def test_a_padding_range_reads_as_air() -> None:
    stored = PLANE.astype(np.int32) + 1024
    stored[:2], stored[2:4] = -2000, -1500
    dataset = _slice()
    _store(dataset, stored, 16, signed=True)
    dataset.add_new("PixelPaddingValue", "SS", -1500)
    dataset.add_new("PixelPaddingRangeLimit", "SS", -2000)

    assert (slice_hu(dataset, 0)[:4] == PADDING_HU).all()


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_slice_without_rescale_is_refused(keyword: str) -> None:
    dataset = _slice()
    delattr(dataset, keyword)

    with pytest.raises(BadInput, match="Slice 7") as caught:
        slice_hu(dataset, 6)

    assert caught.value.code == "missing_rescale"


def test_each_slice_has_its_own_rescale() -> None:
    datasets = slices(HU)
    for z in range(0, len(HU), 2):
        stored = HU[z].astype(np.int32) + 500
        _store(datasets[z], stored, 16, signed=True)
        datasets[z].RescaleIntercept = "-500"
    stack, _ = stack_slices(datasets)

    hu, _ = read_volume(stack, lambda index: datasets[index])

    assert np.array_equal(hu, HU)


@pytest.mark.parametrize("inverted", [False, True])
def test_monochrome1_gives_the_same_hu(inverted: bool) -> None:
    datasets = slices(HU, PhotometricInterpretation="MONOCHROME1")
    if inverted:
        for dataset, plane in zip(datasets, HU, strict=True):
            _store(dataset, 4095 - (plane.astype(np.int32) + 1024), 12, signed=False)
    stack, _ = stack_slices(datasets)

    hu, findings = read_volume(stack, lambda index: datasets[index])

    assert np.array_equal(hu, HU)
    assert [finding.code for finding in findings] == ["monochrome1"]
    assert findings[0].severity is (Severity.WARN if inverted else Severity.NOTE)


def test_a_truncated_slice_is_named_and_refused() -> None:
    datasets = slices(HU)
    datasets[4].PixelData = datasets[4].PixelData[:100]
    stack, _ = stack_slices(datasets)

    with pytest.raises(BadInput, match="slice 5") as caught:
        read_volume(stack, lambda index: datasets[index])

    assert caught.value.code == "undecodable_slice"


@pytest.mark.parametrize(
    "syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"]
)
def test_lossless_syntaxes_of_gdcm_give_the_same_hu(syntax: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    _slice().save_as(plain, enforce_file_format=True)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()

    read = pydicom.dcmread(packed)

    assert read.file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(slice_hu(read, 0), PLANE)


@pytest.mark.parametrize(
    ("tool", "options"),
    [
        ("dcmcjpeg", ["+e1"]),
        ("dcmcjpeg", ["+el"]),
        ("dcmcjpls", ["+el"]),
        ("dcmcrle", []),
        ("dcmconv", ["+td"]),
        ("dcmconv", ["+ti"]),
        ("dcmconv", ["+te"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value),
)
def test_lossless_syntaxes_of_dcmtk_give_the_same_hu(
    tool: str, options: list[str], tmp_path: Path
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} (Debian package dcmtk) is not installed")
    plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    dataset = _slice()
    # dcmtk's JPEG codecs take unsigned pixels only.
    _store(dataset, PLANE.astype(np.int32) + 1024, 16, signed=False)
    dataset.save_as(plain, enforce_file_format=True)
    subprocess.run([tool, *options, str(plain), str(packed)], check=True, timeout=20)

    read = pydicom.dcmread(io.BytesIO(packed.read_bytes()))

    assert np.array_equal(slice_hu(read, 0), PLANE)
