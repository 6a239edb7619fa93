"""A segmented nodule: how much of each voxel it fills, on its own cube and on the CT's grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection.family import Candidate, Hu, Triple

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

NAME, VERSION = "nodule-region", "1"

# A voxel belongs to the nodule when it fills half of it, or half of what it fills at its best where
# that is less, down to a limit.
LEVEL, _LEAST_BEST = 0.5, 0.2
# Partly filled voxels lie this near the region, voxels.
_RIM = 2
# The nodule is what lies this near the candidate's place: share of its diameter, and mm.
_NEAR_SHARE, _NEAR_MM = 0.35, 1.5


@dataclass(frozen=True)
class Region:
    """A nodule on small cubic voxels, in a box around it.

    Attributes
    ----------
    hu
        int16 [z, y, x], the CT on these voxels.
    share
        float32 [z, y, x]: how much of each voxel is nodule, 0 … 1; 0 off this nodule.
    solid
        The same for its solid part.
    mask
        bool [z, y, x]: the voxels that belong to it; none on the box's faces.
    level
        The share from which they do.
    mm
        Voxel edge.
    middle
        Continuous index [z, y, x] on these voxels of the candidate's place.
    place
        Continuous index [z, y, x] on the CT of the same place.
    """

    hu: Hu
    share: Field
    solid: Field
    mask: Mask
    level: float
    mm: float
    middle: Triple
    place: Triple

    @property
    def volume_mm3(self) -> float:
        """Volume: the sum of the voxels' shares."""
        return float(self.share.sum(dtype=np.float64)) * self.mm**3

    @property
    def solid_volume_mm3(self) -> float:
        """Volume of the solid part."""
        return float(self.solid.sum(dtype=np.float64)) * self.mm**3

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball of equal volume."""
        return float((6 * self.volume_mm3 / pi) ** (1 / 3))

    def to_full(self, index: npt.ArrayLike, spacing: Triple) -> Floats:
        """Map index coordinates (…, 3) [z, y, x] of these voxels to the CT's."""
        away = (np.asarray(index, float) - self.middle) * self.mm
        full: Floats = away / np.asarray(spacing) + self.place
        return full

    def centre(self, spacing: Triple) -> Triple:
        """Return the centre of mass as a continuous index [z, y, x] on the CT."""
        z, y, x = self.to_full(ndimage.center_of_mass(self.share), spacing)
        return float(z), float(y), float(x)


def isolate(cube: Hu, total: Field, solid: Field, mm: float, candidate: Candidate) -> Region | None:
    """Return the candidate's own region of what a network outlined; None when there is none.

    Parameters
    ----------
    cube
        int16 [z, y, x], the CT on the network's cube.
    total, solid
        float32 [z, y, x], 0 … 1: how much of each voxel is nodule, and solid part.
    mm
        Voxel edge of the cube; the candidate lies in its middle.
    """
    total = np.nan_to_num(total).clip(0, 1)
    _clear_faces(total)
    middle = (np.array(total.shape) - 1) / 2
    z, y, x = (((np.arange(n) - at) * mm) ** 2 for n, at in zip(total.shape, middle, strict=True))
    away = np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])
    near = away <= max(_NEAR_SHARE * candidate.diameter_mm, _NEAR_MM, mm)
    best = float(total[near].max())
    if best < _LEAST_BEST:
        return None
    level = min(LEVEL, 0.5 * best)
    labels, _ = ndimage.label(total >= level)
    counts = np.bincount(labels[near])
    counts[0] = 0
    mask: Mask = labels == int(counts.argmax())
    box = tuple(
        slice(max(0, side.start - _RIM - 1), side.stop + _RIM + 1)
        for side in ndimage.find_objects(mask.view(np.uint8))[0]
    )
    mask, others = mask[box], (labels[box] > 0) & ~mask[box]
    around = ndimage.binary_dilation(mask, iterations=_RIM) & ~others
    share = np.where(around, total[box], 0).astype(np.float32)
    # The solid part is a part: it fills no more than the whole.
    part = np.minimum(np.nan_to_num(solid[box]).clip(0, 1), share).astype(np.float32)
    z, y, x = (at - side.start for at, side in zip(middle, box, strict=True))
    return Region(
        hu=cube[box],
        share=share,
        solid=part,
        mask=mask,
        level=level,
        mm=mm,
        middle=(float(z), float(y), float(x)),
        place=candidate.place,
    )


def on_grid(
    region: Region, field: Field, shape: tuple[int, ...], spacing: Triple
) -> tuple[Field, Triple]:
    """Return a field of the region averaged over the CT's voxels, and the first one's index.

    The field is read as linear between its voxels, so its sum times the voxel volume stays.

    Parameters
    ----------
    field
        float32 [z, y, x] on the region's voxels.
    shape, spacing
        Of the CT, [z, y, x].
    """
    out, start = field, []
    for axis, (at, edge, count) in enumerate(zip(region.place, spacing, shape, strict=True)):
        size, middle = field.shape[axis], region.middle[axis]
        ends = [at + (index - middle) * region.mm / edge for index in (-1, size)]
        first = min(max(0, int(np.floor(ends[0]))), count - 1)
        last = max(first + 1, min(count, int(np.ceil(ends[1])) + 1))
        centre = (np.arange(first, last, dtype=np.float64) - at) * edge / region.mm + middle
        half = edge / region.mm / 2
        from_voxel = centre[:, None] - np.arange(size)
        weights = (_hat(from_voxel + half) - _hat(from_voxel - half)) / (2 * half)
        out = np.moveaxis(np.tensordot(weights.astype(np.float32), out, (1, axis)), 0, axis)
        start.append(first)
    return out, (start[0], start[1], start[2])


def _hat(t: Floats) -> Floats:
    """Return the integral up to t of the hat function, 1 at 0 and 0 from 1 on."""
    inner = np.clip(t, -1, 1)
    total: Floats = np.where(inner < 0, (inner + 1) ** 2 / 2, 1 - (1 - inner) ** 2 / 2)
    return total


def _clear_faces(field: Field) -> None:
    for axis in range(3):
        np.moveaxis(field, axis, 0)[[0, -1]] = 0
