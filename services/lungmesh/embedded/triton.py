"""The embedded Triton: NVIDIA's server from the PyPI wheel nvidia-pytriton, on the CPU, no Docker.

The wheel brings the server and its Python backend; the models run there on ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import site
import sys
import sysconfig
from ctypes.util import find_library
from pathlib import Path

from lungmesh.embedded.layout import Layout
from lungmesh.embedded.models import models_folder, user_folder
from lungmesh.embedded.program import Program, http_answers
from lungmesh.embedded.repository import Target, write_repository
from lungmesh.embedded.services import Ports
from lungmesh.mesh.errors import MeshError

_LAST = 3
_EXIT_SECONDS = 5
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def program(layout: Layout, ports: Ports) -> Program:
    """Write the model repository and return Triton on ports of 127.0.0.1.

    Ready means: the server answers, and every version of every model is loaded and warm.

    Raises MeshError when the wheel is not installed or has no stub for this Python, or a model is
    unfit.
    """
    server = _server()
    backends = _backends(server, layout.models.parent / "triton")
    shared_memory = f"lungmesh_{hashlib.sha256(bytes(layout.root)).hexdigest()[:16]}_"
    # What a killed Triton of this data directory left behind.
    for region in Path("/dev/shm").glob(f"{shared_memory}*"):  # noqa: S108
        region.unlink(missing_ok=True)
    write_repository(
        layout.models,
        Target.CPU,
        threads=min(2, os.cpu_count() or 1),
        folders=(models_folder(), user_folder(layout.root)),
    )
    local = "127.0.0.1"
    return Program(
        name="triton",
        command=(
            str(server / "bin" / "tritonserver"),
            f"--model-repository={layout.models}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory}",
            "--model-control-mode=explicit",
            "--load-model=*",
            f"--http-address={local}",
            f"--http-port={ports.triton_http}",
            f"--grpc-address={local}",
            f"--grpc-port={ports.triton_grpc}",
            f"--metrics-address={local}",
            f"--metrics-port={ports.triton_metrics}",
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            "--log-info=false",
            f"--exit-timeout-secs={_EXIT_SECONDS}",
        ),
        environment=_environment(server),
        log=layout.log_file("triton"),
        ready=http_answers(ports.triton_http, "/v2/health/ready"),
        stop_order=_LAST,
    )


def _server() -> Path:
    spec = importlib.util.find_spec("pytriton")
    server = Path(spec.origin).parent / "tritonserver" if spec and spec.origin else None
    if server is None or not os.access(server / "bin" / "tritonserver", os.X_OK):
        raise MeshError("Triton is not installed: run `make setup` (PyPI wheel nvidia-pytriton)")
    return server


def _environment(server: Path) -> dict[str, str]:
    """Let the backend's interpreter be the running one, with the packages that we have."""
    library = f"libpython{_PYTHON}.so.1.0"
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    if not (folder / library).is_file() and find_library(f"python{_PYTHON}") is None:
        raise MeshError(
            f"Triton needs {library}, which this Python was built without: install it, or use "
            "a Python built with --enable-shared"
        )
    return {
        "LD_LIBRARY_PATH": f"{server.parents[1] / 'nvidia_pytriton.libs'}{os.pathsep}{folder}",
        # An embedded interpreter finds its standard library beside the `python3` on PATH.
        "PATH": os.pathsep.join((f"{sys.base_prefix}/bin", os.environ.get("PATH", ""))),
        "PYTHONPATH": os.pathsep.join(site.getsitepackages()),
    }


def _backends(server: Path, out: Path) -> Path:
    """Make a backend directory: the wheel's Python backend with the stub of the running Python."""
    stub = server / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
    if not stub.is_file():
        raise MeshError(f"the installed Triton cannot run models on Python {_PYTHON}: use 3.11")
    target = out / "python"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for source in (*sorted((server / "backends" / "python").glob("*.*")), stub):
        (target / source.name).symlink_to(source)
    return out
