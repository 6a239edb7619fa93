"""The deformation between two exams whose lungs lie roughly over each other, in both directions.

Demons (Thirion, Med Image Anal 1998;2:243; symmetric forces: Vercauteren et al., NeuroImage
2009;45:S61) from coarse to fine on an image of the lungs alone: vessels stand out from the lung
around them, whose own density changes with the breath; outside the lungs all is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

# (shrink factor, iterations) from coarse to fine.
_LEVELS = ((4, 100), (2, 60), (1, 30))
# Smoothing of the field after every iteration, voxels of the level.
_SMOOTHING = 1.0
# Over this distance the lung's own density is taken away, mm.
_DENSITY_MM = 12.0
_LUNG_HU = -500.0
# What vessels stand out by, at most, HU.
_WINDOW_HU = 300.0
_OUTSIDE = 1.0
# Less of a lung says nothing of how well it is laid, voxels (about 50 ml).
_LEAST_VOXELS = 2000
# Voxels from the surface that say nothing of the vessels.
_SURFACE = 2

Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Field:
    """Displacements on a grid along LPS.

    Attributes
    ----------
    vectors
        float32 [z, y, x, 3]: LPS mm.
    """

    vectors: Image
    origin: Floats
    spacing: Floats

    def at(self, points: npt.ArrayLike) -> Floats:
        """Return the displacements at LPS points (…, 3), mm; beyond the grid, those of its edge."""
        places = np.asarray(points, float)
        index = ((places - self.origin) / self.spacing).reshape(-1, 3)[:, ::-1].T
        parts = [
            ndimage.map_coordinates(self.vectors[..., k], index, float, order=1, mode="nearest")
            for k in range(3)
        ]
        return np.stack(parts, axis=-1).reshape(places.shape)


@dataclass(frozen=True)
class Deformation:
    """Two fields on the grid of the current exam's lungs, and how far they can be trusted.

    Attributes
    ----------
    back, forth
        From a place of the current exam to the same one in the affinely moved earlier exam, and
        the other way.
    dice
        Overlap of the lungs, of the worse of both.
    likeness
        Correlation of what stands out in the lungs, -1 … 1, of the worse of both: of another
        patient's it is near 0.
    inverse_error_mm
        Median distance in the lungs between a place and where `back` and `forth` lead.
    """

    back: Field
    forth: Field
    dice: float
    likeness: float
    inverse_error_mm: float


@dataclass(frozen=True)
class Sides:
    """Both exams on the grid of the current one's lungs.

    Attributes
    ----------
    fixed_hu, moving_hu, fixed_mask, moving_mask
        float32 images of the current and of the affinely moved earlier exam; masks 0 … 1.
    known
        bool [z, y, x]: where both exams know what is lung.
    on_right
        bool [x]: the columns on the right lung's side of the current exam.
    """

    fixed_hu: sitk.Image | None
    moving_hu: sitk.Image | None
    fixed_mask: sitk.Image
    moving_mask: sitk.Image
    known: Mask
    on_right: Mask

    def dice(self, moving_mask: sitk.Image) -> float:
        """Return the overlap of the current lungs with a mask of the earlier ones.

        One lung can lie well while the other does not: it is that of the worse one.
        """
        one = (sitk.GetArrayViewFromImage(self.fixed_mask) >= 0.5) & self.known
        other = (sitk.GetArrayViewFromImage(moving_mask) >= 0.5) & self.known
        overlaps = [
            2 * (a & b).sum() / (a.sum() + b.sum())
            for a, b in zip(self.of_lungs(one), self.of_lungs(other), strict=True)
            if max(a.sum(), b.sum()) >= _LEAST_VOXELS
        ]
        return round(float(min(overlaps, default=0.0)), 4)

    def of_lungs(self, mask: Mask) -> tuple[Mask, Mask]:
        """Return the parts of a mask on the right lung's side and on the left one's."""
        return mask & self.on_right, mask & ~self.on_right


def deform(sides: Sides) -> Deformation | None:
    """Return the deformation between two exams, or None where one of them has no voxels.

    The same exams give the same one.
    """
    if sides.fixed_hu is None or sides.moving_hu is None:
        return None
    fixed = _vessels(sides.fixed_hu, sides.fixed_mask, sides.known)
    moving = _vessels(sides.moving_hu, sides.moving_mask, sides.known)
    back, forth = _demons(fixed, moving), _demons(moving, fixed)
    fields = _field(back), _field(forth)
    moved = sitk.DisplacementFieldTransform(sitk.Cast(back, sitk.sitkVectorFloat64))
    mask = sitk.Resample(sides.moving_mask, fixed, moved, sitk.sitkLinear, 0.0)
    image = sitk.Resample(moving, fixed, moved, sitk.sitkLinear, _OUTSIDE)
    lungs = (sitk.GetArrayViewFromImage(sides.fixed_mask) >= 0.5) & sides.known
    both = lungs & (sitk.GetArrayViewFromImage(mask) >= 0.5)
    # The surface fits any two lungs: only what lies deeper tells that they are the same.
    deep = ndimage.binary_erosion(both, iterations=_SURFACE)
    shown = sitk.GetArrayViewFromImage(fixed), sitk.GetArrayViewFromImage(image)
    likenesses = [
        float(np.corrcoef(shown[0][part], shown[1][part])[0, 1])
        for part in sides.of_lungs(deep)
        if part.sum() >= _LEAST_VOXELS
    ]
    if not likenesses:
        return None
    places = np.argwhere(lungs)[:, ::-1] * fields[0].spacing + fields[0].origin
    then = places + fields[0].at(places)
    astray = np.linalg.norm(then + fields[1].at(then) - places, axis=1)
    return Deformation(
        *fields,
        dice=sides.dice(mask),
        likeness=round(min(likenesses), 4),
        inverse_error_mm=round(float(np.median(astray)), 3),
    )


def _vessels(hu: sitk.Image, mask: sitk.Image, known: Mask) -> sitk.Image:
    """Return what stands out from the lung around it, 1 outside the lungs."""
    values = sitk.GetArrayViewFromImage(hu)
    inside = sitk.GetArrayViewFromImage(mask) * known
    sigma = _DENSITY_MM / hu.GetSpacing()[0]
    weight = ndimage.gaussian_filter(inside, sigma)
    lung = ndimage.gaussian_filter(np.minimum(values, _LUNG_HU) * inside, sigma)
    above = (values - lung / np.maximum(weight, 1e-3)) / _WINDOW_HU
    shown = inside * np.clip(above, -0.3, 1.0) + (1 - inside) * _OUTSIDE
    image = sitk.GetImageFromArray(shown.astype(np.float32))
    image.CopyInformation(hu)
    return image


def _demons(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Return u with fixed(x) = moving(x + u(x)), a vector image."""
    field = sitk.Image()
    for level, (factor, rounds) in enumerate(_LEVELS):
        one, other = _smaller(fixed, factor), _smaller(moving, factor)
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfIterations(rounds)
        demons.SetStandardDeviations(_SMOOTHING)
        # No early end: a sum over threads would decide on it.
        demons.SetMaximumRMSError(0.0)
        if level == 0:
            field = demons.Execute(one, other)
        else:
            start = sitk.Resample(field, one, sitk.Transform(), sitk.sitkLinear)
            field = demons.Execute(one, other, start)
    return field


def _smaller(image: sitk.Image, factor: int) -> sitk.Image:
    if factor == 1:
        return image
    smooth = sitk.SmoothingRecursiveGaussian(image, 0.5 * factor * image.GetSpacing()[0])
    shrunk: sitk.Image = sitk.Shrink(smooth, [factor] * 3)
    return shrunk


def _field(image: sitk.Image) -> Field:
    return Field(
        sitk.GetArrayFromImage(image).astype(np.float32),
        np.asarray(image.GetOrigin()),
        np.asarray(image.GetSpacing()),
    )
