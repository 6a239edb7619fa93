"""Headers of a volume's slices for the viewer, from the object that preprocess keeps of them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass

from lungmesh.console.pixels import dicom_json
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.headers import read_headers
from lungmesh.v1.study_pb2 import BlobRef

_LEVEL = 5


@dataclass(frozen=True)
class Slices:
    """The slices of a volume, in z order.

    Attributes
    ----------
    uids
        SOP instance UIDs. Where a slice is missing stands the UID of the nearest, a second time.
    headers
        The headers under the pseudonym: a list of DICOM JSON (PS3.18 Annex F), UTF-8, by gzip.
    """

    uids: tuple[str, ...]
    headers: bytes


def read_slices(blobs: BlobStore, ref: BlobRef) -> Slices:
    """Read the headers that a `VolumeReady` refers to."""
    found = read_headers(blobs, ref)
    body = json.dumps(dicom_json(found), ensure_ascii=False).encode()
    return Slices(
        uids=tuple(str(header.SOPInstanceUID) for header in found),
        headers=gzip.compress(body, _LEVEL, mtime=0),
    )
