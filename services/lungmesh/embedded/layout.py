"""The data directory of a one-machine mesh: where each thing lies, and who may read it."""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lungmesh.mesh.errors import MeshError

DEFAULT_DATA = Path(".lungmesh")
# Two CTs with their volumes, masks and reports take less than this.
_LEAST_FREE_BYTES = 2 * 1024**3
_LOG_BYTES = 20 * 1024**2


class DataDirectoryInUse(MeshError):
    """Another mesh runs over the same directory."""


@dataclass(frozen=True)
class Layout:
    """Paths below one data directory, which only its owner may enter (0700)."""

    root: Path

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.root / "logs"

    @property
    def ready(self) -> Path:
        """Ready files of the services."""
        return self.root / "ready"

    @property
    def spool(self) -> Path:
        """Ingest's first place for received bytes."""
        return self.root / "spool"

    @property
    def blobs(self) -> Path:
        """Root of the object store."""
        return self.root / "blobs"

    @property
    def databases(self) -> Path:
        """One SQLite file a service."""
        return self.root / "db"

    @property
    def models(self) -> Path:
        """Triton's model repository."""
        return self.root / "models"

    @property
    def secrets(self) -> Path:
        """Keys, readable by the owner alone (0600)."""
        return self.root / "secrets"

    @property
    def console_password(self) -> Path:
        """The password of the console's first user, which the console writes (0600)."""
        return self.secrets / "console.password"

    @property
    def state_file(self) -> Path:
        """Addresses and process ids of the running mesh."""
        return self.root / "mesh.json"

    def create(self) -> None:
        """Make every folder.

        Raises MeshError when the directory cannot be made or its disk is nearly full.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
            for folder in (
                self.logs,
                self.ready,
                self.spool,
                self.blobs,
                self.databases,
                self.models,
                self.secrets,
            ):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _disk_full(self.root, 0) from error
            raise MeshError(
                f"the data directory {self.root} cannot be made ({error.strerror}): "
                "choose another with --data"
            ) from error
        free = shutil.disk_usage(self.root).free
        if free < _LEAST_FREE_BYTES:
            raise _disk_full(self.root, free)

    def database_url(self, service: str) -> str:
        """Return the SQLAlchemy URL of a service's own database."""
        return f"sqlite+aiosqlite:///{self.databases / service}.db"

    def secret(self, name: str) -> str:
        """Return 32 random bytes as URL-safe base64 (a Fernet key), made at the first call."""
        path = self.secrets / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text().strip()
        with os.fdopen(descriptor, "w") as file:
            file.write(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        return path.read_text().strip()

    def log_file(self, name: str) -> Path:
        """Return a process's log, which continues; a large one is set aside first as `.1`."""
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one mesh; the kernel lets go of it when the holder dies.

        Raises DataDirectoryInUse.
        """
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DataDirectoryInUse(
                    f"another mesh runs over {self.root}: stop it, or choose another directory "
                    "with --data"
                ) from error
            yield


def _disk_full(root: Path, free: int) -> MeshError:
    return MeshError(
        f"the disk of {root} has {free / 1024**3:.1f} GiB free, and the mesh needs "
        f"{_LEAST_FREE_BYTES / 1024**3:.0f} GiB: free some, or choose another place with --data"
    )
