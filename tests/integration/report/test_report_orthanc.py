"""A PACS takes every object of a report by C-STORE and STOW-RS, and gives each back unchanged."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from lungmesh.mesh.dicom_scu import Peer, send_files
from lungmesh.v1 import nodule_pb2
from tests.integration.report.test_report_artefacts import files_of, write
from tests.support.pacs import Orthanc, running_orthanc
from tests.support.report import Case, followup

MODALITIES = {"SR", "SEG", "PR", "OT", "KO", "DOC", "RTSTRUCT"}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("pacs"), dicomweb=True) as server:
        yield server


@pytest.fixture(scope="module")
def objects(ct: Case) -> dict[str, bytes]:
    """Every kind of object: one nodule is confirmed, so that there is a structure set."""
    event = followup(ct)
    event.nodules[0].review.status = nodule_pb2.REVIEW_STATUS_CONFIRMED
    files = files_of(write(event, ct.blobs), ct.blobs)
    return {name: data for name, data in files.items() if name.endswith(".dcm")}


def by_c_store(pacs: Orthanc, objects: dict[str, bytes]) -> None:
    peer = Peer("127.0.0.1", pacs.dicom_port, "ORTHANC")
    send_files([dcmread(io.BytesIO(data)) for data in objects.values()], peer).require_all_sent()


def by_stow(pacs: Orthanc, objects: dict[str, bytes]) -> None:
    boundary = uuid.uuid5(uuid.NAMESPACE_OID, "stow").hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + data + b"\r\n" for data in objects.values())
    answer = httpx.post(
        f"http://127.0.0.1:{pacs.http_port}/dicom-web/studies",
        content=body + f"--{boundary}--\r\n".encode(),
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        },
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert not answer.json().get("00081198", {}).get("Value"), "objects were refused"


def asked(pacs: Orthanc, path: str) -> list[dict[str, dict[str, list[str]]]]:
    """Return what QIDO-RS answers."""
    answer = httpx.get(
        f"http://127.0.0.1:{pacs.http_port}/dicom-web/{path}",
        headers={"Accept": "application/dicom+json"},
        timeout=60,
    )
    answer.raise_for_status()
    found: list[dict[str, dict[str, list[str]]]] = json.loads(answer.content)
    return found


def given_back(pacs: Orthanc, path: str) -> Dataset:
    """Return an instance by WADO-RS."""
    answer = httpx.get(
        f"http://127.0.0.1:{pacs.http_port}/dicom-web/{path}",
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
        timeout=60,
    )
    answer.raise_for_status()
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + answer.content)
    (part,) = (part for part in message.walk() if not part.is_multipart())
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return dcmread(io.BytesIO(data))


@pytest.mark.parametrize("way", [by_c_store, by_stow], ids=["C-STORE", "STOW-RS"])
def test_every_object_comes_back_as_it_was_sent(
    pacs: Orthanc, objects: dict[str, bytes], way: Callable[[Orthanc, dict[str, bytes]], None]
) -> None:
    base = f"http://127.0.0.1:{pacs.http_port}"
    for study in httpx.get(f"{base}/studies").json():
        httpx.delete(f"{base}/studies/{study}").raise_for_status()
    way(pacs, objects)
    sent = {name: dcmread(io.BytesIO(data)) for name, data in objects.items()}
    uid = sent["sr.dcm"].StudyInstanceUID
    (study,) = asked(pacs, f"studies?StudyInstanceUID={uid}&includefield=ModalitiesInStudy")
    assert set(study["00080061"]["Value"]) == MODALITIES
    for name, dataset in sent.items():
        place = f"studies/{uid}/series/{dataset.SeriesInstanceUID}/instances"
        (found,) = asked(pacs, f"{place}?SOPInstanceUID={dataset.SOPInstanceUID}")
        assert found["00080016"]["Value"] == [dataset.SOPClassUID], name
        assert given_back(pacs, f"{place}/{dataset.SOPInstanceUID}") == dataset, name


def test_the_pacs_shows_the_key_images_and_hands_out_the_very_pdf(
    pacs: Orthanc, objects: dict[str, bytes], ct: Case, tmp_path: Path
) -> None:
    by_c_store(pacs, objects)
    base = f"http://127.0.0.1:{pacs.http_port}"
    key = dcmread(io.BytesIO(objects["key_1.dcm"]))
    (name,) = httpx.post(f"{base}/tools/lookup", content=key.SOPInstanceUID).json()
    for frame in range(3):
        shown = httpx.get(f"{base}/instances/{name['ID']}/frames/{frame}/preview")
        assert shown.headers["content-type"] == "image/png"
    document = dcmread(io.BytesIO(objects["pdf.dcm"]))
    (name,) = httpx.post(f"{base}/tools/lookup", content=document.SOPInstanceUID).json()
    pdf = httpx.get(f"{base}/instances/{name['ID']}/pdf").content
    assert pdf.startswith(b"%PDF")
    assert pdf == document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
