"""A real PostgreSQL for tests: Debian's, as the user `postgres`, on a free port."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.broker import free_port


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL (Debian package postgresql) is not installed")
    return found[-1].parent


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server and yield its SQLAlchemy URL; it is gone afterwards."""
    binaries = _binaries()
    # PostgreSQL refuses to run as root.
    demoted = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="lungmesh-pg-"))
    if demoted:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    initdb = [str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "lungmesh"]
    subprocess.run([*demoted, *initdb, "--no-sync"], check=True, timeout=60, **quiet)  # type: ignore[call-overload]
    control = [*demoted, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-t", "30"]
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    subprocess.run(
        [*control, "-o", options, "-l", str(folder / "log"), "start"],
        check=True,
        timeout=60,
        **quiet,  # type: ignore[call-overload]
    )
    try:
        yield f"postgresql+psycopg://lungmesh@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, timeout=60, **quiet)  # type: ignore[call-overload]
        shutil.rmtree(folder, ignore_errors=True)
