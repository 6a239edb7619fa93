"""Voxel arrays in the object store: Zarr 3, chunked and compressed; readers take what they need."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import ObjectStore as ZarrStore

from lungmesh.mesh.blobs import BlobCorrupt, BlobMissing, BlobStore
from lungmesh.v1.study_pb2 import BlobRef

MEDIA_TYPE = "application/zarr"
_CHUNK = (16, 128, 128)
# Attribute with the checksum of an array that was written to its end.
_WHOLE = "sha256"


def write_array(blobs: BlobStore, key: str, array: npt.NDArray[Any]) -> BlobRef:
    """Keep a [z, y, x] array under a key; the checksum is that of its voxels in C order.

    An array that stands there whole already is left alone: somebody may be reading it.
    """
    array = np.ascontiguousarray(array)
    sha256 = hashlib.sha256(array.data).hexdigest()
    ref = BlobRef(key=key, size_bytes=array.nbytes, sha256=sha256, media_type=MEDIA_TYPE)
    if _is_kept(blobs, ref):
        return ref
    chunks = tuple(min(c, n) for c, n in zip(_CHUNK, array.shape, strict=True))
    # One shard a whole array up to 128 slices: few objects, yet chunks are read alone.
    shards = tuple(
        chunk * -(-min(extent, limit) // chunk)
        for extent, chunk, limit in zip(array.shape, chunks, (128, 512, 512), strict=True)
    )
    stored = zarr.create_array(
        ZarrStore(blobs.store),
        name=key,
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        fill_value=0,
        overwrite=True,
    )
    stored[...] = array
    # Last: it says that every chunk is there.
    stored.attrs[_WHOLE] = sha256
    return ref


def _is_kept(blobs: BlobStore, ref: BlobRef) -> bool:
    try:
        return open_array(blobs, ref).attrs.get(_WHOLE) == ref.sha256
    except BlobMissing:
        return False


def open_array(blobs: BlobStore, ref: BlobRef) -> zarr.Array[Any]:
    """Open an array without reading it; index it as [z, y, x] to fetch only the chunks needed.

    Raises BlobMissing when there is none.
    """
    try:
        return zarr.open_array(ZarrStore(blobs.store), path=ref.key, mode="r")
    except FileNotFoundError as error:
        raise BlobMissing(f"the object store has no array {ref.key}") from error


def read_array(blobs: BlobStore, ref: BlobRef) -> npt.NDArray[Any]:
    """Read a whole array and check it.

    Raises BlobMissing, or BlobCorrupt when the voxels do not have the reference's checksum.
    """
    array = np.ascontiguousarray(np.asarray(open_array(blobs, ref)[...]))
    if hashlib.sha256(array.data).hexdigest() != ref.sha256:
        raise BlobCorrupt(f"the array {ref.key} does not have the checksum of its reference")
    return array
