"""The first place for received bytes: on disk before anything parses them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lungmesh.mesh.errors import SettingsError

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PART = ".part"
_WHOLE = ".dcm"


@dataclass(frozen=True)
class Spooled:
    """A whole object in the spool."""

    tenant: str
    path: Path

    def read(self) -> bytes:
        """Return its bytes as they came."""
        return self.path.read_bytes()

    def remove(self) -> None:
        """Forget it: it is kept elsewhere, or nobody was promised it."""
        self.path.unlink(missing_ok=True)


class Part:
    """An object that is being written; it becomes whole by `finish` or is gone."""

    def __init__(self, spool: Spool, tenant: str) -> None:
        self._spool = spool
        self._tenant = tenant
        self._path = spool.folder(tenant) / f"{uuid.uuid4().hex}{_PART}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises OSError when the disk is full.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self.size += len(data)

    def finish(self) -> Spooled:
        """Return the whole object, which a restart will find."""
        if self._spool.fsync:
            os.fsync(self._file)
        os.close(self._file)
        whole = self._path.with_suffix(_WHOLE)
        os.rename(self._path, whole)
        if self._spool.fsync:
            self._spool.sync_folder(self._tenant)
        return Spooled(self._tenant, whole)

    def abandon(self) -> None:
        """Drop what was written."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._path.unlink(missing_ok=True)


class Spool:
    """A folder a tenant.

    Parameters
    ----------
    fsync
        Whether `finish` waits for the disk.

    Raises SettingsError when the folder cannot be made.
    """

    def __init__(self, root: Path, fsync: bool = False) -> None:
        self.root = root
        self.fsync = fsync
        self._made: set[str] = set()
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"LUNGMESH_INGEST__SPOOL: {root} cannot be made: {error.strerror}"
            ) from error

    def folder(self, tenant: str) -> Path:
        """Return the tenant's folder, made at the first call."""
        folder = self.root / tenant
        if tenant not in self._made:
            if not _TENANT.fullmatch(tenant):
                raise ValueError("not the name of a tenant")
            folder.mkdir(exist_ok=True, mode=0o700)
            self._made.add(tenant)
        return folder

    def begin(self, tenant: str) -> Part:
        """Begin an object."""
        return Part(self, tenant)

    def keep(self, tenant: str, data: bytes) -> Spooled:
        """Keep an object that is in memory.

        Raises OSError when the disk is full; nothing is left then.
        """
        part = self.begin(tenant)
        try:
            part.write(data)
            return part.finish()
        except OSError:
            part.abandon()
            raise

    def left(self) -> Iterator[Spooled]:
        """Yield the objects of an earlier process, oldest first; unfinished ones are dropped.

        An unfinished object was never acknowledged, so its sender still has it.
        """
        for folder in sorted(path for path in self.root.iterdir() if path.is_dir()):
            for part in folder.glob(f"*{_PART}"):
                part.unlink()
            whole = folder.glob(f"*{_WHOLE}")
            for path in sorted(whole, key=lambda item: item.stat().st_mtime_ns):
                yield Spooled(folder.name, path)

    def free_bytes(self) -> int:
        """Return the free bytes of the spool's disk."""
        return shutil.disk_usage(self.root).free

    def sync_folder(self, tenant: str) -> None:
        """Make a rename durable."""
        descriptor = os.open(self.root / tenant, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
