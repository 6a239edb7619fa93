"""Which series of a study is read, and why in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from lungmesh.mesh.errors import BadInput
from lungmesh.preprocess.kernels import KernelKind, kernel_kind

# ImageType (0008,0008) values that mark an image made from other images.
_REFORMATTED = (
    *("MPR", "MIP", "MINIP", "REFORMATTED", "PROJECTION IMAGE", "PROJECTION", "VRT"),
    *("VOLUME RENDERED", "MAX_IP", "MIN_IP", "RENDERED", "SUBTRACTION", "CURVED", "SSD"),
)
# A slice normal within this angle of the body axis is axial; gantries tilt up to 30 degrees.
_AXIAL_MAX_DEGREES = 35.0
# Fewer slices than this cannot show the lungs at any slice thickness that is read.
MIN_SLICES = 20
_OTHER_BODY_PARTS = {
    *("HEAD", "BRAIN", "SKULL", "FACE", "SINUS", "NECK", "CSPINE", "LSPINE", "ABDOMEN", "PELVIS"),
    *("KNEE", "FOOT", "ANKLE", "HAND", "WRIST", "ELBOW", "SHOULDER", "HIP", "EXTREMITY", "LEG"),
}
# Thicknesses nearer than this are the same for the choice, mm.
_SAME_THICKNESS = 0.05


@dataclass(frozen=True)
class Series:
    """A series as it came: the headers of its instances, in any order, without pixels.

    Headers may be empty when the modality alone excludes the series.
    """

    series_instance_uid: str
    modality: str
    headers: Sequence[Dataset]


@dataclass(frozen=True)
class Verdict:
    """A series and the sentence that says why it was or was not chosen."""

    series_instance_uid: str
    reason: str


@dataclass(frozen=True)
class Choice:
    """The chosen series; `headers` are its axial slices, still in no order."""

    chosen: Verdict
    others: tuple[Verdict, ...]
    headers: tuple[Dataset, ...]


@dataclass(frozen=True)
class _Candidate:
    uid: str
    slices: tuple[Dataset, ...]
    original: bool
    chest: bool
    thickness_mm: float
    kernel: KernelKind

    @property
    def rank(self) -> tuple[object, ...]:
        """Smaller is better; the UID breaks ties, so the choice never depends on order."""
        return (
            not self.original,
            not self.chest,
            round(self.thickness_mm / _SAME_THICKNESS),
            -len(self.slices),
            self.kernel is KernelKind.OTHER,
            self.kernel is not KernelKind.LUNG,
            self.uid,
        )

    @property
    def words(self) -> str:
        kernel = "" if self.kernel is KernelKind.UNKNOWN else f", {self.kernel} kernel"
        origin = "" if self.original else "derived, "
        return f"{origin}axial CT, {self.thickness_mm:g} mm, {len(self.slices)} slices{kernel}"


def choose_series(study: Sequence[Series]) -> Choice:
    """Choose the series to read: original axial CT, thinnest, then most slices, then kernel.

    Localizers, derived secondary and reformatted images are never chosen; derived primary images
    (such as a lossy copy) only when there is no original.

    Raises BadInput (no_suitable_series) with the reason for every series when none fits;
    BadInput (missing_geometry) when that is all that stops a study's only CT series.
    """
    candidates: list[_Candidate] = []
    rejected: list[Verdict] = []
    for series in study:
        judged = _judge(series)
        if isinstance(judged, Verdict):
            rejected.append(judged)
        else:
            candidates.append(judged)
    if not candidates:
        _refuse(study, rejected)
    candidates.sort(key=lambda candidate: candidate.rank)
    best, rest = candidates[0], candidates[1:]
    passed_over = [Verdict(other.uid, _why_not(other, best)) for other in rest]
    others = sorted([*passed_over, *rejected], key=lambda verdict: verdict.series_instance_uid)
    reason = "chosen: " + best.words
    if rest:
        reason += f"; the best of {len(candidates)} axial CT series"
    return Choice(Verdict(best.uid, reason), tuple(others), best.slices)


def is_localizer(header: Dataset) -> bool:
    """Return whether an image is a scout (ImageType value 3 is LOCALIZER, PS3.3 C.8.2.1.1.1)."""
    return "LOCALIZER" in _image_type(header)


def is_original(header: Dataset) -> bool:
    """Return whether an image's pixels are as reconstructed (ImageType value 1 is not DERIVED)."""
    return _image_type(header)[:1] != ["DERIVED"]


