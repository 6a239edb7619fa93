"""A broker and an ingest process a module, on SQLite unless a test asks for PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.ingest import IngestProcess

StartIngest = Callable[..., IngestProcess]


@pytest.fixture(scope="module")
def start_ingest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartIngest]:
    """Start ingest processes, each with a broker and a folder of its own."""
    made: list[IngestProcess] = []
    brokers: list[Broker] = []

    def start(**settings: str) -> IngestProcess:
        folder: Path = tmp_path_factory.mktemp("ingest")
        broker = Broker()
        brokers.append(broker)
        broker.start()
        process = IngestProcess(folder, broker, **settings)
        made.append(process)
        process.start()
        return process

    yield start
    for process in made:
        process.close()
    for broker in brokers:
        broker.kill()


@pytest.fixture
def dcmtk() -> None:
    """Skip where dcmtk is not installed."""
    if shutil.which("storescu") is None:
        pytest.skip("dcmtk (Debian package dcmtk) is not installed")
