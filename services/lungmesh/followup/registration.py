"""Where a place in an earlier exam lies now: the lungs of both exams laid over each other.

Lung masks alone are used, so that a nodule that grew, came or went cannot pull the result. An
affine map takes up another position of the patient and another depth of breath.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import RegistrationMethod

RULES = ("lung-registration", "2")
_COARSE_MM = 4.0
# Distances farther from the lungs' surface than this say nothing more.
_REACH_MM = 40.0
_ITERATIONS = 80
# Share of the voxels that the overlap is measured on: twelve unknowns need few.
_SAMPLED = 0.08

Labels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


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
class Registration:
    """An affine map from the earlier exam's patient coordinates to the current one's (LPS, mm).

    Attributes
    ----------
    matrix, shift
        now = matrix @ then + shift; shapes (3, 3) and (3,).
    dice
        Overlap of the two lung masks after the map, 0 … 1.
    inverse_error_mm
        Median distance in the lungs between a place and where there and back leads.
    """

    matrix: Floats
    shift: Floats
    method: RegistrationMethod.ValueType
    dice: float
    inverse_error_mm: float

    def to_current(self, then: npt.ArrayLike) -> Floats:
        """Map LPS points (…, 3) of the earlier exam, mm, to the current exam."""
        return np.asarray(then, float) @ self.matrix.T + self.shift

    def to_earlier(self, now: npt.ArrayLike) -> Floats:
        """Map LPS points (…, 3) of the current exam, mm, to the earlier exam."""
        back: Floats = (np.asarray(now, float) - self.shift) @ np.linalg.inv(self.matrix).T
        return back


def register(earlier: Exam, current: Exam) -> Registration:
    """Lay the lungs of an earlier exam over those of the current one.

    The same two exams give the same map. The overlap tells how far it can be trusted.

    Raises ValueError when one of the exams has no lung.
    """
    fixed, moving = _lungs(current), _lungs(earlier)
    fixed_depth, moving_depth = _depth(fixed), _depth(moving)
    start = _by_boxes(fixed, moving)
    method = sitk.ImageRegistrationMethod()
    # One thread adds up in one order: the result is the same at every repeat.
    method.SetNumberOfThreads(1)
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(sitk.ImageRegistrationMethod.REGULAR)
    # ITK jitters even regular samples: the seed fixes where.
    method.SetMetricSamplingPercentage(_SAMPLED, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=_ITERATIONS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed_depth, moving_depth)
    # ITK's map goes from the current exam to the earlier one.
    back = np.asarray(start.GetMatrix()).reshape(3, 3)
    center = np.asarray(start.GetCenter())
    offset = np.asarray(start.GetTranslation()) + center - back @ center
    matrix = np.linalg.inv(back)
    return Registration(
        matrix,
        -matrix @ offset,
        followup_pb2.REGISTRATION_METHOD_AFFINE,
        _dice(fixed, moving, start),
        0.0,
    )


def _lungs(exam: Exam) -> sitk.Image:
    """Return the lung mask as float on voxels of about 4 mm, with room around it."""
    grid = exam.grid
    steps = [max(1, round(_COARSE_MM / mm)) for mm in grid.spacing]
    mask = (exam.lobes[:: steps[2], :: steps[1], :: steps[0]] > 0).astype(np.float32)
    if not mask.any():
        raise ValueError("the exam has no lung to register")
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing([mm * step for mm, step in zip(grid.spacing, steps, strict=True)])
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction).ravel().tolist())
    pad = [round(_REACH_MM / mm) for mm in image.GetSpacing()]
    padded: sitk.Image = sitk.ConstantPad(image, pad, pad, 0.0)
    return padded


def _depth(lungs: sitk.Image) -> sitk.Image:
    """Return the signed distance from the lungs' surface, mm: positive outside."""
    distance = sitk.SignedMaurerDistanceMap(
        sitk.Cast(lungs, sitk.sitkUInt8), squaredDistance=False, useImageSpacing=True
    )
    near: sitk.Image = sitk.Clamp(distance, sitk.sitkFloat32, -_REACH_MM, _REACH_MM)
    return near


def _by_boxes(fixed: sitk.Image, moving: sitk.Image) -> sitk.AffineTransform:
    """Return the map that lays the boxes around both lungs over each other."""
    (low_f, high_f), (low_m, high_m) = _box(fixed), _box(moving)
    scale = (high_m - low_m) / (high_f - low_f)
    middle = (low_f + high_f) / 2
    transform = sitk.AffineTransform(3)
    transform.SetCenter(middle.tolist())
    transform.SetMatrix(np.diag(scale).ravel().tolist())
    transform.SetTranslation(((low_m + high_m) / 2 - middle).tolist())
    return transform


def _box(lungs: sitk.Image) -> tuple[Floats, Floats]:
    z, y, x = np.nonzero(sitk.GetArrayViewFromImage(lungs))
    matrix = np.asarray(lungs.GetDirection()).reshape(3, 3) * np.asarray(lungs.GetSpacing())
    places = np.stack([x, y, z], axis=-1) @ matrix.T + np.asarray(lungs.GetOrigin())
    return places.min(axis=0), places.max(axis=0)


def _dice(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    one = sitk.GetArrayViewFromImage(fixed) > 0.5
    other = sitk.GetArrayViewFromImage(moved) > 0.5
    return round(float(2 * (one & other).sum() / (one.sum() + other.sum())), 4)
