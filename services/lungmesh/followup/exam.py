"""An exam as registration takes it, and its lungs on coarse voxels along the body's axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import nodule_pb2

COARSE_MM = 3.0
# Room around the lungs, mm.
MARGIN_MM = 40.0
# Voxels are averaged to about this size before they are interpolated, mm.
_BLOCK_MM = 2.4
_AIR_HU, _TISSUE_HU = -1000, 0
# A lung that ends with more than this, or both at the first or last slice, is cut off there, mm².
_CUT_MM2 = 1500.0

Labels = npt.NDArray[np.uint8]
Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Exam:
    """An exam's voxels and lobes on their grid.

    Attributes
    ----------
    hu
        int16 [z, y, x], HU; None where only the lobes are at hand.
    lobes
        uint8 [z, y, x]: 0 outside, then the number of the Lobe.
    """

    hu: npt.NDArray[np.int16] | None
    lobes: Labels
    grid: Grid


@dataclass(frozen=True)
class Lungs:
    """An exam's lungs with a margin on cubic voxels of 3 mm, axes along LPS.

    Attributes
    ----------
    mask
        float32 image: share of each voxel that is lung.
    known
        uint8 image: 0 beyond a slice where the field of view ends within the lungs, and on one
        lung's side beyond a slice where that lung ends as if cut: its lobes were not found there.
    hu
        float32 image, HU between air and tissue; None where the exam has no voxels.
    cut
        Whether a lung is cut so, at the feet's and at the head's side.
    middle_mm
        LPS x between the right lung and the left one; infinite where there is one alone.
    """

    mask: sitk.Image
    known: sitk.Image
    hu: sitk.Image | None
    cut: tuple[bool, bool]
    middle_mm: float


def coarse_lungs(exam: Exam) -> Lungs:
    """Return an exam's lungs on coarse voxels.

    Raises ValueError when the exam has no lung.
    """
    found = [part for part in ndimage.find_objects(exam.lobes) if part is not None]
    if not found:
        raise ValueError("the exam has no lung to register")
    spacing = exam.grid.spacing[::-1]
    reach = [int(MARGIN_MM / mm) for mm in spacing]
    low = [max(0, min(part[axis].start for part in found) - reach[axis]) for axis in range(3)]
    high = [
        min(n, max(part[axis].stop for part in found) + reach[axis])
        for axis, n in enumerate(exam.grid.shape)
    ]
    factors = [
        min(max(1, round(_BLOCK_MM / mm)), b - a)
        for mm, a, b in zip(spacing, low, high, strict=True)
    ]
    box = tuple(slice(a, a + (b - a) // k * k) for a, b, k in zip(low, high, factors, strict=True))
    mask = _image(_averaged(exam.lobes[box] > 0, factors), exam.grid, low, factors)
    frame = _frame(mask)
    on_frame = sitk.Resample(mask, frame, sitk.Transform(), sitk.sitkLinear, 0.0)
    on_left = _averaged(exam.lobes[box] >= nodule_pb2.LOBE_LEFT_UPPER, factors)
    left = _image(on_left, exam.grid, low, factors)
    sides = _two(on_frame, sitk.Resample(left, frame, sitk.Transform(), sitk.sitkLinear, 0.0))
    middle = _middle(on_frame, sides)
    known, cut = _known(on_frame, sides, right_of(on_frame, middle), exam.grid)
    hu = None
    if exam.hu is not None:
        voxels = np.clip(exam.hu[box], _AIR_HU, _TISSUE_HU)
        part = _image(_averaged(voxels, factors), exam.grid, low, factors)
        hu = sitk.Resample(part, frame, sitk.Transform(), sitk.sitkLinear, float(_TISSUE_HU))
    return Lungs(on_frame, known, hu, cut, middle)


def right_of(image: sitk.Image, middle_mm: float) -> Mask:
    """Return which columns of an image along LPS lie on the right lung's side, bool [x]."""
    side: Mask = image.GetOrigin()[0] + np.arange(image.GetWidth()) * COARSE_MM < middle_mm
    return side


def box_of(mask: sitk.Image) -> tuple[Floats, Floats]:
    """Return the ends of the box around a mask (share ≥ 0.5), LPS mm.

    Raises ValueError when there is none.
    """
    inside = sitk.GetArrayViewFromImage(mask) >= 0.5
    if not inside.any():
        raise ValueError("the exam has no lung to register")
    z, y, x = ndimage.find_objects(inside.astype(np.uint8))[0]
    origin, spacing = np.asarray(mask.GetOrigin()), np.asarray(mask.GetSpacing())
    low = origin + np.array([x.start, y.start, z.start]) * spacing
    high = origin + (np.array([x.stop, y.stop, z.stop]) - 1) * spacing
    return low, high


