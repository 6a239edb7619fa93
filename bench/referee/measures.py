"""How well found nodules are outlined and measured: Dice, errors of volume, diameter, solid part.

The truth is how much of each voxel is nodule (and solid part), 0 to 1. Its sizes are taken by the
product's own rule (long and short axis on the axial slice of the longest axis), so that an error is
one of the outline and not of the definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lungmesh.detection.measure import Border, measure_axes

Share = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Sizes:
    """Sizes of one nodule.

    Attributes
    ----------
    volume_mm3, diameter_mm
        Of the whole; the diameter is the mean of long and short axis.
    solid_volume_mm3, solid_diameter_mm
        Of the solid part, 0 when there is none.
    """

    volume_mm3: float
    diameter_mm: float
    solid_volume_mm3: float = 0.0
    solid_diameter_mm: float = 0.0


@dataclass(frozen=True)
class Errors:
    """One found nodule against its truth.

    Attributes
    ----------
    kind
        The true one.
    diameter_mm
        The true diameter of the ball of the same volume, as bins go by.
    dice
        Of the masks; None when the nodule fills no voxel by half.
    volume
        Measured / true - 1.
    diameter
        Measured / true mean diameter - 1.
    solid_volume
        (Measured - true solid volume) / true whole volume; None unless truly part-solid.
    solid_diameter_mm
        Measured - true mean diameter of the solid part, mm; None unless truly part-solid.
    typed
        Whether the type is right.
    """

    kind: str
    diameter_mm: float
    dice: float | None
    volume: float
    diameter: float
    solid_volume: float | None
    solid_diameter_mm: float | None
    typed: bool


def dice(one: Mask, other: Mask) -> float | None:
    """Return 2 |A and B| / (|A| + |B|) of two masks of one shape; None when both are empty."""
    both = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / both if both else None


def true_sizes(total: Share, solid: Share, spacing: Triple) -> Sizes:
    """Measure the truth.

    Parameters
    ----------
    total, solid
        [z, y, x], 0 to 1: how much of each voxel is nodule and solid part.
    spacing
        mm along [z, y, x].

    Raises ValueError when no voxel is nodule by half.
    """
    voxel = float(np.prod(spacing))
    return Sizes(
        volume_mm3=float(total.sum(dtype=np.float64)) * voxel,
        diameter_mm=_diameter(total, spacing),
        solid_volume_mm3=float(solid.sum(dtype=np.float64)) * voxel,
        solid_diameter_mm=_diameter(solid, spacing) if (solid >= 0.5).any() else 0.0,
    )


def compare(
    kind: str,
    diameter_mm: float,
    total: Share,
    solid: Share,
    mask: Mask,
    measured: Sizes,
    typed: bool,
    spacing: Triple,
) -> Errors | None:
    """Compare a found nodule to its truth; None when the truth fills no voxel by half.

    Parameters
    ----------
    kind, diameter_mm
        The truth's.
    total, solid, mask
        [z, y, x] on one box: the true shares, and the mask that was found.
    measured
        Sizes that the product gave.
    typed
        Whether the product's type is right.
    spacing
        mm along [z, y, x].
    """
    if not (total >= 0.5).any():
        return None
    true = true_sizes(total, solid, spacing)
    part = kind == "part_solid"
    return Errors(
        kind=kind,
        diameter_mm=diameter_mm,
        dice=dice(total >= 0.5, mask),
        volume=measured.volume_mm3 / true.volume_mm3 - 1,
        diameter=measured.diameter_mm / true.diameter_mm - 1,
        solid_volume=(measured.solid_volume_mm3 - true.solid_volume_mm3) / true.volume_mm3
        if part
        else None,
        solid_diameter_mm=measured.solid_diameter_mm - true.solid_diameter_mm if part else None,
        typed=typed,
    )


def summary(errors: Sequence[Errors]) -> Mapping[str, float | int | None]:
    """Return the figures over nodules: means, medians and biases; None where nothing was measured.

    `diameter_error` and `volume_error` are medians of the absolute errors; `volume_bias` is the
    mean of the signed ones, and `volume_bias_median` their median.
    """
    overlaps = [one.dice for one in errors if one.dice is not None]
    volumes = [one.volume for one in errors]
    solid = [one.solid_volume for one in errors if one.solid_volume is not None]
    cores = [one.solid_diameter_mm for one in errors if one.solid_diameter_mm is not None]
    return {
        "nodules": len(errors),
        "dice": _mean(overlaps),
        "dice_median": _median(overlaps),
        "diameter_error": _median([abs(one.diameter) for one in errors]),
        "diameter_bias": _median([one.diameter for one in errors]),
        "volume_error": _median([abs(one) for one in volumes]),
        "volume_bias": _mean(volumes),
        "volume_bias_median": _median(volumes),
        "solid_volume_error": _median([abs(one) for one in solid]),
        "solid_diameter_error_mm": _median([abs(one) for one in cores]),
        "typed": _mean([float(one.typed) for one in errors]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _diameter(share: Share, spacing: Triple) -> float:
    # A frame of nothing, since the outline must not touch the array's faces.
    padded = np.pad(share, 1)
    return measure_axes(padded >= 0.5, Border(padded, 0.5), spacing).mean_mm
