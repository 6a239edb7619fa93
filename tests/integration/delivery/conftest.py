"""Real DICOM peers, and one written report that every test here sends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lungmesh.delivery.parcel import Parcel
from lungmesh.mesh.blobs import BlobStore
from lungmesh.v1.report_pb2 import ReportReady
from tests.support.delivery import parcel, written
from tests.support.pacs import orthanc, running_scp, scp
from tests.support.report import made_up_case

__all__ = ["orthanc", "running_scp", "scp"]


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the report lies."""
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="session")
def report(reports: Path) -> ReportReady:
    """A report of two nodules, one with key images."""
    return asyncio.run(written(made_up_case(reports), key_images=1))


@pytest.fixture(scope="session")
def to_send(report: ReportReady, reports: Path) -> Parcel:
    """The report as a sender is given it."""
    return parcel(report, BlobStore(f"file://{reports}/blobs"))
