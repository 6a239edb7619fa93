"""STOW-RS to a real Orthanc, FHIR and MLLP to servers that check what they get; their failures."""

from __future__ import annotations

import asyncio
import io
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lungmesh.delivery.fhir import FhirSender
from lungmesh.delivery.mllp import MllpSender
from lungmesh.delivery.parcel import Parcel, Standing
from lungmesh.delivery.settings import FhirDestination, MllpDestination, StowDestination
from lungmesh.delivery.stow import StowSender
from lungmesh.mesh import Refused, Unavailable
from tests.support.broker import free_port
from tests.support.delivery import Ehr, Ris, http_server, receiving, serving
from tests.support.pacs import Orthanc, running_orthanc

WHO: dict[str, Any] = {"tenant": "hospital", "connect_seconds": 30, "answer_seconds": 30}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc with DICOMweb that asks for a password."""
    folder = tmp_path_factory.mktemp("orthanc")
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"us": "secret"}}
    with running_orthanc(folder, dicomweb=True, DefaultEncoding="Utf8", **users) as server:
        yield server


def stow(url: str, **more: object) -> StowSender:
    facts = {**WHO, "kind": "stow", "name": "archive", "url": url}
    return StowSender(StowDestination.model_validate({**facts, **more}))


def ehr_at(url: str, **more: object) -> FhirSender:
    facts = {**WHO, "kind": "fhir", "name": "ehr", "url": url, "patient_system": "urn:test"}
    return FhirSender(FhirDestination.model_validate({**facts, **more}))


def ris_at(port: int, **more: object) -> MllpSender:
    facts = {**WHO, "kind": "mllp", "name": "ris", "host": "127.0.0.1", "port": port}
    return MllpSender(MllpDestination.model_validate({**facts, **more}))


def asked(archive: Orthanc, path: str) -> Any:
    """Return what Orthanc's DICOMweb answers."""
    keys = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    base = f"http://127.0.0.1:{archive.http_port}"
    keys.add_password(None, base, "us", "secret")
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(keys))
    with opener.open(f"{base}/dicom-web/{path}", timeout=30) as answer:
        return json.load(answer)


async def test_orthanc_stores_every_object_by_stow_under_the_patients_identity(
    to_send: Parcel, archive: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_PASSWORD", "secret")
    url = f"http://127.0.0.1:{archive.http_port}/dicom-web/"
    sender = stow(url, user="us", password={"env": "ARCHIVE_PASSWORD"})
    count = sender.wanted(to_send.report)
    assert count >= 5
    await sender.send(to_send)
    # Again: the same objects, none of them twice.
    await sender.send(to_send)
    (study,) = await asyncio.to_thread(asked, archive, "studies?PatientID=MRN-7")
    assert study["00100010"]["Value"][0]["Alphabetic"] == "Wang^Xiaoming"
    assert study["00100010"]["Value"][0]["Ideographic"] == "王^小明"
    uid = study["0020000D"]["Value"][0]
    found = await asyncio.to_thread(asked, archive, f"studies/{uid}/instances")
    assert len(found) == count
    kinds = {one["00080060"]["Value"][0] for one in found}
    assert {"SR", "SEG", "PR"} <= kinds


async def test_a_wrong_password_is_refused_for_good(to_send: Parcel, archive: Orthanc) -> None:
    url = f"http://127.0.0.1:{archive.http_port}/dicom-web"
    with pytest.raises(Refused, match="answered 401"):
        await stow(url).send(to_send)


def _failed(reason: int | None, uid: str) -> bytes:
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    if reason is not None:
        item["00081197"] = {"vr": "US", "Value": [reason]}
    return json.dumps([{"00081198": {"vr": "SQ", "Value": [item]}}]).encode()


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (202, 0xA700, Unavailable),
        (409, 0x0110, Unavailable),
        (409, 0xA900, Refused),
        (202, 0xC000, Refused),
        (200, None, Unavailable),
    ],
)
async def test_stow_failures_are_told_apart_by_their_reason(
    to_send: Parcel, status: int, reason: int | None, error: type[Exception]
) -> None:
    sr = to_send.file("sr.dcm")
    assert sr is not None
    uid = str(dcmread(io.BytesIO(sr), specific_tags=["SOPInstanceUID"]).SOPInstanceUID)

    async def answer(request: Request) -> Response:
        body = _failed(reason, uid) if reason is not None else b"[{}]"
        return Response(body, status, media_type="application/dicom+json")

    app = Starlette(routes=[Route("/studies", answer, methods=["POST"])])
    async with http_server(app) as port:
        with pytest.raises(error, match="1 of 1 objects were not stored"):
            await stow(f"http://127.0.0.1:{port}", objects=["sr"]).send(to_send)


