"""A study's trace begins at the door it came in by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lungmesh.mesh.dicom_scu import Peer, send_files
from tests.support.broker import Broker
from tests.support.ingest import AE_TITLE, IngestProcess, ct_slice, until, write_study
from tests.support.watching import Receiver, receiver


@dataclass
class Traced:
    """An ingest process whose spans are collected."""

    ingest: IngestProcess
    receiver: Receiver

    def spans(self, name: str, study: str = "") -> list[Span]:
        """Return the spans of a name, and of a study where it has one."""
        wanted = self.ingest.tap.of(study)[0].study.study_id if study else ""
        return [
            span
            for _, span in self.receiver.spans
            if span.name == name
            and wanted
            in ("", *(a.value.string_value for a in span.attributes if a.key.endswith("study_id")))
        ]

    def closing(self, study: str) -> Span:
        """Return the span in which a study was closed."""
        self.ingest.tap.wait(study)
        until(lambda: self.spans("close study", study), 20, "the closing's span")
        (span,) = self.spans("close study", study)
        return span


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    broker = Broker()
    broker.start()
    with receiver() as (spans, address):
        process = IngestProcess(
            tmp_path_factory.mktemp("ingest"),
            broker,
            LUNGMESH_OTLP_ENDPOINT=address,
            OTEL_BSP_SCHEDULE_DELAY="200",
            CLOSE_ON_RELEASE="false",
            QUIET_SECONDS="5",
        )
        process.start()
        try:
            yield Traced(process, spans)
        finally:
            process.close()
            broker.kill()


def test_the_association_is_the_root_and_a_second_one_a_link(traced: Traced) -> None:
    peer = Peer("127.0.0.1", traced.ingest.ports["dicom"], ae_title=AE_TITLE)
    send_files([ct_slice("dicom", 1), ct_slice("dicom", 2)], peer).require_all_sent()
    send_files([ct_slice("dicom", 3)], peer).require_all_sent()
    closing = traced.closing("dicom")
    until(lambda: len(traced.spans("receive dicom")) == 2, 20, "the second association's span")
    first, second = sorted(traced.spans("receive dicom"), key=lambda s: s.start_time_unix_nano)
    assert first.parent_span_id == b""
    assert (closing.trace_id, closing.parent_span_id) == (first.trace_id, first.span_id)
    assert [(link.trace_id, link.span_id) for link in closing.links] == [
        (second.trace_id, second.span_id)
    ]


def test_a_stow_request_goes_on_in_its_senders_trace(traced: Traced, tmp_path: Path) -> None:
    (path,) = write_study(tmp_path, "stow", slices=1)
    answer = httpx.post(
        f"http://127.0.0.1:{traced.ingest.ports['stow']}/dicomweb/studies",
        content=path.read_bytes(),
        headers={
            "content-type": "application/dicom",
            "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
        },
        timeout=30,
    )
    assert answer.status_code == 200
    closing = traced.closing("stow")
    (received,) = traced.spans("receive stow")
    assert (received.trace_id.hex(), received.parent_span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert closing.parent_span_id == received.span_id


def test_a_call_that_closes_a_study_is_a_link(traced: Traced) -> None:
    peer = Peer("127.0.0.1", traced.ingest.ports["dicom"], ae_title=AE_TITLE)
    send_files([ct_slice("called")], peer).require_all_sent()
    traced.ingest.close_study("called")
    closing = traced.closing("called")
    until(lambda: traced.spans("lungmesh.v1.IngestService/CloseStudy"), 20, "the call's span")
    (call,) = traced.spans("lungmesh.v1.IngestService/CloseStudy")
    assert [link.span_id for link in closing.links] == [call.span_id]


def test_no_span_tells_who_the_patient_is(traced: Traced) -> None:
    told = str([span for _, span in traced.receiver.spans])
    assert "SECRET" not in told
    assert "Secret" not in told
