"""SIGKILL, a broker without memory, a full disk: nothing acknowledged is lost or comes twice."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid

import grpc
import httpx
import pytest
from kafka import KafkaProducer

from lungmesh.mesh import envelope
from lungmesh.v1.events_pb2 import FAILURE_KIND_BAD_INPUT, StudyFailed
from lungmesh.v1.ingest_pb2 import (
    STUDY_STATE_FAILED,
    STUDY_STATE_RECEIVING,
    StoreRequest,
)
from lungmesh.v1.study_pb2 import (
    CLOSED_BY_QUIET_PERIOD,
    PRIORITY_ROUTINE,
    StudyReceived,
    StudyRef,
)
from tests.integration.ingest.conftest import StartIngest
from tests.support.bad_dicom import Sender, data_set, encoded
from tests.support.ingest import (
    AE_TITLE,
    TENANT,
    IngestProcess,
    ct_slice,
    multipart,
    until,
    write_study,
)


@pytest.fixture(scope="module")
def ingest(start_ingest: StartIngest) -> IngestProcess:
    """An ingest that tests kill and start again."""
    return start_ingest(QUIET_SECONDS="2", RELEASE_GRACE_SECONDS="0.5")


def kept(ingest: IngestProcess, event: StudyReceived) -> dict[str, bytes]:
    """Return the data sets of an event's manifest by SOP Instance UID."""
    return {
        one.sop_instance_uid: data_set(ingest.blobs.get(one.file))
        for series in ingest.manifest(event).series
        for one in series.instances
    }


def test_killed_in_the_middle_of_an_association_it_goes_on_with_what_it_had(
    ingest: IngestProcess,
) -> None:
    files = [encoded(ct_slice("killed", number)) for number in range(1, 11)]
    sender = Sender(ingest.ports["dicom"], files)
    for file in files[:5]:
        assert sender.send(file).Status == 0
    ingest.kill()
    ingest.start()
    after = ingest.get_study("killed")
    assert (after.state, after.instance_count) == (STUDY_STATE_RECEIVING, 5)
    again = Sender(ingest.ports["dicom"], files)
    for file in files:
        assert again.send(file).Status == 0
    again.release()
    [event] = ingest.tap.wait("killed")
    assert event.instance_count == 10
    sent = {ct_slice("killed", n).SOPInstanceUID: data_set(files[n - 1]) for n in range(1, 11)}
    assert kept(ingest, event) == sent


def test_what_was_acknowledged_before_a_kill_is_a_study_though_the_sender_never_returns(
    ingest: IngestProcess,
) -> None:
    files = [encoded(ct_slice("left", number)) for number in range(1, 4)]
    sender = Sender(ingest.ports["dicom"], files)
    for file in files:
        assert sender.send(file).Status == 0
    # At once: the objects are in the spool alone.
    ingest.kill()
    assert len(list((ingest.folder / "spool" / TENANT).glob("*.dcm"))) == 3
    ingest.start()
    [event] = ingest.tap.wait("left")
    assert (event.instance_count, event.closed_by) == (3, CLOSED_BY_QUIET_PERIOD)
    assert not list((ingest.folder / "spool" / TENANT).iterdir())


def test_killed_right_after_a_study_was_closed_it_is_sent_once(ingest: IngestProcess) -> None:
    file = encoded(ct_slice("closed"))
    sender = Sender(ingest.ports["dicom"], [file])
    assert sender.send(file).Status == 0
    first = ingest.close_study("closed")
    ingest.kill()
    ingest.start()
    assert ingest.close_study("closed") == first
    # At least once: a kill between publishing and noting it down publishes again, by the same id.
    until(lambda: ingest.tap.of("closed"), 20, "study.received")
    assert {event.study.revision for event in ingest.tap.of("closed")} == {1}


@pytest.mark.parametrize("count", [1, 60, 250])
def test_killed_at_any_moment_every_acknowledged_object_is_kept(
    ingest: IngestProcess, count: int
) -> None:
    word = f"moment-{count}"
    files = [encoded(ct_slice(word, number)) for number in range(1, 301)]
    acknowledged = 0
    # While the next objects are under way.
    killer = threading.Timer(0.003, ingest.kill)
    sender = Sender(ingest.ports["dicom"], files)
    for file in files:
        try:
            status = sender.send(file).Status
        except AssertionError:
            break
        assert status == 0
        acknowledged += 1
        if acknowledged == count:
            killer.start()
    killer.join()
    ingest.start()
    # The one in hand at the kill may be kept too: its sender does not know, and sends it again.
    assert ingest.get_study(word).instance_count in (acknowledged, acknowledged + 1)
    [event] = ingest.tap.wait(word)
    assert event.instance_count >= acknowledged >= count


