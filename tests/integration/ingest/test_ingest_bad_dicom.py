"""Every kind of bad DICOM by every door: the stated answer, quarantine, and nothing else stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lungmesh.v1.ingest_pb2 import (
    GetStudyRequest,
    ListQuarantineRequest,
    QuarantineEntry,
    StoreRequest,
)
from tests.integration.ingest.conftest import StartIngest
from tests.support.bad_dicom import (
    BAD_DICOM,
    MAX_OBJECT_BYTES,
    BadObject,
    Sender,
    data_set,
    encoded,
)
from tests.support.ingest import TENANT, IngestProcess, ct_slice, study_uid

DICOM = {"content-type": "application/dicom"}


def by(door: str) -> list[BadObject]:
    """Return the kinds that a door can carry."""
    return [bad for bad in BAD_DICOM if door in bad.doors]


@pytest.fixture(scope="module")
def ingest(start_ingest: StartIngest) -> IngestProcess:
    """An ingest that takes small objects only."""
    return start_ingest(MAX_OBJECT_BYTES=str(MAX_OBJECT_BYTES), RELEASE_GRACE_SECONDS="0.2")


def quarantine(ingest: IngestProcess) -> list[QuarantineEntry]:
    """Return what is kept of refused objects."""
    with ingest.stub() as stub:
        return list(stub.ListQuarantine(ListQuarantineRequest(tenant=TENANT)).entries)


def kept(ingest: IngestProcess) -> dict[bytes, QuarantineEntry]:
    """Return every refused object's bytes with its entry."""
    return {ingest.blobs.get(entry.object): entry for entry in quarantine(ingest)}


def good_study_is_received(ingest: IngestProcess, word: str, sender: Sender) -> None:
    """Send a good study over the same association, and see it arrive once."""
    for number in (1, 2, 3):
        assert sender.send(encoded(ct_slice(word, number))).Status == 0
    sender.release()
    [event] = ingest.tap.wait(word)
    assert event.instance_count == 3


def test_over_one_association_each_gets_its_status_and_the_association_goes_on(
    ingest: IngestProcess,
) -> None:
    cases = by("dicom")
    assert len(cases) >= 20
    files = {bad.name: bad.file(f"dicom-{bad.name}") for bad in cases}
    sender = Sender(ingest.ports["dicom"], [*files.values(), encoded(ct_slice("any"))])
    for bad in cases:
        for good in bad.earlier(f"dicom-{bad.name}"):
            assert sender.send(good).Status == 0
        answer = sender.send(files[bad.name])
        assert (bad.name, hex(answer.Status)) == (bad.name, hex(bad.status))
        assert 0 < len(answer.ErrorComment) <= 64, bad.name
    good_study_is_received(ingest, "after-bad-dicom", sender)
    entries = {data_set(whole): entry for whole, entry in kept(ingest).items()}
    for bad in cases:
        entry = entries[data_set(files[bad.name])]
        assert (bad.name, entry.code, entry.status) == (bad.name, bad.code, bad.status)
        assert len(entry.reason) > 20
        assert entry.reason.endswith(".")


def test_each_by_stow_gets_its_status_and_its_failure_reason(ingest: IngestProcess) -> None:
    address = f"http://127.0.0.1:{ingest.ports['stow']}/dicomweb/studies"
    with httpx.Client(timeout=20) as client:
        for bad in by("stow"):
            for good in bad.earlier(f"stow-{bad.name}"):
                assert client.post(address, content=good, headers=DICOM).status_code == 200
            url = f"{address}/{bad.asked_study}" if bad.asked_study else address
            boundary = "b0undary"
            body = (
                f"--{boundary}\r\ncontent-type: application/dicom\r\n\r\n".encode()
                + bad.file(f"stow-{bad.name}")
                + f"\r\n--{boundary}--\r\n".encode()
            )
            kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
            answer = client.post(url, content=body, headers={"content-type": kind})
            assert (bad.name, answer.status_code) == (bad.name, bad.http), answer.text
            failures = [
                *answer.json().get("00081198", {}).get("Value", []),
                *answer.json().get("0008119A", {}).get("Value", []),
            ]
            assert [item["00081197"]["Value"] for item in failures] == [[bad.status]], bad.name
            assert failures[0]["00000902"]["Value"][0].endswith("."), bad.name
    good_study_is_received(
        ingest, "after-bad-stow", Sender(ingest.ports["dicom"], [encoded(ct_slice("any"))])
    )
    entries = kept(ingest)
    for bad in by("stow"):
        assert entries[bad.file(f"stow-{bad.name}")].code == bad.code, bad.name


def test_each_in_one_grpc_stream_gets_its_outcome_in_order(ingest: IngestProcess) -> None:
    cases = by("grpc")
    files: list[bytes] = []
    expected: list[tuple[str, int]] = []
    for bad in cases:
        for good in bad.earlier(f"grpc-{bad.name}"):
            files.append(good)
            expected.append((bad.name, 0))
        files.append(bad.file(f"grpc-{bad.name}"))
        expected.append((bad.name, bad.status))
    files.append(encoded(ct_slice("grpc-good-after")))
    expected.append(("good", 0))

    def parts() -> Iterator[StoreRequest]:
        for file in files:
            middle = len(file) // 2
            yield StoreRequest(tenant=TENANT, data=file[:middle])
            yield StoreRequest(tenant=TENANT, data=file[middle:], last=True)

    with ingest.stub() as stub:
        outcomes = stub.Store(parts(), timeout=30).outcomes
        assert [outcome.status for outcome in outcomes] == [status for _, status in expected]
        assert all(bool(outcome.comment) == bool(outcome.status) for outcome in outcomes)
        request = GetStudyRequest(tenant=TENANT, study_instance_uid=study_uid("grpc-good-after"))
        ingest.tap.wait("grpc-good-after")
        assert stub.GetStudy(request).instance_count == 1
    entries = kept(ingest)
    for bad in cases:
        assert entries[bad.file(f"grpc-{bad.name}")].code == bad.code, bad.name


def test_no_patient_stands_in_the_log_or_in_a_reason(ingest: IngestProcess) -> None:
    """Runs last: everything above is in the log."""
    text = ingest.log.read_text() + " ".join(entry.reason for entry in quarantine(ingest))
    for secret in ("Secret", "SECRET", "SOMEBODY"):
        assert secret not in text
    names = " ".join(str(path) for path in Path(ingest.folder).rglob("*"))
    assert "SECRET" not in names
