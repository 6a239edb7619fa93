"""DICOM over TLS: a sender with a certificate of the authority gets in, others do not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.integration.ingest.conftest import StartIngest
from tests.support.certificates import Authority
from tests.support.ingest import IngestProcess, write_study

SLICES = 3


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ingest(start_ingest: StartIngest, authority: Authority) -> IngestProcess:
    files = authority.identity("ingest")
    return start_ingest(
        LUNGMESH_INGEST__DICOM_TLS__CERTIFICATE=str(files.certificate),
        LUNGMESH_INGEST__DICOM_TLS__KEY=str(files.key),
        LUNGMESH_INGEST__DICOM_TLS__AUTHORITY=str(files.authority),
    )


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return write_study(tmp_path / "study", "tls", SLICES)


def options(authority: Authority, signed_by: Authority) -> list[str]:
    files = signed_by.identity("sender")
    return ["+tls", str(files.key), str(files.certificate), "+cf", str(authority.file)]


@pytest.mark.usefixtures("dcmtk")
def test_a_known_sender_is_served_while_a_silent_one_waits(
    ingest: IngestProcess, authority: Authority, slices: list[Path]
) -> None:
    """The silent one has connected first, and never begins its handshake."""
    with socket.create_connection(("127.0.0.1", ingest.ports["dicom"])):
        sent = ingest.storescu(*slices, options=options(authority, authority))
    assert sent.returncode == 0, sent.stderr
    (event,) = ingest.tap.wait("tls")
    manifest = ingest.manifest(event)
    kept = [ref for series in manifest.series for ref in series.instances]
    assert len(kept) == SLICES


@pytest.mark.usefixtures("dcmtk")
def test_a_sender_of_another_authority_or_in_the_clear_is_turned_away(
    ingest: IngestProcess, authority: Authority, slices: list[Path], tmp_path: Path
) -> None:
    stranger = options(authority, Authority(tmp_path / "theirs"))
    assert ingest.storescu(slices[0], options=stranger).returncode != 0
    assert ingest.storescu(slices[0], options=["-ta", "5"]).returncode != 0
