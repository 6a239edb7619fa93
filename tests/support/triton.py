"""The real embedded Triton for tests: one server a session, with the models of the repository."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lungmesh.embedded import triton
from lungmesh.embedded.layout import Layout
from lungmesh.embedded.program import Child
from lungmesh.embedded.services import choose_ports


@contextmanager
def running_triton(root: Path, limit_seconds: float = 60) -> Iterator[str]:
    """Run Triton over a folder while the block lasts; yields its gRPC host:port."""
    for module in ("pytriton", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"wheel of module {module} is not installed (embedded.txt)")
    layout = Layout(root)
    layout.create()
    ports = choose_ports([], None)
    child = Child(triton.program(layout, ports), lambda pid, alive: None)
    child.start()
    try:
        limit = time.monotonic() + limit_seconds
        while not child.look():
            assert child.exited() is None, f"Triton ended: {child.last_words()}"
            assert time.monotonic() < limit, f"Triton was not ready in {limit_seconds:g} s"
            time.sleep(0.05)
        yield f"127.0.0.1:{ports.triton_grpc}"
    finally:
        # First ask: a killed Triton leaves its shared memory behind.
        child.terminate()
        limit = time.monotonic() + 10
        while child.exited() is None and child.pid is not None and time.monotonic() < limit:
            time.sleep(0.05)
        child.kill()
