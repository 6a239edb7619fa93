"""A broker a test, a PostgreSQL a run, and toy services that never outlive their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess

StartToy = Callable[..., ServiceProcess]


@pytest.fixture
def toy(broker: Broker, tmp_path: Path) -> Iterator[StartToy]:
    """Make toy services by name; they share one folder."""
    made: list[ServiceProcess] = []

    def make(name: str, replica: str = "", **environment: str) -> ServiceProcess:
        service = ServiceProcess(
            "tests.integration.mesh.toy", name, tmp_path, broker.bootstrap, replica, **environment
        )
        made.append(service)
        return service

    yield make
    for service in made:
        service.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(
    request: pytest.FixtureRequest,
) -> dict[str, str]:
    """Settings of the database: a file of SQLite, or PostgreSQL."""
    if request.param == "sqlite":
        return {}
    return {"LUNGMESH_DATABASE_URL": request.getfixturevalue("postgres_url")}
