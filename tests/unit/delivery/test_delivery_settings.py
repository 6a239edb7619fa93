"""A wrong setting stops the service with one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lungmesh.delivery.secret import Secret
from lungmesh.delivery.settings import DeliverySettings, FhirDestination
from lungmesh.mesh import SettingsError, Unavailable
from lungmesh.mesh.settings import load

WHO = {"name": "pacs", "tenant": "hospital"}
PACS: dict[str, Any] = {**WHO, "kind": "dicom", "host": "pacs", "port": 104, "ae_title": "PACS"}
EHR: dict[str, Any] = {
    **WHO,
    "kind": "fhir",
    "name": "ehr",
    "url": "https://ehr/fhir",
    "patient_system": "urn:oid:1.2.3",
}


def given(monkeypatch: pytest.MonkeyPatch, *destinations: object, **more: str) -> DeliverySettings:
    facts = {"INGEST": "127.0.0.1:1", "RESTORE_TOKEN": "secret", **more}
    for name, value in {"DESTINATIONS": json.dumps(destinations), **facts}.items():
        monkeypatch.setenv(f"LUNGMESH_DELIVERY__{name}", value)
    return load(DeliverySettings)


def test_without_destinations_nothing_else_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(monkeypatch, INGEST="", RESTORE_TOKEN="").destinations == []


def test_destinations_come_as_json_and_are_told_apart_by_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stow = {**WHO, "kind": "stow", "name": "archive", "url": "http://archive/dicom-web"}
    mllp = {**WHO, "kind": "mllp", "name": "ris", "host": "ris", "port": 2575}
    settings = given(monkeypatch, PACS, stow, EHR, mllp)
    assert [one.kind for one in settings.destinations] == ["dicom", "stow", "fhir", "mllp"]
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ({**PACS, "port": 0}, "DESTINATIONS__0__DICOM__PORT"),
        ({**PACS, "ae_title": "LONGER-THAN-16-LETTERS"}, "AE_TITLE"),
        ({**PACS, "kind": "ftp"}, "'dicom', 'stow', 'fhir', 'mllp'"),
        ({**WHO, "host": "pacs"}, "kind"),
        ({**PACS, "objects": ["jpeg"]}, "OBJECTS"),
        ({**PACS, "objects": []}, "OBJECTS"),
        ({**PACS, "hostname": "pacs"}, "HOSTNAME"),
        ({**EHR, "url": "ehr/fhir"}, "URL"),
        ({**EHR, "latest_only": False}, "LATEST_ONLY"),
        ({**EHR, "user": "us"}, "user and password go together"),
        ({**EHR, "token": {"env": "NOT_THERE"}}, "the variable NOT_THERE holds no secret"),
        ({**EHR, "token": {"file": "/not/there"}}, "the file /not/there cannot be read"),
        ({**EHR, "token": {}}, "name one of env and file"),
        ({**EHR, "tls": {"ca_file": "/not/there"}}, "its files cannot be used"),
        ({**EHR, "url": "http://ehr", "tls": {}}, "tls is for an https url"),
        ({**PACS, "tls": {"cert_file": "/a"}}, "cert_file and key_file go together"),
    ],
)
def test_a_wrong_destination_is_named(
    monkeypatch: pytest.MonkeyPatch, destination: object, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        given(monkeypatch, destination)


def test_destinations_need_who_restores_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="LUNGMESH_DELIVERY__INGEST"):
        given(monkeypatch, PACS, INGEST="")


def test_two_destinations_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="same name, pacs"):
        given(monkeypatch, PACS, PACS)
    assert len(given(monkeypatch, PACS, {**PACS, "tenant": "other"}).destinations) == 2


def test_a_secret_is_read_anew_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "token"
    place.write_text("open sesame\n")
    settings = given(monkeypatch, {**EHR, "token": {"file": str(place)}})
    (destination,) = settings.destinations
    assert isinstance(destination, FhirDestination)
    assert destination.token is not None
    assert destination.token.read() == "open sesame"
    assert "sesame" not in repr(settings)
    place.write_text("second")
    assert destination.token.read() == "second"
    place.unlink()
    with pytest.raises(Unavailable):
        destination.token.read()
    monkeypatch.setenv("A_TOKEN", "third")
    assert Secret(env="A_TOKEN").read() == "third"
