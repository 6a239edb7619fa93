"""A wrong setting stops the service with one line."""

from __future__ import annotations

import json

import pytest

from lungmesh.delivery.settings import DeliverySettings
from lungmesh.mesh import SettingsError
from lungmesh.mesh.settings import load

PACS = {"name": "pacs", "tenant": "hospital", "host": "pacs", "port": 104, "ae_title": "PACS"}


def given(monkeypatch: pytest.MonkeyPatch, **environment: str) -> DeliverySettings:
    for name, value in environment.items():
        monkeypatch.setenv(f"LUNGMESH_DELIVERY__{name}", value)
    return load(DeliverySettings)


def test_without_destinations_nothing_else_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(monkeypatch).destinations == []


def test_destinations_come_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(
        monkeypatch,
        DESTINATIONS=json.dumps([PACS]),
        INGEST="127.0.0.1:1",
        RESTORE_TOKEN="secret",
    )
    assert settings.destinations[0].ae_title == "PACS"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("destinations", "word"),
    [
        ([PACS], "LUNGMESH_DELIVERY__INGEST"),
        ([{**PACS, "port": 0}], "PORT"),
        ([{**PACS, "ae_title": "LONGER-THAN-16-LETTERS"}], "AE_TITLE"),
    ],
    ids=["no ingest", "bad port", "long AE title"],
)
def test_a_wrong_destination_is_named(
    monkeypatch: pytest.MonkeyPatch, destinations: list[object], word: str
) -> None:
    with pytest.raises(SettingsError, match=word):
        given(monkeypatch, DESTINATIONS=json.dumps(destinations))


def test_two_destinations_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="same name"):
        given(
            monkeypatch,
            DESTINATIONS=json.dumps([PACS, PACS]),
            INGEST="127.0.0.1:1",
            RESTORE_TOKEN="secret",
        )
