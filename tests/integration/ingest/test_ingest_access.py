"""Who may send, and how much."""

from __future__ import annotations

import re
import subprocess

import httpx
import pytest

from tests.integration.ingest.conftest import StartIngest
from tests.support.bad_dicom import Sender, encoded
from tests.support.ingest import AE_TITLE, IngestProcess, ct_slice, multipart


@pytest.fixture(scope="module")
def ingest(start_ingest: StartIngest) -> IngestProcess:
    """An ingest that knows its senders; its STOW-RS door belongs to another tenant."""
    return start_ingest(
        CALLING_AE_TITLES='["SCANNER", "TESTS"]',
        STOW_TOKENS='{"first-token": "north", "second-token": "south"}',
        MAX_REQUEST_BYTES="20000",
        RELEASE_GRACE_SECONDS="0.2",
        QUIET_SECONDS="0.5",
    )


def post(ingest: IngestProcess, token: str, *files: bytes) -> httpx.Response:
    """Send by STOW-RS."""
    body, headers = multipart(files)
    if token:
        headers["authorization"] = f"Bearer {token}"
    address = f"http://127.0.0.1:{ingest.ports['stow']}/dicomweb/studies"
    return httpx.post(address, content=body, headers=headers)


@pytest.mark.usefixtures("dcmtk")
@pytest.mark.parametrize(("title", "taken"), [("SCANNER", True), ("STRANGER", False)])
def test_only_known_calling_ae_titles_associate(
    ingest: IngestProcess, title: str, taken: bool
) -> None:
    command = ["echoscu", "-v", "-aet", title, "-aec", AE_TITLE, "127.0.0.1"]
    answer = subprocess.run(
        [*command, str(ingest.ports["dicom"])], capture_output=True, text=True, check=False
    )
    assert (answer.returncode == 0) == taken
    # DCMTK words it by its version: "Not Recognized", "not recognised".
    refused = re.search(r"(?i)calling ae title not recogni[sz]ed", answer.stderr)
    assert (refused is None) == taken


def test_stow_needs_the_token_of_a_tenant_and_keeps_tenants_apart(ingest: IngestProcess) -> None:
    file = encoded(ct_slice("access"))
    for token in ("", "wrong"):
        answer = post(ingest, token, file)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert post(ingest, "first-token", file).status_code == 200
    assert post(ingest, "second-token", file).status_code == 200
    sender = Sender(ingest.ports["dicom"], [file])
    assert sender.send(file).Status == 0
    sender.release()
    events = ingest.tap.wait("access", 3)
    assert {event.study.tenant for event in events} == {"north", "south", "default"}
    assert len({event.study.study_id for event in events}) == 3
    assert len({event.study.patient for event in events}) == 3
    for event in events:
        assert event.manifest.key.startswith(f"{event.study.tenant}/")


def test_a_request_that_is_too_large_is_refused_whether_or_not_it_says_its_size(
    ingest: IngestProcess,
) -> None:
    files = [encoded(ct_slice("large", number)) for number in range(1, 12)]
    assert post(ingest, "first-token", *files).status_code == 413
    body, headers = multipart(files)
    headers["authorization"] = "Bearer first-token"
    address = f"http://127.0.0.1:{ingest.ports['stow']}/dicomweb/studies"
    # In chunks, so that the size is not known before.
    answer = httpx.post(address, content=iter([body]), headers=headers)
    assert answer.status_code == 413
    assert "20000" in answer.text