async def test_the_ehr_has_each_resource_once_however_often_it_is_sent(to_send: Parcel) -> None:
    ehr = Ehr()
    async with serving(ehr) as url:
        for standing in (Standing.UNSIGNED, Standing.UNSIGNED, Standing.SIGNED):
            await ehr_at(url).send(replace(to_send, standing=standing))
    assert ehr.requests == 3
    assert set(ehr.versions.values()) <= {1, 3}
    (person,) = ehr.of("Patient")
    assert person["identifier"] == [{"system": "urn:test", "value": "MRN-7"}]
    (told,) = ehr.of("DiagnosticReport")
    assert told["status"] == "final"
    nodules = [one for one in ehr.of("Observation") if "hasMember" in one]
    assert len(nodules) == to_send.report.nodule_count


async def test_the_ehr_gets_the_token(to_send: Parcel, tmp_path: Path) -> None:
    ehr = Ehr()
    token = tmp_path / "token"
    token.write_text("bearer of reports\n")
    async with serving(ehr) as url:
        await ehr_at(url, token={"file": str(token)}).send(to_send)
    assert ehr.authorization == "Bearer bearer of reports"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Refused),
        (401, Refused),
        (404, Refused),
        (409, Refused),
        (422, Refused),
        (301, Refused),
        (408, Unavailable),
        (425, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_http_statuses_that_stay_and_that_pass(
    to_send: Parcel, status: int, error: type[Exception]
) -> None:
    ehr = Ehr(answers=[status])
    async with serving(ehr) as url:
        with pytest.raises(error, match=f"answered {status}"):
            await ehr_at(url).send(to_send)
        await ehr_at(url).send(to_send)
    assert ehr.requests == 2


async def test_a_server_that_is_away_or_silent_is_tried_again(to_send: Parcel) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        await ehr_at(f"http://127.0.0.1:{free_port()}/fhir").send(to_send)

    async def hang(request: Request) -> Response:
        await asyncio.sleep(5)
        return Response()

    app = Starlette(routes=[Route("/fhir", hang, methods=["POST"])])
    async with http_server(app) as port:
        with pytest.raises(Unavailable, match="did not answer"):
            await ehr_at(f"http://127.0.0.1:{port}/fhir", answer_seconds=0.3).send(to_send)


async def test_the_ris_acknowledges_the_very_message(to_send: Parcel) -> None:
    ris = Ris()
    async with receiving(ris):
        await ris_at(ris.port, application="RIS", pdf=True).send(to_send)
    (message,) = ris.messages
    assert str(message.segment("MSH")[5]) == "RIS"
    assert str(message.segments("OBX")[-1][2]) == "ED"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("AE", Refused),
        ("AR", Refused),
        ("CE", Refused),
        ("CR", Refused),
        ("none", Unavailable),
        ("XX", Unavailable),
    ],
)
async def test_acknowledgements_that_stay_and_that_pass(
    to_send: Parcel, answer: str, error: type[Exception]
) -> None:
    ris = Ris(answers=[answer, "AA"])
    async with receiving(ris):
        with pytest.raises(error):
            await ris_at(ris.port).send(to_send)
        await ris_at(ris.port).send(to_send)
    assert len(ris.messages) == 2
    assert len(set(ris.raw)) == 1


async def test_a_ris_that_is_away_or_silent_is_tried_again(to_send: Parcel) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await ris_at(free_port()).send(to_send)
    ris = Ris(answers=["silent"])
    async with receiving(ris):
        with pytest.raises(Unavailable, match="did not answer"):
            await ris_at(ris.port, answer_seconds=0.3).send(to_send)
