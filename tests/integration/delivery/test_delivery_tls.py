"""Every way to a destination over TLS: a peer that our authority did not sign gets nothing."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lungmesh.delivery.parcel import Parcel, Sender
from lungmesh.delivery.service import sender_of
from lungmesh.delivery.settings import DicomDestination, FhirDestination, MllpDestination
from lungmesh.mesh import Unavailable
from tests.support.broker import free_port
from tests.support.certificates import Authority, tls_front
from tests.support.delivery import Ehr, Ris, receiving, serving
from tests.support.pacs import Scp, listening

WHO: dict[str, Any] = {"name": "peer", "tenant": "hospital", "connect_seconds": 30}


@asynccontextmanager
async def peer(
    kind: str, hospital: Authority, trusted: Authority
) -> AsyncIterator[tuple[Sender, Any]]:
    """Run a peer that speaks TLS; yields the way to it and the peer."""
    there, here = hospital.identity("peer"), trusted.identity("us")
    tls = {"ca_file": trusted.file, "cert_file": here.certificate, "key_file": here.key}
    facts = {**WHO, "kind": kind, "tls": tls}
    port = free_port()
    if kind == "dicom":
        with listening(Scp()) as scp, tls_front(port, scp.port, there):
            place = {**facts, "host": "localhost", "port": port, "ae_title": "PACS"}
            yield sender_of(DicomDestination.model_validate(place)), scp
    elif kind == "fhir":
        ehr, behind = Ehr(), free_port()
        async with serving(ehr, behind):
            with tls_front(port, behind, there):
                url = f"https://localhost:{port}/fhir"
                place = {**facts, "url": url, "patient_system": "urn:test"}
                yield sender_of(FhirDestination.model_validate(place)), ehr
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(hospital.file))
        context.load_cert_chain(there.certificate, there.key)
        context.verify_mode = ssl.CERT_REQUIRED
        async with receiving(Ris(), ssl=context) as ris:
            place = {**facts, "host": "localhost", "port": ris.port}
            yield sender_of(MllpDestination.model_validate(place)), ris


@pytest.mark.parametrize("kind", ["dicom", "fhir", "mllp"])
async def test_a_peer_with_the_right_certificate_gets_the_report(
    to_send: Parcel, tmp_path: Path, kind: str
) -> None:
    authority = Authority(tmp_path / "authority")
    async with peer(kind, authority, authority) as (sender, there):
        await sender.send(to_send)
    got = {"dicom": "received", "fhir": "resources", "mllp": "messages"}[kind]
    assert getattr(there, got)


@pytest.mark.parametrize("kind", ["dicom", "fhir", "mllp"])
async def test_a_peer_with_another_certificate_gets_nothing(
    to_send: Parcel, tmp_path: Path, kind: str
) -> None:
    hospital, other = Authority(tmp_path / "hospital"), Authority(tmp_path / "other")
    async with peer(kind, hospital, other) as (sender, there):
        with pytest.raises(Unavailable):
            await sender.send(to_send)
    got = {"dicom": "received", "fhir": "resources", "mllp": "messages"}[kind]
    assert not getattr(there, got)
