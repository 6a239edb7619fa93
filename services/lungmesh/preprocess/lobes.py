"""The five lobes: smooth fissure surfaces fitted to what the image shows of them.

A fissure is a thin bright plate with few vessels around it. Each oblique fissure, and on the right
the horizontal one, is a smooth height field over the lung, started at its usual place and moved to
where a plate filter answers most. Where the image shows too little, the usual place stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from lungmesh.preprocess.coarse import Coarse
from lungmesh.preprocess.findings import Finding, Severity
from lungmesh.preprocess.lungs import LEFT, RIGHT
from lungmesh.v1 import nodule_pb2

Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]

NAME, VERSION = "lobes-fissure-fit", "1"

# Usual place of a fissure, in shares of the lung's box: height over the base as a polynomial of
# depth a (0 front, 1 back) and width b (0 medial, 1 lateral), both from the middle: 1, a, b, a²,
# b², ab. From the surface anatomy of the fissures: the oblique one runs from the third to fourth
# thoracic vertebra (about three quarters up) to the sixth costal cartilage at the base, the
# horizontal one along the fourth rib (Standring, Gray's Anatomy, 42nd ed., chapter 54).
_OBLIQUE = np.array([0.36, 0.80, 0.0, 0.0, 0.0, 0.0])
_HORIZONTAL = np.array([0.50, 0.0, 0.0, 0.0, 0.0, 0.0])
# How far each coefficient strays from the usual, one standard deviation.
_SPREAD = np.array([0.08, 0.15, 0.10, 0.15, 0.15, 0.15])
# Weight of the usual place against the plate filter's mean answer (0 … 1).
_PRIOR_WEIGHT = 0.02
# A fit whose surface answers less than this is not shown by the image.
_MIN_ANSWER = 0.06
# A fissure at 2 mm lies between aerated lung and vessels.
_FISSURE_HU = (-930.0, -550.0)
_VESSEL_ABOVE_HU = -600.0
_NAMES = {
    "right_oblique": ("right oblique fissure", "右斜裂"),
    "right_horizontal": ("horizontal fissure", "水平裂"),
    "left_oblique": ("left oblique fissure", "左斜裂"),
}


@dataclass(frozen=True)
class Fissure:
    """One fissure: its height field and how well the image shows it.

    Attributes
    ----------
    name
        right_oblique, right_horizontal or left_oblique.
    answer
        Mean answer of the plate filter on the surface, 0 … 1.
    fitted
        False where the image shows too little and the usual place stands.
    """

    name: str
    answer: float
    fitted: bool


def judge_fissures(fissures: Sequence[Fissure]) -> list[Finding]:
    """Name the fissures that the image does not show: lobes near them are an estimate."""
    unseen = [fissure for fissure in fissures if not fissure.fitted]
    if not unseen:
        return []
    names_en = ", ".join(_NAMES[fissure.name][0] for fissure in unseen)
    names_zh = "、".join(_NAMES[fissure.name][1] for fissure in unseen)
    return [
        Finding(
            "fissures",
            Severity.NOTE,
            f"Hardly visible, placed by usual anatomy: {names_en}; lobes near it are an estimate.",
            f"显示不清，按常规解剖定位：{names_zh}；其附近的肺叶归属为估计。",
        )
    ]


def find_lobes(coarse: Coarse, lungs: Labels) -> tuple[Labels, tuple[Fissure, ...]]:
    """Return the lobes on the coarse grid, uint8 [z, y, x], numbered as the proto's Lobe.

    Parameters
    ----------
    lungs
        uint8 [z, y, x] of `find_lungs`: 1 right, 2 left. Every lung voxel gets a lobe.
    """
    out = np.zeros(lungs.shape, np.uint8)
    fissures: list[Fissure] = []
    for side in (RIGHT, LEFT):
        lung = lungs == side
        if not lung.any():
            continue
        box = ndimage.find_objects(lung.astype(np.uint8))[0]
        field = _Lung(coarse.hu[box], lung[box], coarse.spacing, side)
        name = "right" if side == RIGHT else "left"
        oblique, fissure = field.fit(f"{name}_oblique", _OBLIQUE, lung[box])
        fissures.append(fissure)
        above = field.above(oblique)
        if side == LEFT:
            lobes = np.where(above, nodule_pb2.LOBE_LEFT_UPPER, nodule_pb2.LOBE_LEFT_LOWER)
        else:
            horizontal, fissure = field.fit("right_horizontal", _HORIZONTAL, lung[box] & above)
            fissures.append(fissure)
            upper = np.where(
                field.above(horizontal), nodule_pb2.LOBE_RIGHT_UPPER, nodule_pb2.LOBE_RIGHT_MIDDLE
            )
            lobes = np.where(above, upper, nodule_pb2.LOBE_RIGHT_LOWER)
        out[box][lung[box]] = lobes[lung[box]]
    return out, tuple(fissures)


class _Lung:
    """One lung in its box, with the plate filter's answers for surfaces of a given slope."""

    def __init__(
        self, hu: Field, lung: Mask, spacing: tuple[float, float, float], side: int
    ) -> None:
        self.hu, self.lung, self.spacing = hu, lung, spacing
        depth, height, width = lung.shape
        self.top = depth - 1
        a = np.linspace(-0.5, 0.5, height)[:, None]
        # b runs from medial to lateral: the left lung lies towards +x.
        b = np.linspace(-0.5, 0.5, width)[None, :] * (1 if side == LEFT else -1)
        ones = np.ones((height, width))
        self.basis = np.stack([ones, a * ones, b * ones, a**2 * ones, b**2 * ones, a * b])
        vessels = lung & (hu > _VESSEL_ABOVE_HU)
        density = ndimage.gaussian_filter(vessels.astype(np.float32), _voxels(5.0, spacing))
        inside = ndimage.gaussian_filter(lung.astype(np.float32), _voxels(5.0, spacing))
        self.vessels = np.where(lung, density / np.maximum(inside, 0.05), 0)

    def heights(self, coefficients: Floats) -> Floats:
        """Return the surface's height in voxels, [y, x]."""
        heights: Floats = np.tensordot(coefficients, self.basis, axes=1) * self.top
        return heights

    def above(self, heights: Floats) -> Mask:
        """Return what lies above the surface, [z, y, x]."""
        return np.arange(self.top + 1)[:, None, None] >= heights[None]

    def fit(self, name: str, usual: Floats, where: Mask) -> tuple[Floats, Fissure]:
        """Return the fissure's height field [y, x] in voxels."""
        plates = self._plates(usual) * where
        best = usual
        # From a wide view to a sharp one: far from the fissure only a smooth field pulls.
        for sigma_mm in (6.0, 3.0, 1.5):
            worth = ndimage.gaussian_filter(plates, _voxels(sigma_mm, self.spacing))
            worth /= max(float(np.quantile(worth[where], 0.995)), 1e-6)
            worth = np.minimum(worth, 1.0) - np.minimum(self.vessels, 0.3)
            best = self._search(worth, where, best, usual, wide=sigma_mm == 6.0)
        heights = self.heights(best)
        answer = self._mean(
            plates / max(float(np.quantile(plates[where], 0.98)), 1e-6), where, heights
        )
        fitted = answer >= _MIN_ANSWER
        if not fitted:
            heights = self.heights(usual)
        return heights, Fissure(name, round(answer, 4), fitted)

    def _search(
        self, worth: Field, where: Mask, start: Floats, usual: Floats, wide: bool
    ) -> Floats:
        def loss(coefficients: Floats) -> float:
            strays = (coefficients - usual) / _SPREAD
            prior = _PRIOR_WEIGHT * float(strays @ strays)
            return prior - self._mean(worth, where, self.heights(coefficients))

        starts = [start]
        if wide:
            shifts = (-0.12, -0.06, 0.0, 0.06, 0.12)
            tilts = (-0.15, 0.0, 0.15)
            starts = [
                start + np.array([shift, tilt, 0, 0, 0, 0]) for shift in shifts for tilt in tilts
            ]
            starts = sorted(starts, key=loss)[:4]
        results = [
            optimize.minimize(
                loss,
                begin,
                method="Nelder-Mead",
                options={
                    "maxfev": 300,
                    "initial_simplex": np.vstack([begin, begin + np.diag(_SPREAD / 2)]),
                },
            )
            for begin in starts
        ]
        best: Floats = min(results, key=lambda result: float(result.fun)).x
        return best

    def _mean(self, worth: Field, where: Mask, heights: Floats) -> float:
        """Return the mean of a field on a surface, where the surface is inside the lung."""
        thin = heights[::2, ::2]
        z = np.clip(np.rint(thin).astype(np.int64), 0, self.top)
        y, x = np.ogrid[: heights.shape[0] : 2, : heights.shape[1] : 2]
        inside = where[z, y, x] & (thin >= 0) & (thin <= self.top)
        # A surface that leaves the lung meets few columns; they must not win by their mean.
        seen: Mask = np.asarray(where.any(axis=0))[::2, ::2]
        columns = max(int(inside.sum()), int(0.25 * seen.sum()), 1)
        return float(worth[z, y, x][inside].sum() / columns)

    def _plates(self, usual: Floats) -> Field:
        """Answer to bright plates of about the usual slope: curved across, flat along."""
        sigma = _voxels(1.8, self.spacing)
        depth, height, _ = self.lung.shape
        slope = usual[1] * depth * self.spacing[0] / (height * self.spacing[1])
        across = np.array([1.0, -slope]) / np.hypot(1.0, slope)
        along = np.array([slope, 1.0]) / np.hypot(1.0, slope)
        filled = np.where(self.lung, np.minimum(self.hu, -300.0), -860.0).astype(np.float32)

        def second(*order: int) -> Field:
            scale = np.prod([mm**-n for mm, n in zip(self.spacing, order, strict=True)])
            curved: Field = ndimage.gaussian_filter(filled, sigma, order=order) * scale
            return curved

        zz, zy, yy, xx = second(2, 0, 0), second(1, 1, 0), second(0, 2, 0), second(0, 0, 2)
        bent = -(across[0] ** 2 * zz + 2 * across[0] * across[1] * zy + across[1] ** 2 * yy)
        flat = np.abs(along[0] ** 2 * zz + 2 * along[0] * along[1] * zy + along[1] ** 2 * yy)
        answer = np.maximum(bent - flat - np.abs(xx), 0)
        # The pleura answers too: keep off the lung's surface.
        inner = ndimage.binary_erosion(self.lung, iterations=2)
        low, high = _FISSURE_HU
        plates: Field = np.where(inner & (self.hu > low) & (self.hu < high), answer, 0)
        return plates


def _voxels(sigma_mm: float, spacing: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(sigma_mm / mm for mm in spacing)