def fail(ingest: IngestProcess, study: StudyRef) -> None:
    """Tell on the bus that a stage gave the study up."""
    event = StudyFailed(
        study=study,
        stage="preprocess",
        kind=FAILURE_KIND_BAD_INPUT,
        error_class="BadInput",
        reason="No series fits.",
        event_id="e",
    )
    event.at.GetCurrentTime()
    record = envelope.outgoing(event, str(uuid.uuid4()), "test")
    producer = KafkaProducer(bootstrap_servers=ingest.broker.bootstrap)
    producer.send(record.topic, record.value, record.key, list(record.headers.items())).get(10)
    producer.close()


def test_after_the_broker_lost_its_memory_unfinished_studies_are_sent_again(
    start_ingest: StartIngest,
) -> None:
    ingest = start_ingest(RELEASE_GRACE_SECONDS="0.2")
    for word in ("finished", "unfinished"):
        file = encoded(ct_slice(word))
        sender = Sender(ingest.ports["dicom"], [file])
        assert sender.send(file).Status == 0
        sender.release()
    [finished] = ingest.tap.wait("finished")
    [unfinished] = ingest.tap.wait("unfinished")
    fail(ingest, finished.study)
    until(lambda: ingest.get_study("finished").state == STUDY_STATE_FAILED, 20, "the failure")
    assert ingest.get_study("finished").reason == "preprocess: No series fits."
    ingest.drop_tap()
    ingest.broker.kill()
    ingest.broker.start()

    def noticed() -> bool:
        text = httpx.get(f"http://127.0.0.1:{ingest.ports['metrics']}/metrics").text
        return "lungmesh_broker_resets_total 1.0" in text and "lungmesh_broker_up 1.0" in text

    until(noticed, 30, "the broker's loss is noticed")
    assert ingest.tap.wait("unfinished") == [unfinished]
    assert not ingest.tap.of("finished")


@pytest.mark.usefixtures("dcmtk")
def test_below_the_watermark_every_door_says_come_again_and_later_takes_the_study(
    start_ingest: StartIngest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ingest = start_ingest(MIN_FREE_BYTES=str(1 << 60), RELEASE_GRACE_SECONDS="0.2")
    files = write_study(tmp_path_factory.mktemp("study"), "full", 2)
    refused = ingest.storescu(*files)
    assert refused.returncode != 0
    assert "Local Limit Exceeded" in refused.stderr
    assert "Transient" in refused.stderr
    body, headers = multipart([files[0].read_bytes()])
    address = f"http://127.0.0.1:{ingest.ports['stow']}/dicomweb/studies"
    answer = httpx.post(address, content=body, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "free some" in answer.text
    request = StoreRequest(tenant=TENANT, data=b"x", last=True)
    with ingest.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Store(iter([request]), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    metrics = httpx.get(f"http://127.0.0.1:{ingest.ports['metrics']}/metrics").text
    assert 'rejected_associations_total{reason="storage_full"} 1.0' in metrics
    assert "associations are refused" in ingest.log.read_text()
    ingest.stop()
    ingest.set(MIN_FREE_BYTES="0")
    ingest.start()
    assert ingest.storescu(*files).returncode == 0
    ingest.tap.wait("full")


@pytest.mark.usefixtures("dcmtk")
def test_one_association_too_many_is_rejected_as_passing(start_ingest: StartIngest) -> None:
    ingest = start_ingest(MAX_ASSOCIATIONS="2")
    file = encoded(ct_slice("many"))
    first, second = (Sender(ingest.ports["dicom"], [file]) for _ in range(2))
    command = ["echoscu", "-v", "-aec", AE_TITLE, "127.0.0.1", str(ingest.ports["dicom"])]
    third = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Local Limit Exceeded" in third.stderr
    first.release()
    assert second.send(file).Status == 0
    second.release()

    def answered() -> bool:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    until(answered, 10, "an association after the others ended")


def test_stopped_by_an_operator_it_finishes_what_it_has(start_ingest: StartIngest) -> None:
    ingest = start_ingest(QUIET_SECONDS="1")
    files = [encoded(ct_slice("stopped", number)) for number in (1, 2)]
    sender = Sender(ingest.ports["dicom"], files)
    for file in files:
        assert sender.send(file).Status == 0
    started = time.monotonic()
    sender.release()
    ingest.stop()
    assert time.monotonic() - started < 15
    assert not list((ingest.folder / "spool" / TENANT).iterdir())
    ingest.start()
    assert ingest.get_study("stopped").instance_count == 2
    [event] = ingest.tap.wait("stopped")
    assert event.study.priority == PRIORITY_ROUTINE
