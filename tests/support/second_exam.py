"""An earlier exam of the demo patient: the same CT, moved in a way that is known to the voxel.

The patient lay elsewhere, was turned and breathed less. The series is written as DICOM files and
read by the real preprocess stage, as the current one is: simulated from a real CT, and labelled so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from scipy import ndimage

from lungmesh.demo.case import write_small_case
from lungmesh.followup.registration import Exam
from lungmesh.mesh import Context
from lungmesh.mesh.arrays import read_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.ids import dicom_uid
from lungmesh.mesh.stage import run_stage
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stage import PreprocessStage
from lungmesh.v1.volume_pb2 import VolumeReady
from tests.support.preprocess import receive

Floats = npt.NDArray[np.float64]
# The breath moves nothing above this height of the demo patient, LPS z in mm.
_APEX_MM = -50.0
_LUNG_HEIGHT_MM = 250.0


@dataclass(frozen=True)
class Motion:
    """Where a place of the earlier exam lies in the current one.

    Attributes
    ----------
    shift
        mm, LPS.
    scale
        Of the whole chest.
    turn
        Degrees about the long axis.
    breath_mm
        How much deeper the lungs' base lies now than then; it grows with the square of the
        distance from the apex, so no affine map can take it up wholly.
    """

    shift: tuple[float, float, float]
    scale: float = 1.0
    turn: float = 0.0
    breath_mm: float = 0.0

    def to_current(self, then: npt.ArrayLike) -> Floats:
        """Map LPS points (…, 3) of the earlier exam, mm."""
        angle = np.deg2rad(self.turn)
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        now: Floats = np.asarray(then, float) @ (self.scale * rotation).T + self.shift
        depth = np.maximum(_APEX_MM - now[..., 2], 0) / _LUNG_HEIGHT_MM
        now[..., 2] -= self.breath_mm * depth**2
        return now

    def to_earlier(self, now: npt.ArrayLike) -> Floats:
        """Map LPS points (…, 3) of the current exam, mm, back."""
        target = np.asarray(now, float)
        then = target.copy()
        for _ in range(50):
            then = then + (target - self.to_current(then)) / self.scale
        return then


def current_exam(root: Path, date: str) -> VolumeReady:
    """Read the demo CT, every other slice of 256 x 256."""
    folder = root / "dicom-current"
    write_small_case(folder, "PAT-1", "second-exam-current", 2, date)
    return _prepare(root, folder)


def earlier_exam(root: Path, name: str, date: str, motion: Motion) -> VolumeReady:
    """Write and read the demo CT as it was before the motion; `current_exam` was called before."""
    current = sorted((root / "dicom-current").iterdir())
    headers = [pydicom.dcmread(path) for path in current]
    headers.sort(key=lambda header: float(header.ImagePositionPatient[2]))
    x, y = headers[0].PixelSpacing[1], headers[0].PixelSpacing[0]
    places = [np.asarray(header.ImagePositionPatient, float) for header in headers]
    first, second = places[:2]
    grid = Grid(
        size=(headers[0].Columns, headers[0].Rows, len(headers)),
        spacing=(float(x), float(y), float(second[2] - first[2])),
        origin=(float(first[0]), float(first[1]), float(first[2])),
        direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    hu = np.stack([header.pixel_array for header in headers]).astype(np.float32)
    # Its own field of view moves with the patient.
    origin = grid.origin - np.asarray(motion.shift)
    then = Grid(grid.size, grid.spacing, (origin[0], origin[1], origin[2]), grid.direction)
    folder = root / f"dicom-{name}"
    folder.mkdir()
    for z, header in enumerate(headers):
        columns, rows = np.meshgrid(np.arange(then.size[0]), np.arange(then.size[1]))
        index = np.stack([columns, rows, np.full_like(rows, z)], axis=-1)
        source = grid.to_index(motion.to_current(then.to_lps(index)))
        plane = ndimage.map_coordinates(
            hu, np.moveaxis(source[..., ::-1], -1, 0), order=1, mode="nearest"
        )
        header.PixelData = np.rint(plane).astype("<i2").tobytes()
        header.ImagePositionPatient = [f"{value:.6f}" for value in then.to_lps((0, 0, z))]
        header.SliceLocation = header.ImagePositionPatient[2]
        header.SeriesDescription = "SIMULATED earlier exam, resampled"
        header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = date
        header.StudyInstanceUID = dicom_uid(name, "study")
        header.SeriesInstanceUID = dicom_uid(name, "series")
        header.FrameOfReferenceUID = dicom_uid(name, "frame")
        header.SOPInstanceUID = dicom_uid(name, "instance", z)
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.save_as(folder / f"{z:04d}.dcm", enforce_file_format=True)
    return _prepare(root, folder)


def exam_of(blobs: BlobStore, ready: VolumeReady) -> Exam:
    """Return an exam as the registration takes it."""
    hu, lobes = (read_array(blobs, part) for part in (ready.volume.hu, ready.volume.lobes))
    return Exam(hu, lobes, Grid.from_proto(ready.volume.geometry))


def _prepare(root: Path, folder: Path) -> VolumeReady:
    blobs = BlobStore(f"file://{root}/blobs")
    event = receive(blobs, sorted(folder.iterdir()))
    stage = PreprocessStage(PreprocessSettings())
    (ready,) = asyncio.run(run_stage(stage, event, Context(event.study.study_id, blobs)))
    assert isinstance(ready, VolumeReady)
    return ready
