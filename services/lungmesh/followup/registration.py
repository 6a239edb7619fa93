"""Where a place in an earlier exam lies now: the lungs of both exams laid over each other.

First by an affine map of the lungs' surfaces (another position of the patient, another depth of
breath), then, where the voxels are at hand, by a deformation that vessels drive. What lies outside
the lungs has no say, and neither has what one of the exams does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from lungmesh.followup.deformation import Deformation, Sides, deform
from lungmesh.followup.exam import (
    COARSE_MM,
    MARGIN_MM,
    Exam,
    Lungs,
    box_of,
    coarse_lungs,
    right_of,
)
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import RegistrationMethod

__all__ = ["RULES", "Exam", "Registration", "register"]

RULES = ("lung-registration", "3")
_ITERATIONS = 80
# Share of the voxels that the overlap is measured on: twelve unknowns need few.
_SAMPLED = 0.04
# The deformation is computed this far around the lungs, mm.
_AROUND_MM = 15.0
# A deformation that leads farther astray, or lays the lungs worse than the affine map by more than
# this, is dropped.
_MOST_ASTRAY_MM = 4.0
_DICE_LOSS = 0.01

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Registration:
    """A map from the earlier exam's patient coordinates to the current one's (LPS, mm), and back.

    Attributes
    ----------
    matrix, shift
        The affine part: now = matrix @ then + shift; shapes (3, 3) and (3,).
    deformation
        What the affine part leaves; None where it stands alone.
    dice
        Overlap of the lung masks, 0 … 1, where both exams show them: of the worse of both lungs.
    likeness
        Correlation of what stands out in the laid-over lungs, -1 … 1, of the worse of both; None
        without voxels.
    inverse_error_mm
        Median distance in the lungs between a place and where there and back leads; 0 of an affine
        map alone, whose inverse is exact.
    """

    matrix: Floats
    shift: Floats
    deformation: Deformation | None
    dice: float
    likeness: float | None
    inverse_error_mm: float

    @property
    def method(self) -> RegistrationMethod.ValueType:
        """AFFINE or DEFORMABLE."""
        if self.deformation is None:
            return followup_pb2.REGISTRATION_METHOD_AFFINE
        return followup_pb2.REGISTRATION_METHOD_DEFORMABLE

    def to_current(self, then: npt.ArrayLike) -> Floats:
        """Map LPS points (…, 3) of the earlier exam, mm, to the current exam."""
        now: Floats = np.asarray(then, float) @ self.matrix.T + self.shift
        return now if self.deformation is None else now + self.deformation.forth.at(now)

    def to_earlier(self, now: npt.ArrayLike) -> Floats:
        """Map LPS points (…, 3) of the current exam, mm, to the earlier exam."""
        place = np.asarray(now, float)
        if self.deformation is not None:
            place = place + self.deformation.back.at(place)
        then: Floats = (place - self.shift) @ np.linalg.inv(self.matrix).T
        return then


def register(earlier: Exam, current: Exam) -> Registration:
    """Lay the lungs of an earlier exam over those of the current one.

    The same two exams give the same map. Dice, likeness and the inverse error tell how far it can
    be trusted; whoever calls refuses it.

    Raises ValueError when one of the exams has no lung.
    """
    fixed, moving = coarse_lungs(current), coarse_lungs(earlier)
    affine = _affine(fixed, moving)
    # ITK's map goes from the current exam to the earlier one.
    back = np.asarray(affine.GetMatrix()).reshape(3, 3)
    center = np.asarray(affine.GetCenter())
    offset = np.asarray(affine.GetTranslation()) + center - back @ center
    matrix = np.linalg.inv(back)
    sides = _sides(fixed, moving, affine)
    dice = sides.dice(sides.moving_mask)
    found = deform(sides)
    trusted = (
        found is not None
        and found.inverse_error_mm <= _MOST_ASTRAY_MM
        and found.dice >= dice - _DICE_LOSS
    )
    return Registration(
        matrix=matrix,
        shift=-matrix @ offset,
        deformation=found if trusted else None,
        dice=found.dice if found is not None and trusted else dice,
        likeness=found.likeness if found is not None else None,
        inverse_error_mm=found.inverse_error_mm if found is not None else 0.0,
    )


def _affine(fixed: Lungs, moving: Lungs) -> sitk.AffineTransform:
    """Return the map of the current lungs' surface to the earlier one's."""
    start = _start(fixed, moving)
    method = sitk.ImageRegistrationMethod()
    # One thread adds up in one order: the result is the same at every repeat.
    method.SetNumberOfThreads(1)
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(sitk.ImageRegistrationMethod.REGULAR)
    # ITK jitters even regular samples: the seed fixes where.
    method.SetMetricSamplingPercentage(_SAMPLED, seed=1)
    method.SetMetricFixedMask(fixed.known)
    method.SetMetricMovingMask(moving.known)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=_ITERATIONS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(_depth(fixed), _depth(moving))
    return start


def _depth(lungs: Lungs) -> sitk.Image:
    """Return the signed distance from the lungs' surface, mm: positive outside.

    Cut lungs are drawn on beyond their end, as the cut is no surface.
    """
    mask = sitk.GetArrayViewFromImage(lungs.mask) >= 0.5
    known = sitk.GetArrayViewFromImage(lungs.known) > 0
    first = known.argmax(axis=0)
    last = len(known) - 1 - known[::-1].argmax(axis=0)
    rows = np.clip(np.arange(len(mask))[:, None, None], first, last)
    image = sitk.GetImageFromArray(np.take_along_axis(mask, rows, axis=0).astype(np.uint8))
    image.CopyInformation(lungs.mask)
    distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    near: sitk.Image = sitk.Clamp(distance, sitk.sitkFloat32, -MARGIN_MM, MARGIN_MM)
    return near


def _start(fixed: Lungs, moving: Lungs) -> sitk.AffineTransform:
    """Return the map that lays the boxes around both lungs over each other.

    Where one of them is cut, as much of both is taken as the shorter one has, from the end that
    both show.
    """
    boxes = [box_of(fixed.mask), box_of(moving.mask)]
    foot, head = (fixed.cut[end] or moving.cut[end] for end in (0, 1))
    if foot or head:
        height = min(float(high[2] - low[2]) for low, high in boxes)
        boxes = [
            _part_box(lungs.mask, *_span(box, height, foot, head))
            for lungs, box in zip((fixed, moving), boxes, strict=True)
        ]
    (low_f, high_f), (low_m, high_m) = boxes
    middle = (low_f + high_f) / 2
    transform = sitk.AffineTransform(3)
    transform.SetCenter(middle.tolist())
    transform.SetMatrix(np.diag((high_m - low_m) / (high_f - low_f)).ravel().tolist())
    transform.SetTranslation(((low_m + high_m) / 2 - middle).tolist())
    return transform


def _span(box: tuple[Floats, Floats], height: float, foot: bool, head: bool) -> tuple[float, float]:
    """Return the lowest and highest z, mm, of the part that is compared."""
    low, high = float(box[0][2]), float(box[1][2])
    if foot and head:
        middle = (low + high) / 2
        return middle - height / 2, middle + height / 2
    return (high - height, high) if foot else (low, low + height)


def _part_box(mask: sitk.Image, low: float, high: float) -> tuple[Floats, Floats]:
    start, stop = (round((at - mask.GetOrigin()[2]) / COARSE_MM) for at in (low, high))
    return box_of(mask[:, :, start : stop + 1])


def _sides(fixed: Lungs, moving: Lungs, affine: sitk.Transform) -> Sides:
    """Return both exams on the grid around the current lungs."""
    cut = [round((MARGIN_MM - _AROUND_MM) / COARSE_MM)] * 3
    frame = sitk.Crop(fixed.mask, cut, cut)
    # Far beyond a cut nothing is known; far beyond whole lungs there are none.
    beyond = 0 if any(moving.cut) else 1
    known = [
        sitk.Crop(fixed.known, cut, cut),
        sitk.Resample(moving.known, frame, affine, sitk.sitkNearestNeighbor, beyond),
    ]
    both = np.logical_and(*(sitk.GetArrayViewFromImage(one) > 0 for one in known))
    fixed_hu = moving_hu = None
    if fixed.hu is not None and moving.hu is not None:
        fixed_hu = sitk.Crop(fixed.hu, cut, cut)
        moving_hu = sitk.Resample(moving.hu, frame, affine, sitk.sitkLinear, 0.0)
    mask = sitk.Resample(moving.mask, frame, affine, sitk.sitkLinear, 0.0)
    return Sides(fixed_hu, moving_hu, frame, mask, both, right_of(frame, fixed.middle_mm))
