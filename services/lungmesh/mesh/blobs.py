"""The object store: bytes by reference, checked on the way back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as _NotFound
from obstore.store import LocalStore, ObjectStore, from_url

from lungmesh.mesh.errors import MeshError, SettingsError, Unavailable
from lungmesh.v1.study_pb2 import BlobRef


class BlobMissing(MeshError):
    """No object stands under the key."""


class BlobCorrupt(MeshError):
    """The object's bytes do not have the checksum of its reference."""


class BlobStore:
    """A tenant-prefixed object store at ``file:///dir`` or ``s3://bucket/prefix``.

    Calls block; async code runs them with ``asyncio.to_thread``. Writing the same key again
    replaces the object at once and whole, so a repeated handler is harmless.

    Raises Unavailable when the store cannot be reached, SettingsError for a URL that cannot be one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.store: ObjectStore
        try:
            if url.startswith("file://"):
                root = Path(url.removeprefix("file://"))
                root.mkdir(parents=True, exist_ok=True)
                self.store = LocalStore(root)
            else:
                self.store = from_url(url)
        except (BaseError, OSError, ValueError) as error:
            raise SettingsError(f"LUNGMESH_BLOBS_URL: {url} cannot be opened: {error}") from error

    def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> BlobRef:
        """Keep bytes under a key and return their reference."""
        try:
            obstore.put(self.store, key, data)
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store did not take {key}: {error}") from error
        return reference(key, data, media_type)

    def get(self, ref: BlobRef) -> bytes:
        """Return the bytes behind a reference.

        Raises BlobMissing, or BlobCorrupt when the checksum differs.
        """
        data = self.get_key(ref.key)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise BlobCorrupt(f"the object {ref.key} does not have the checksum of its reference")
        return data

    def get_key(self, key: str) -> bytes:
        """Return the bytes under a key, unchecked."""
        try:
            return bytes(obstore.get(self.store, key).bytes())
        except (_NotFound, FileNotFoundError, ValueError) as error:
            # A ValueError: the key leads out of the store.
            raise BlobMissing(f"the object store has no object {key}") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store did not give {key}: {error}") from error

    def exists(self, key: str) -> bool:
        """Return whether an object stands under the key."""
        try:
            obstore.head(self.store, key)
        except (_NotFound, FileNotFoundError):
            return False
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store did not tell of {key}: {error}") from error
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a prefix, in order."""
        pages = obstore.list(self.store, prefix=prefix)
        yield from sorted(item["path"] for page in pages for item in page)

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        try:
            obstore.delete(self.store, key)
        except (_NotFound, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise Unavailable(f"the object store did not remove {key}: {error}") from error


def reference(key: str, data: bytes, media_type: str = "application/octet-stream") -> BlobRef:
    """Return the reference that `BlobStore.put` gives for these bytes."""
    return BlobRef(
        key=key,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=media_type,
    )
