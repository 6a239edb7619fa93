"""A study's instances from the object store: headers of all, pixels of the chosen few."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.errors import BadInput
from lungmesh.preprocess.series import Series
from lungmesh.v1.study_pb2 import BlobRef, StudyManifest


class Instances:
    """Reads what a manifest lists.

    Raises BadInput (unreadable_object) for an object that is not DICOM.
    """

    def __init__(self, blobs: BlobStore, manifest: StudyManifest, workers: int) -> None:
        self._blobs, self._manifest, self._workers = blobs, manifest, workers
        self._files = {
            instance.sop_instance_uid: instance.file
            for series in manifest.series
            for instance in series.instances
        }

    def series(self) -> Iterator[Series]:
        """Yield every series with the headers of its instances; other than CT without headers."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="headers") as pool:
            for series in self._manifest.series:
                files = [instance.file for instance in series.instances]
                headers: Sequence[Dataset] = ()
                if series.modality == "CT":
                    headers = list(pool.map(self._header, files))
                yield Series(series.series_instance_uid, series.modality, headers)

    def whole(self, header: Dataset) -> Dataset:
        """Return the data set of a header, with its pixels."""
        return self._read(self._files[str(header.SOPInstanceUID)], stop_before_pixels=False)

    def _header(self, file: BlobRef) -> Dataset:
        return self._read(file, stop_before_pixels=True)

    def _read(self, file: BlobRef, stop_before_pixels: bool) -> Dataset:
        try:
            return pydicom.dcmread(
                io.BytesIO(self._blobs.get(file)), stop_before_pixels=stop_before_pixels
            )
        except (InvalidDicomError, EOFError, ValueError, AttributeError) as error:
            raise BadInput(
                "An object of the study is not readable DICOM: send the study again.",
                code="unreadable_object",
            ) from error