def _averaged(part: npt.NDArray[np.generic], factors: list[int]) -> Image:
    blocks = [n for size, k in zip(part.shape, factors, strict=True) for n in (size // k, k)]
    mean: Image = part.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    return mean


def _image(values: Image, grid: Grid, low: list[int], factors: list[int]) -> sitk.Image:
    """Return blocks of a grid's voxels as an image in LPS; `low` and `factors` are [z, y, x]."""
    image = sitk.GetImageFromArray(values)
    first = [a + (k - 1) / 2 for a, k in zip(low, factors, strict=True)]
    image.SetOrigin(grid.to_lps(first[::-1]).tolist())
    image.SetSpacing([mm * k for mm, k in zip(grid.spacing, factors[::-1], strict=True)])
    image.SetDirection(np.asarray(grid.direction).ravel().tolist())
    return image


def _frame(mask: sitk.Image) -> sitk.Image:
    """Return an empty image along LPS around the lungs."""
    size = mask.GetSize()
    corners = np.array(np.meshgrid(*([0, n - 1] for n in size))).reshape(3, -1).T
    ends = np.array([mask.TransformIndexToPhysicalPoint(one) for one in corners.tolist()])
    wide = sitk.Image(
        np.ceil((ends.max(axis=0) - ends.min(axis=0)) / COARSE_MM).astype(int).tolist(),
        sitk.sitkFloat32,
    )
    wide.SetSpacing([COARSE_MM] * 3)
    wide.SetOrigin(ends.min(axis=0).tolist())
    low, high = box_of(sitk.Resample(mask, wide, sitk.Transform(), sitk.sitkLinear, 0.0))
    frame = sitk.Image(
        np.ceil((high - low + 2 * MARGIN_MM) / COARSE_MM).astype(int).tolist(), sitk.sitkFloat32
    )
    frame.SetSpacing([COARSE_MM] * 3)
    frame.SetOrigin((low - MARGIN_MM).tolist())
    return frame


def _two(mask: sitk.Image, left: sitk.Image) -> tuple[Mask, Mask]:
    """Return the right lung and the left one, bool [z, y, x]."""
    share, of_left = (sitk.GetArrayViewFromImage(one) for one in (mask, left))
    lungs, mostly_left = share >= 0.5, 2 * of_left > share
    return lungs & ~mostly_left, lungs & mostly_left


def _middle(mask: sitk.Image, sides: tuple[Mask, Mask]) -> float:
    right, left = (np.flatnonzero(one.any(axis=(0, 1))) for one in sides)
    if not len(right) or not len(left):
        return np.inf if len(right) else -np.inf
    at = np.mean([np.nonzero(one)[2].mean() for one in sides])
    return float(mask.GetOrigin()[0] + at * COARSE_MM)


def _known(
    mask: sitk.Image, sides: tuple[Mask, Mask], on_right: Mask, grid: Grid
) -> tuple[sitk.Image, tuple[bool, bool]]:
    """Return where it is known what is lung, and whether lungs are cut at the foot and head."""
    lungs = sitk.GetArrayViewFromImage(mask)
    # Slices are nearly axial: the middle of the first and last one tells the height.
    x, y, z = grid.size
    ends = grid.to_lps([[x / 2, y / 2, -0.5], [x / 2, y / 2, z - 0.5]])[:, 2]
    inside = (np.sort(ends) - mask.GetOrigin()[2]) / COARSE_MM
    # The outermost coarse slice is averaged with what nobody saw.
    first = max(0, int(np.ceil(inside[0])) + 1)
    last = min(len(lungs) - 1, int(np.floor(inside[1])) - 1)
    foot, head = (bool((lungs[at] >= 0.5).sum() * COARSE_MM**2 > _CUT_MM2) for at in (first, last))
    known = np.ones(lungs.shape, np.uint8)
    if foot:
        known[:first] = 0
    if head:
        known[last + 1 :] = 0
    for lung, columns in zip(sides, (on_right, ~on_right), strict=True):
        areas = lung.sum(axis=(1, 2)) * COARSE_MM**2
        rows = np.flatnonzero(areas)
        if len(rows) and areas[rows[0]] > _CUT_MM2:
            known[: rows[0] + 1, :, columns] = 0
            foot = True
        if len(rows) and areas[rows[-1]] > _CUT_MM2:
            known[rows[-1] :, :, columns] = 0
            head = True
    image = sitk.GetImageFromArray(known)
    image.CopyInformation(mask)
    return image, (foot, head)
