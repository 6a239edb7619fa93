"""gRPC between services with certificates on both sides."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

from lungmesh.mesh.errors import SettingsError
from lungmesh.mesh.server import GrpcServer
from lungmesh.mesh.settings import MeshSettings, TlsSettings
from lungmesh.mesh.telemetry import Metrics
from lungmesh.mesh.tls import not_after, open_channel
from tests.support.certificates import Authority


@asynccontextmanager
async def served(tls: TlsSettings) -> AsyncIterator[str]:
    server = GrpcServer(Metrics(), TracerProvider().get_tracer("test"))

    def register(_: grpc.aio.Server) -> Sequence[str]:
        return []

    port = await server.start("127.0.0.1:0", register, tls)
    await server.set_serving(True)
    yield f"127.0.0.1:{port}"
    await server.close(0)


async def asks(channel: grpc.aio.Channel) -> int:
    async with channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=5
        )
    status: int = answer.status
    return status


async def test_two_services_of_one_authority_talk(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with served(authority.identity("server")) as address:
        channel = open_channel(address, authority.identity("caller"))
        assert await asks(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_strangers_are_refused(tmp_path: Path) -> None:
    """No TLS; no certificate; one of another authority, which the caller also trusts."""
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    stranger = other.identity("stranger").model_copy(update={"authority": authority.file})
    trusting = grpc.ssl_channel_credentials(authority.file.read_bytes())
    async with served(authority.identity("server")) as address:
        for channel in (
            open_channel(address, None),
            grpc.aio.secure_channel(address, trusting),
            open_channel(address, stranger),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await asks(channel)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    async with served(theirs.identity("server")) as address:
        with pytest.raises(grpc.aio.AioRpcError):
            await asks(open_channel(address, ours.identity("caller")))


async def test_an_absent_file_is_named(tmp_path: Path) -> None:
    files = Authority(tmp_path).identity("server")
    files.key.unlink()
    with pytest.raises(SettingsError, match=r"server\.key cannot be read: No such file"):
        async with served(files):
            pass


def test_the_files_come_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGMESH_BLOBS_URL", "file:///blobs")
    for name, path in (("CERTIFICATE", "/a.crt"), ("KEY", "/a.key"), ("AUTHORITY", "/ca.crt")):
        monkeypatch.setenv(f"LUNGMESH_TLS__{name}", path)
    tls = MeshSettings().tls
    assert tls is not None
    assert tls.key == Path("/a.key")


def test_a_certificates_end_is_known(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ends = not_after(authority.identity("service").certificate)
    assert abs(ends - time.time() - 86400) < 120
    (tmp_path / "no.crt").write_text("no certificate")
    with pytest.raises(SettingsError, match="holds no certificate"):
        not_after(tmp_path / "no.crt")