def _judge(series: Series) -> _Candidate | Verdict:
    def no(reason: str) -> Verdict:
        return Verdict(series.series_instance_uid, "not read: " + reason)

    if series.modality != "CT":
        return no(f"its modality is {series.modality or 'not given'}, not CT")
    images = [header for header in series.headers if not is_localizer(header)]
    if not images:
        return no("it is a localizer")
    if any(header.get("SOPClassUID") != CTImageStorage for header in images):
        return no("its objects are not single-slice CT images (CT Image Storage)")
    if any(_is_reformatted(header) for header in images):
        return no("its images are made from other images (derived secondary, MPR, MIP, projection)")
    if any(_normal(header) is None for header in images):
        return no("slices lack ImagePositionPatient, ImageOrientationPatient or PixelSpacing")
    normals = np.array([_normal(header) for header in images])
    if np.abs(normals[:, 2]).min() < np.cos(np.radians(_AXIAL_MAX_DEGREES)):
        return no("its slices are not axial")
    if len(images) < MIN_SLICES:
        return no(f"it has {len(images)} slices, too few to show the lungs")
    body_part = str(images[0].get("BodyPartExamined", "") or "").upper()
    return _Candidate(
        uid=series.series_instance_uid,
        slices=tuple(images),
        original=all(is_original(header) for header in images),
        chest=body_part not in _OTHER_BODY_PARTS,
        thickness_mm=_thickness(images, normals[0]),
        kernel=kernel_kind(kernel_name(images[0])),
    )


def kernel_name(header: Dataset) -> str:
    """Return ConvolutionKernel (0018,1210) as one text; empty when there is none."""
    value = header.get("ConvolutionKernel", "") or ""
    return value if isinstance(value, str) else " ".join(str(part) for part in value)


def _why_not(other: _Candidate, best: _Candidate) -> str:
    if best.original and not other.original:
        cause = "its images are derived, and there is an original series"
    elif best.chest and not other.chest:
        cause = "it shows another body part"
    elif other.rank[2] != best.rank[2]:
        cause = f"the chosen series is thinner ({best.thickness_mm:g} mm)"
    elif len(other.slices) != len(best.slices):
        cause = f"the chosen series has more slices ({len(best.slices)})"
    elif other.kernel is not best.kernel:
        cause = f"the chosen series has a {best.kernel} kernel"
    else:
        cause = "it is equal to the chosen series, which comes first by UID"
    return f"not read: {other.words}; {cause}"


def _refuse(study: Sequence[Series], rejected: Sequence[Verdict]) -> None:
    reasons = sorted({verdict.reason.removeprefix("not read: ") for verdict in rejected})
    ct = [series for series in study if series.modality == "CT"]
    only_geometry = len(ct) == 1 and any("lack ImagePosition" in reason for reason in reasons)
    raise BadInput(
        "The study has no axial chest CT series to read: " + "; ".join(reasons) + ".",
        code="missing_geometry" if only_geometry else "no_suitable_series",
    )


def _image_type(header: Dataset) -> list[str]:
    value = header.get("ImageType") or []
    parts = [value] if isinstance(value, str) else list(value)
    return [str(part).strip().upper() for part in parts]


def _is_reformatted(header: Dataset) -> bool:
    parts = _image_type(header)
    # ORIGINAL, SECONDARY is a later reconstruction of the raw data: as good as the first.
    return parts[:2] == ["DERIVED", "SECONDARY"] or any(
        part in _REFORMATTED or part.startswith("CSA MPR") for part in parts[2:]
    )


def _normal(header: Dataset) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Return the slice normal (row x column direction), None without usable geometry."""
    try:
        axes = np.asarray(header.get("ImageOrientationPatient"), float)
        position = np.asarray(header.get("ImagePositionPatient"), float)
        spacing = np.asarray(header.get("PixelSpacing"), float)
    except (ValueError, TypeError):
        return None
    if axes.shape != (6,) or position.shape != (3,) or spacing.shape != (2,):
        return None
    if not np.isfinite([*axes, *position]).all() or not spacing.min() > 0:
        return None
    normal = np.cross(axes[:3], axes[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0.5 else None


def _thickness(
    images: Sequence[Dataset], normal: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    """Return SliceThickness in mm, or the middle distance between slices where it is missing."""
    stated = [float(header.SliceThickness) for header in images if header.get("SliceThickness")]
    if stated:
        return float(np.median(stated))
    places = sorted(float(np.dot(header.ImagePositionPatient, normal)) for header in images)
    return float(np.median([after - before for before, after in pairwise(places)]))
