"""Small synthetic CT slices whose every voxel is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def slices(
    hu: npt.NDArray[np.int16],
    spacing: tuple[float, float, float] = (0.8, 0.7, 1.25),
    origin: Sequence[float] = (-100.0, -120.0, -200.0),
    direction: Sequence[Sequence[float]] = IDENTITY,
    intercept: int = -1024,
    **overrides: Any,
) -> list[Dataset]:
    """Return one data set a slice of an int16 [z, y, x] volume.

    `spacing` is mm along (x, y, z); columns of `direction` are the LPS directions of the axes.
    """
    axes = np.asarray(direction, float)
    out = []
    for z, plane in enumerate(hu):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = f"1.2.3.{z + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.0"
        dataset.FrameOfReferenceUID = "1.2.3.9"
        dataset.Modality = "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        position = np.asarray(origin) + axes[:, 2] * spacing[2] * z
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
        dataset.ImageOrientationPatient = [f"{v:.6f}" for v in (*axes[:, 0], *axes[:, 1])]
        dataset.PixelSpacing = [str(spacing[1]), str(spacing[0])]
        dataset.SliceThickness = str(spacing[2])
        dataset.PatientPosition = "HFS"
        dataset.KVP, dataset.ConvolutionKernel = "120", "STANDARD"
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", str(intercept)
        dataset.PixelData = (plane.astype(np.int32) - intercept).astype("<i2").tobytes()
        dataset["PixelData"].VR = "OW"
        for keyword, value in overrides.items():
            setattr(dataset, keyword, value)
        out.append(dataset)
    return out


def volume(shape: tuple[int, int, int] = (24, 7, 9)) -> npt.NDArray[np.int16]:
    """Return int16 HU in which every voxel differs from its neighbours; the border is air."""
    values = np.arange(np.prod(shape)).reshape(shape) * 37 % 1900 - 900
    values[:, [0, -1], :] = -1000
    values[:, :, [0, -1]] = -1000
    return values.astype(np.int16)
