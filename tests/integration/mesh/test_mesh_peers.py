"""The ways to peers that a cluster has and one machine has not: TLS to Kafka, S3, sslmode."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from lungmesh.mesh import prepare
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.bus.kafka import KafkaBus
from lungmesh.mesh.bus.port import Outgoing
from lungmesh.mesh.db import Database
from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.settings import KafkaSettings, MeshSettings
from lungmesh.report.service import build
from tests.support.broker import Broker, free_port
from tests.support.certificates import Authority, tls_front


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def sealed_broker(authority: Authority) -> Iterator[str]:
    """A broker behind TLS; tansu's own cannot be switched on (0.1.2 forbids --cert with --key)."""
    port = free_port()
    broker = Broker(front=port)
    broker.start()
    with tls_front(port, broker.port, authority.identity("broker")):
        yield f"127.0.0.1:{port}"
    broker.kill()


def settings(bootstrap: str, authority: Authority) -> KafkaSettings:
    return KafkaSettings(
        bootstrap=bootstrap, security_protocol="SSL", partitions=1, ssl_cafile=authority.file
    )


async def test_the_bus_speaks_tls_to_the_broker(sealed_broker: str, authority: Authority) -> None:
    bus = KafkaBus(settings(sealed_broker, authority), "test")
    try:
        async with asyncio.timeout(20):
            await bus.start()
            await bus.ensure_topics(["over.tls"])
            await bus.publish([Outgoing("over.tls", b"key", b"value", {})])
    finally:
        await bus.close()


async def test_a_broker_of_another_authority_is_not_believed(
    sealed_broker: str, tmp_path: Path
) -> None:
    bus = KafkaBus(settings(sealed_broker, Authority(tmp_path)), "test")
    with pytest.raises(Unavailable, match="no broker answers"):
        await bus.ensure_topics(["over.tls"])
    await bus.close()


async def test_preparing_makes_a_services_topics(
    sealed_broker: str, authority: Authority, tmp_path: Path
) -> None:
    kafka = settings(sealed_broker, authority)
    mesh = MeshSettings(blobs_url=f"file://{tmp_path}", kafka=kafka)
    async with asyncio.timeout(30):
        topics = await prepare.prepare(build, "report", mesh, KafkaBus(kafka, "test"))
    assert {"followup.updated.stat", "report.ready.routine", "report.dlq"} <= set(topics)
    bus = KafkaBus(kafka, "test")
    made = await asyncio.to_thread(bus._admin.topic_ids, topics)
    await bus.close()
    assert set(made) == set(topics)


def test_an_s3_of_ones_own_is_reached_by_the_variables_of_the_chart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []

    class Store(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append((self.path, self.headers["authorization"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        # The chart has https alone.
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "cn-north-1",
        "AWS_ACCESS_KEY_ID": "who",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    BlobStore("s3://bucket/prefix").put("tenant/object", b"bytes")
    server.shutdown()
    ((path, signed),) = asked
    assert path == "/bucket/prefix/tenant/object"
    assert "Credential=who/" in signed
    assert "/cn-north-1/s3/" in signed


async def test_a_database_without_tls_is_refused_where_it_is_asked_for(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    """PGSSLMODE and PGSSLROOTCERT, as the chart sets them, reach libpq through the driver."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(authority.file))
    database = Database(postgres_url.replace("postgresql+psycopg:", "postgresql:"), "report")
    with pytest.raises(OperationalError, match="SSL"):
        async with database.sessions() as session:
            await session.execute(text("SELECT 1"))
    await database.close()
