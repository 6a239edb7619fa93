"""Preprocess as a process on a real broker: the demo CT in, its volume out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from lungmesh.demo.case import write_small_case
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.headers import read_headers
from lungmesh.v1.events_pb2 import FAILURE_KIND_BAD_INPUT, StageProgress, StudyFailed
from lungmesh.v1.volume_pb2 import PrepareRequest, VolumeReady
from lungmesh.v1.volume_pb2_grpc import PreprocessServiceStub
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, tap, until
from tests.support.mesh import require_embedded_wheels
from tests.support.preprocess import receive

OUT, FAILED, PROGRESS = (
    "volume.ready.routine",
    "study.failed.routine",
    "stage.progress.routine",
)


@pytest.fixture
def service(broker: Broker, tmp_path: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess("lungmesh.mesh.serve", "preprocess", tmp_path, broker.bootstrap)
    yield process
    process.kill()


async def test_a_study_becomes_a_volume_and_a_bad_one_a_reason(
    service: ServiceProcess, broker: Broker, tmp_path: Path
) -> None:
    require_embedded_wheels()
    write_small_case(tmp_path / "dicom", "demo", "preprocess-integration", keep_every=2)
    write_small_case(tmp_path / "two", "demo", "two-slices", keep_every=100)
    blobs = BlobStore(f"file://{tmp_path}/blobs")
    event = receive(blobs, sorted((tmp_path / "dicom").iterdir()))
    few = receive(blobs, sorted((tmp_path / "two").iterdir()))
    await service.start()
    async with tap(broker.bootstrap, OUT, FAILED, PROGRESS) as line:
        await line.publish(few, event)
        await until(lambda: line.of(OUT), 60, "the volume is ready")
        await until(lambda: line.of(FAILED), 10, "the bad study is told of")
        ready = VolumeReady.FromString(line.of(OUT)[0].value)
        failure = StudyFailed.FromString(line.of(FAILED)[0].value)
        progress = [StageProgress.FromString(record.value) for record in line.of(PROGRESS)]
    assert ready.study == event.study
    hu = read_array(blobs, ready.volume.hu)
    lobes = read_array(blobs, ready.volume.lobes)
    assert hu.shape == lobes.shape == tuple(reversed(ready.volume.geometry.size))
    assert hu.shape == (67, 256, 256)
    assert set(np.unique(lobes)) == {0, 1, 2, 3, 4, 5}
    assert len(read_headers(blobs, ready.volume.headers)) == 67
    assert {"reading headers", "decoding slices", "finding lungs"} & {p.detail for p in progress}
    assert failure.study == few.study
    assert failure.kind == FAILURE_KIND_BAD_INPUT
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
        stub = PreprocessServiceStub(channel)
        by_call = await stub.Prepare(PrepareRequest(event=event), timeout=60)
        assert by_call.event == ready, "the same handler, by gRPC and by event"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Prepare(PrepareRequest(event=few), timeout=60)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == failure.reason
