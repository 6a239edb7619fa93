"""Blobs, arrays, ids, envelopes, settings and what is told of an error."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import numpy as np
import obstore
import pytest

from lungmesh.mesh import BadInput, SettingsError, Unavailable, envelope, ids
from lungmesh.mesh.arrays import open_array, read_array, write_array
from lungmesh.mesh.blobs import BlobCorrupt, BlobMissing, BlobStore
from lungmesh.mesh.bus.port import Record
from lungmesh.mesh.errors import told
from lungmesh.mesh.settings import MeshSettings, load
from lungmesh.mesh.telemetry import JsonFormatter
from lungmesh.v1.study_pb2 import PRIORITY_STAT, BlobRef, StudyReceived
from lungmesh.v1.volume_pb2 import VolumeReady
from tests.support.chassis import study_received


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(f"file://{tmp_path}/blobs")


def test_a_blob_comes_back_as_it_was_put(blobs: BlobStore) -> None:
    ref = blobs.put("a/b", b"bytes", "text/plain")
    assert (ref.size_bytes, ref.media_type) == (5, "text/plain")
    assert blobs.get(ref) == b"bytes"
    assert list(blobs.keys("a")) == ["a/b"]
    assert blobs.exists("a/b")
    blobs.delete("a/b")
    blobs.delete("a/b")
    assert not blobs.exists("a/b")


def test_a_missing_blob_and_a_changed_one_are_told_apart(blobs: BlobStore) -> None:
    ref = blobs.put("a/b", b"bytes")
    blobs.put("a/b", b"other")
    with pytest.raises(BlobCorrupt, match="a/b does not have the checksum"):
        blobs.get(ref)
    blobs.delete("a/b")
    with pytest.raises(BlobMissing, match="no object a/b"):
        blobs.get(ref)


def test_no_key_leads_out_of_the_store(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("no")
    with pytest.raises(BlobMissing):
        blobs.get_key("../secret")


def test_a_store_that_cannot_be_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="LUNGMESH_BLOBS_URL"):
        BlobStore(f"file://{tmp_path}/file/below")


def test_a_slab_of_an_array_is_read_without_the_rest(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    array = rng.integers(-1000, 400, (40, 160, 160), np.int16)
    ref = write_array(blobs, "a/hu", array)
    stored = open_array(blobs, ref)
    read = []
    for name in ("get_async", "get_range_async", "get_ranges_async"):
        original = getattr(obstore, name)

        async def counted(*args: object, _original: object = original, **options: object) -> object:
            answer = await _original(*args, **options)  # type: ignore[operator]
            size = len(answer) if hasattr(answer, "__len__") else 0
            read.append(sum(map(len, answer)) if isinstance(answer, list) else size)
            return answer

        monkeypatch.setattr(obstore, name, counted)
    np.testing.assert_array_equal(np.asarray(stored[3:5, :100, :100]), array[3:5, :100, :100])
    assert 0 < sum(read) < 0.3 * array.nbytes
    np.testing.assert_array_equal(read_array(blobs, ref), array)


def test_a_changed_array_is_noticed(blobs: BlobStore) -> None:
    array = np.zeros((4, 8, 8), np.int16)
    ref = write_array(blobs, "a/hu", array)
    write_array(blobs, "a/hu", array + 1)
    with pytest.raises(BlobCorrupt):
        read_array(blobs, ref)
    with pytest.raises(BlobMissing):
        read_array(blobs, BlobRef(key="a/none", sha256=ref.sha256))


def test_an_array_that_stands_whole_is_not_written_again(blobs: BlobStore, tmp_path: Path) -> None:
    """Another service may be reading it while a repeated event writes the same."""
    array = np.arange(4 * 8 * 8, dtype=np.int16).reshape(4, 8, 8)
    ref = write_array(blobs, "a/hu", array)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert write_array(blobs, "a/hu", array) == ref
    assert before == {path: path.stat().st_mtime_ns for path in before}
    chunk = next(path for path in before if "/c/" in str(path))
    (tmp_path / "blobs/a/hu/zarr.json").write_text(
        (tmp_path / "blobs/a/hu/zarr.json").read_text().replace(ref.sha256, "")
    )
    chunk.unlink()  # as a process leaves it that was killed while it wrote
    write_array(blobs, "a/hu", array)
    np.testing.assert_array_equal(read_array(blobs, ref), array)


def test_ids_tell_parts_apart_and_never_change() -> None:
    assert ids.deterministic_id("ab", "c") != ids.deterministic_id("a", "bc")
    assert ids.study_id("hospital-a", "1.2.3") == "9f597b3b-2e30-51e1-9810-8548be62d37f"
    uid = ids.dicom_uid("report", "x")
    assert uid.startswith("2.25.")
    assert len(uid) <= 64


def test_an_event_survives_its_envelope() -> None:
    event = study_received(priority=PRIORITY_STAT)
    out = envelope.outgoing(event, "id-1", "ingest", {"traceparent": "00-1-2-01"})
    assert out.topic == "study.received.stat"
    assert out.key == event.study.patient.encode()
    assert out.headers["ce_type"] == b"lungmesh.v1.StudyReceived"
    assert out.headers["ce_specversion"] == b"1.0"
    read = envelope.decode(
        Record(out.topic, 0, 7, out.key, out.value, out.headers), (StudyReceived,)
    )
    assert (read.message, read.event_id, read.lane, read.attempt) == (event, "id-1", "stat", 0)
    again = envelope.retry(read, "preprocess", 5.0, now=100.0)
    assert again.topic == "preprocess.retry.1"
    assert again.headers["traceparent"] == b"00-1-2-01"
    later = envelope.decode(
        Record(again.topic, 0, 0, again.key, again.value, again.headers), (StudyReceived,)
    )
    assert (later.attempt, later.not_before) == (1, 105.0)
    third = envelope.retry(later, "preprocess", 5.0, now=100.0)
    assert third.headers[envelope.ORIGINAL_TOPIC] == b"study.received.stat"
    assert third.headers[envelope.ORIGINAL_OFFSET] == b"7"


def test_an_event_of_another_type_is_refused() -> None:
    out = envelope.outgoing(study_received(), "id-1", "ingest")
    record = Record(out.topic, 0, 0, out.key, out.value, out.headers)
    with pytest.raises(BadInput, match=r"'lungmesh.v1.StudyReceived' is not taken here"):
        envelope.decode(record, (VolumeReady,))


def test_wrong_and_missing_settings_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUNGMESH_BLOBS_URL", raising=False)
    monkeypatch.setenv("LUNGMESH_GRPC_PORT", "high")
    with pytest.raises(SettingsError) as raised:
        load(MeshSettings)
    text = str(raised.value)
    assert "\n" not in text
    assert "LUNGMESH_BLOBS_URL: Field required" in text
    assert "LUNGMESH_GRPC_PORT: Input should be a valid integer" in text


def test_a_password_is_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGMESH_BLOBS_URL", "file:///tmp/x")
    monkeypatch.setenv("LUNGMESH_KAFKA__SASL_PASSWORD", "open sesame")
    assert "sesame" not in repr(load(MeshSettings))


def test_logs_name_the_class_of_a_foreign_error_and_never_its_text() -> None:
    name = "^".join(("Li", "Wei"))
    try:
        try:
            raise ValueError(f"Invalid value for VR PN: {name!r}")
        except ValueError as error:
            raise Unavailable("the header cannot be read") from error
    except Unavailable:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "it failed", (), sys.exc_info())
    line = JsonFormatter("one").format(record)
    assert name not in line
    assert "ValueError" in line
    assert "Unavailable: the header cannot be read" in line


def test_the_stack_of_an_error_has_its_frames_and_its_cause() -> None:
    def inner() -> None:
        raise KeyError("Wang")

    try:
        inner()
    except KeyError as error:
        text = told(error)
    assert "in inner" in text
    assert text.endswith("KeyError")


async def test_blobs_can_be_put_from_many_threads(blobs: BlobStore) -> None:
    await asyncio.gather(
        *(asyncio.to_thread(blobs.put, "same", bytes([n]) * 1000) for n in range(20))
    )
    assert len(set(blobs.get_key("same"))) == 1, "whole, whoever was last"
