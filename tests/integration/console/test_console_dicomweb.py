"""DICOMweb over received files: the pixels as they came, the headers without the patient."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.encaps import get_frame
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.v1.study_pb2 import StudyManifest
from tests.support.console import PATIENT_NAME, SECRETS, MadeStudy, a_console, made_study
from tests.support.preprocess import PSEUDONYM

ANY = "multipart/related; type=application/octet-stream; transfer-syntax=*"
SYNTAXES = (
    ExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEG2000Lossless,
)
PLAIN = "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"


def part(answer: httpx.Response) -> tuple[str, bytes]:
    """Return the content type and the bytes of the one part."""
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    before, one, end = answer.content.split(b"--" + boundary)
    assert (before, end) == (b"", b"--\r\n")
    head, _, data = one.partition(b"\r\n\r\n")
    return head.decode(), data.removesuffix(b"\r\n")


def received_file(study: MadeStudy, blobs: BlobStore, number: int) -> pydicom.Dataset:
    """Return a received object, identity and all."""
    manifest = StudyManifest.FromString(blobs.get(study.received.manifest))
    return pydicom.dcmread(io.BytesIO(blobs.get(manifest.series[0].instances[number].file)))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
async def test_what_the_viewer_gets_is_what_came_without_the_patient(
    tmp_path: Path, syntax: UID
) -> None:
    study = await asyncio.to_thread(made_study, tmp_path, "dicom", PSEUDONYM, syntax)
    async with a_console(tmp_path) as console:
        await console.tell(*study.events)
        browser = await console.signed_in()
        uid = study.received.study_instance_uid
        series = study.followup.exam.volume.series_instance_uid
        original = received_file(study, console.chassis.blobs, 20)
        root = f"/dicomweb/studies/{uid}"
        instance = f"{root}/series/{series}/instances/{original.SOPInstanceUID}"
        bodies: list[bytes] = []

        async def get(path: str, accept: str = "application/dicom+json") -> httpx.Response:
            answer = await browser.get(path, headers={"Accept": accept})
            assert answer.status_code == 200, f"{path}: {answer.text}"
            bodies.append(answer.content)
            return answer

        (found,) = (await get(f"/dicomweb/studies?StudyInstanceUID={uid}")).json()
        assert found["00100020"]["Value"] == [PSEUDONYM]
        assert found["00201208"]["Value"] == [50]
        (one,) = (await get(f"{root}/series")).json()
        assert one["0020000E"]["Value"] == [series]
        headers = (await get(f"{root}/series/{series}/metadata")).json()
        assert len(headers) == 50
        by_uid = {header["00080018"]["Value"][0]: header for header in headers}
        mine = by_uid[original.SOPInstanceUID]
        assert mine["00200032"]["Value"] == [float(v) for v in original.ImagePositionPatient]
        assert mine["00281050"]["Value"] == [-600]
        assert mine["00083002"]["Value"] == [str(syntax)]

        volume = study.followup.exam.volume
        slices = (await get(f"/api/studies/{study.study_id}")).json()["series"]["slices"]
        hu = read_array(console.chassis.blobs, volume.hu)
        # The made-up files hold Hounsfield units as they are.
        pixels = hu[slices.index(original.SOPInstanceUID)].astype("<i2")
        assert np.array_equal(original.pixel_array, pixels)
        kind, data = part(await get(f"{instance}/frames/1", PLAIN))
        assert str(ExplicitVRLittleEndian) in kind
        assert np.array_equal(np.frombuffer(data, "<i2").reshape(pixels.shape), pixels)
        kind, data = part(await get(f"{instance}/frames/1", ANY))
        assert str(syntax) in kind
        if syntax.is_compressed:
            assert data == get_frame(original.PixelData, 0, number_of_frames=1)

        whole = await get(instance, "application/dicom")
        sent = pydicom.dcmread(io.BytesIO(whole.content))
        assert np.array_equal(sent.pixel_array, pixels)
        assert (sent.PatientID, sent.PatientName) == (PSEUDONYM, "")
        for secret in SECRETS:
            assert not any(secret.encode() in body for body in bodies), secret
        assert PATIENT_NAME in str(original.PatientName)

        for path, status in (
            (f"{instance}/frames/2", 404),
            (f"{instance}/frames/all", 400),
            (f"{root}/series/1.2.3/metadata", 404),
            ("/dicomweb/studies/1.2.3/series", 404),
            ("/dicomweb/studies", 400),
        ):
            assert (await browser.get(path)).status_code == status, path
        none = await browser.get("/dicomweb/studies?StudyInstanceUID=1.2.3")
        assert none.status_code == 204
