"""Bad DICOM into the whole mesh: each object is answered, and a good study is still read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc

from lungmesh.embedded.state import TENANT
from lungmesh.v1.ingest_pb2 import ListQuarantineRequest, StoreRequest
from lungmesh.v1.ingest_pb2_grpc import IngestServiceStub
from tests.e2e.conftest import Up, command
from tests.support.bad_dicom import BAD_DICOM

# The mesh takes large objects, and these kinds need something good before them or another door.
KINDS = [
    kind
    for kind in BAD_DICOM
    if "grpc" in kind.doors and not kind.earlier("x") and kind.code != "oversized"
]


def test_after_twenty_kinds_of_bad_dicom_the_mesh_still_reads_a_good_study(
    up: Up, small_study: Callable[..., Path], tmp_path: Path
) -> None:
    assert len(KINDS) >= 20
    files = [kind.file(f"e2e-bad-{index}") for index, kind in enumerate(KINDS)]
    with grpc.insecure_channel(up.address("ingest", "grpc")) as channel:
        stub = IngestServiceStub(channel)
        requests = (StoreRequest(tenant=TENANT, data=file, last=True) for file in files)
        outcomes = stub.Store(requests, timeout=60).outcomes
        kept = stub.ListQuarantine(ListQuarantineRequest(tenant=TENANT), timeout=30).entries
    answered = {kind.name: outcome.status for kind, outcome in zip(KINDS, outcomes, strict=True)}
    assert answered == {kind.name: kind.status for kind in KINDS}
    assert all(outcome.comment for outcome in outcomes)
    assert {kind.code for kind in KINDS} <= {entry.code for entry in kept}

    ended = command(
        "run", small_study("after-bad", "E2E-BAD"), "--out", tmp_path, "--data", up.data
    )
    assert ended.status == 0, ended.stderr
    assert (tmp_path / "report.pdf").is_file()
