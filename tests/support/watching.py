"""What watches a mesh: a real Prometheus over its processes, and a receiver of traces (OTLP)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.broker import free_port
from tests.support.mesh import wait_for


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span that a process exports.

    Attributes
    ----------
    spans
        Service name and span, as they came.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self._lock = threading.Lock()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Take a batch."""
        with self._lock:
            for resource in request.resource_spans:
                names = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [(names["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def receiver() -> Iterator[tuple[Receiver, str]]:
    """Run a receiver until the block ends; give it with its address."""
    servicer = Receiver()
    server = grpc.server(ThreadPoolExecutor(4))
    add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(1).wait()


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str) -> None:
        self._address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def ask(self, path: str, **parameters: str) -> Any:
        """Return what its API answers; fails with its own words."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{parameters}: {error.read().decode()}")


@contextmanager
def prometheus(targets: Mapping[str, str], rules: Path, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus over targets (service to host:port) until the block ends.

    The rules run every two seconds whatever their own interval is: a test does not wait minutes.
    """
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    folder.mkdir(parents=True)
    (folder / "rules.yaml").write_text(re.sub(r"(?m)^ +interval: .*\n", "", rules.read_text()))
    config = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [
            {
                "job_name": "lungmesh",
                "static_configs": [
                    {"targets": [address], "labels": {"service": service}}
                    for service, address in targets.items()
                ],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(lambda: _ready(address) or process.poll() is not None, 60, "Prometheus' start")
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            yield Prometheus(address)
        finally:
            process.terminate()
            process.wait(30)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
