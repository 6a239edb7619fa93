"""Slice headers without pixels and without identity, for objects that reference the originals."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import pydicom
from pydicom.dataset import Dataset

from lungmesh.mesh.blobs import BlobStore
from lungmesh.v1.study_pb2 import BlobRef

MEDIA_TYPE = "application/zip"


def write_headers(blobs: BlobStore, key: str, slices: Sequence[Dataset]) -> BlobRef:
    """Keep the headers of a series' slices, in z order, as one ZIP of DICOM files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for index, dataset in enumerate(slices):
            part = io.BytesIO()
            pydicom.dcmwrite(part, dataset, enforce_file_format=True)
            # A fixed date keeps the archive's bytes the same at every repeat.
            info = zipfile.ZipInfo(f"{index:05d}.dcm", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, part.getvalue())
    return blobs.put(key, buffer.getvalue(), MEDIA_TYPE)


def read_headers(blobs: BlobStore, ref: BlobRef) -> list[Dataset]:
    """Read the headers back, in z order."""
    with zipfile.ZipFile(io.BytesIO(blobs.get(ref))) as archive:
        return [
            pydicom.dcmread(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())
        ]
