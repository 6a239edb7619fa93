"""The real peers that integration tests share: a broker a test, a PostgreSQL server a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker import Broker
from tests.support.postgres import postgres


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker that is killed at the end."""
    running = Broker()
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL server; each service has a schema of its own in it."""
    with postgres() as url:
        yield url
