"""What travels in the slice headers is listed; nothing else gets through."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pydicom

from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.headers import read_headers, write_headers
from lungmesh.preprocess.identity import EMPTIED, KEPT, without_identity
from lungmesh.preprocess.stack import stack_slices
from lungmesh.preprocess.stage import slice_headers
from tests.unit.preprocess.ct import slices, volume

SECRETS: dict[str, Any] = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-77",
    "PatientBirthDate": "19501231",
    "PatientAge": "071Y",
    "PatientAddress": "Elm Street",
    "AccessionNumber": "ACC-55",
    "ReferringPhysicianName": "Who^Doctor",
    "InstitutionName": "General Hospital",
    "StudyDescription": "CT of Jane Doe",
    "SeriesDescription": "thorax of Jane",
    "ImageComments": "call Jane",
    "StudyID": "S-99",
    "DeviceSerialNumber": "SN-1234",
    "OperatorsName": "Smith^Op",
}


def test_no_identity_free_text_or_private_tag_reaches_the_blob(tmp_path: Path) -> None:
    headers = slices(volume(), **SECRETS)
    for header in headers:
        block = header.private_block(0x0013, "VENDOR", create=True)
        block.add_new(0x10, "LO", "private Jane")
    stack, _ = stack_slices(headers)
    blobs = BlobStore(tmp_path.as_uri())

    ref = write_headers(blobs, "t/s/r1/preprocess/headers.zip", slice_headers(headers, stack, "p1"))

    for header in read_headers(blobs, ref):
        buffer = io.BytesIO()
        header.save_as(buffer, enforce_file_format=True)
        for keyword, secret in SECRETS.items():
            assert secret.encode() not in buffer.getvalue(), keyword
        assert b"Jane" not in buffer.getvalue()
        assert not any(element.tag.is_private for element in header)
        assert header.PatientID == "p1"
        assert all(header[keyword].value in (None, "") for keyword in EMPTIED)
        assert "PixelData" not in header


def test_uids_and_geometry_are_kept() -> None:
    header = slices(volume(), StudyDate="20200101", StudyTime="101500")[5]

    kept = without_identity(header, "p1")

    for keyword in KEPT:
        assert kept.get(keyword) == header.get(keyword), keyword


def test_a_missing_slice_borrows_the_nearest_header_and_keeps_its_own_place() -> None:
    headers = slices(volume())
    del headers[10]
    stack, _ = stack_slices(headers)

    out = slice_headers(headers, stack, "p1")

    assert len(out) == 24
    assert [float(header.ImagePositionPatient[2]) for header in out] == [
        -200 + 1.25 * z for z in range(24)
    ]
    assert out[10].SOPInstanceUID == out[9].SOPInstanceUID
    assert isinstance(out[10], pydicom.Dataset)
