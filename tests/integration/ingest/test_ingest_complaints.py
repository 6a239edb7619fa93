"""What users of other systems complain of cannot happen here; each docstring names the issue."""

from __future__ import annotations

import socket
import time

import grpc
import httpx
import pytest

from lungmesh.v1.ingest_pb2 import (
    STUDY_STATE_EXPIRED,
    STUDY_STATE_RECEIVING,
    ListQuarantineRequest,
)
from lungmesh.v1.study_pb2 import CLOSED_BY_ASSOCIATION_RELEASE, CLOSED_BY_QUIET_PERIOD
from tests.integration.ingest.conftest import StartIngest
from tests.support.bad_dicom import BAD_DICOM, Sender, data_set, encoded
from tests.support.ingest import TENANT, IngestProcess, ct_slice, multipart, until


@pytest.fixture(scope="module")
def ingest(start_ingest: StartIngest) -> IngestProcess:
    """An ingest whose every wait is short."""
    return start_ingest(
        QUIET_SECONDS="0.6",
        RELEASE_GRACE_SECONDS="0.2",
        EXPIRY_SECONDS="2.5",
        HOLD_SECONDS="8",
        ASSOCIATION_IDLE_SECONDS="3",
    )


def test_a_study_is_not_cut_in_two_while_its_slices_still_arrive(ingest: IngestProcess) -> None:
    """mercure 45: a timer fired while slices still arrived, and the study was cut in two."""
    files = [encoded(ct_slice("slow", number)) for number in range(1, 5)]
    sender = Sender(ingest.ports["dicom"], files)
    for file in files:
        assert sender.send(file).Status == 0
        # More than twice the quiet period.
        time.sleep(1.4)
    sender.release()
    [event] = ingest.tap.wait("slow")
    assert (event.study.revision, event.instance_count) == (1, 4)
    assert event.closed_by == CLOSED_BY_ASSOCIATION_RELEASE


def test_an_odd_data_set_neither_ends_its_association_nor_is_lost(ingest: IngestProcess) -> None:
    """mercure 50: an odd data set aborted the association, and the object was gone."""
    odd = next(bad for bad in BAD_DICOM if bad.name == "noise").file("odd")
    good = encoded(ct_slice("beside the odd one"))
    sender = Sender(ingest.ports["dicom"], [odd, good])
    assert sender.send(odd).Status == 0xC004
    assert sender.send(good).Status == 0
    sender.release()
    ingest.tap.wait("beside the odd one")
    with ingest.stub() as stub:
        entries = stub.ListQuarantine(ListQuarantineRequest(tenant=TENANT)).entries
    assert data_set(odd) in {data_set(ingest.blobs.get(entry.object)) for entry in entries}


def test_an_object_with_odd_private_elements_is_simply_taken(ingest: IngestProcess) -> None:
    """mercure 50: the odd data set was a harmless one."""
    ds = ct_slice("private")
    block = ds.private_block(0x0009, "ODD MAKER", create=True)
    block.add_new(0x01, "UN", b"\xff\x00\xfe")
    block.add_new(0x02, "LO", "x" * 200)
    file = encoded(ds)
    sender = Sender(ingest.ports["dicom"], [file])
    assert sender.send(file).Status == 0
    sender.release()
    ingest.tap.wait("private")


def test_one_bad_instance_does_not_block_the_rest(ingest: IngestProcess) -> None:
    """DICOM-RST 56: one bad instance blocked the rest, each timing out in turn."""
    files = [encoded(ct_slice("rest", number)) for number in (1, 2, 3, 4)]
    files[1] = encoded(ct_slice("rest", 2, ImagePositionPatient=None))
    body, headers = multipart(files)
    address = f"http://127.0.0.1:{ingest.ports['stow']}/dicomweb/studies"
    started = time.monotonic()
    answer = httpx.post(address, content=body, headers=headers, timeout=20)
    assert time.monotonic() - started < 2
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 3
    [failed] = answer.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [ct_slice("rest", 2).SOPInstanceUID]
    [event] = ingest.tap.wait("rest")
    assert (event.instance_count, event.closed_by) == (3, CLOSED_BY_QUIET_PERIOD)


def test_work_that_leads_to_nothing_ends_and_says_why(ingest: IngestProcess) -> None:
    """MONAI Deploy gateway 347, dcm4chee 4355, ClearCanvas 188: it never ended and said nothing."""
    file = encoded(ct_slice("hopeless", PixelSpacing=None))
    sender = Sender(ingest.ports["dicom"], [file])
    assert sender.send(file).Status == 0xA909
    sender.release()
    waiting = ingest.get_study("hopeless")
    assert waiting.state == STUDY_STATE_RECEIVING
    assert "1 refused (missing_geometry 1)" in waiting.reason
    assert "for at most 2.5 s" in waiting.reason
    until(lambda: ingest.get_study("hopeless").state == STUDY_STATE_EXPIRED, 10, "the end")
    ended = ingest.get_study("hopeless")
    assert "no usable CT image" in ended.reason
    assert "missing_geometry 1" in ended.reason
    assert ended.since.ToSeconds() >= waiting.since.ToSeconds()
    with pytest.raises(grpc.RpcError, match="no usable CT image"):
        ingest.close_study("hopeless")
    # And a good image later makes a study of it after all.
    good = encoded(ct_slice("hopeless", 2))
    sender = Sender(ingest.ports["dicom"], [good])
    assert sender.send(good).Status == 0
    sender.release()
    [event] = ingest.tap.wait("hopeless")
    assert event.instance_count == 1


def test_a_sender_that_falls_silent_holds_nothing_for_ever(ingest: IngestProcess) -> None:
    """MONAI Deploy gateway 347: an association that neither went on nor ended."""
    file = encoded(ct_slice("silent"))
    sender = Sender(ingest.ports["dicom"], [file])
    assert sender.send(file).Status == 0
    # Half a P-DATA-TF, then nothing.
    stream: socket.socket = sender.association.dul.socket.socket  # type: ignore[union-attr, assignment]
    stream.sendall(b"\x04\x00\x00\x00\x10\x00" + b"\0" * 100)
    [event] = ingest.tap.wait("silent", seconds=15)
    assert event.closed_by == CLOSED_BY_QUIET_PERIOD
    # The longest it can have waited is the idle limit and a quiet period.
    assert ingest.get_study("silent").instance_count == 1


def test_the_oldest_open_study_is_a_metric_to_alarm_on(ingest: IngestProcess) -> None:
    """dcm4chee 4355: nobody could see that work was stuck."""
    file = encoded(ct_slice("alarm"))
    sender = Sender(ingest.ports["dicom"], [file])
    assert sender.send(file).Status == 0

    def metric(name: str) -> float:
        text = httpx.get(f"http://127.0.0.1:{ingest.ports['metrics']}/metrics").text
        [line] = [line for line in text.splitlines() if line.startswith(name)]
        return float(line.split()[1])

    until(lambda: metric("lungmesh_ingest_open_studies") == 1, 10, "an open study")
    sender.release()
    until(lambda: metric("lungmesh_ingest_open_studies") == 0, 10, "no open study")
    assert metric("lungmesh_ingest_oldest_open_study_seconds") == 0
