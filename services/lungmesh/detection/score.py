"""Detection score: how much a segmented candidate looks like a nodule and not like a vessel.

Nodules are compact, end in lung on all sides and lie among few vessels; crossings of vessels, hila,
pleura and diaphragm do not. The weights were set by hand from that, on simulated nodules and the
candidates around them; nothing was trained, and the score is no probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection.candidates import GROUND_GLASS_MOST_HU, Window
from lungmesh.detection.measure import measure_volume, sphericity
from lungmesh.detection.segment import Segmentation

Mask = npt.NDArray[np.bool_]
Triple = tuple[float, float, float]

NAME, VERSION = "nodule-score", "1"

# Vessels and walls, as seen in the neighbourhood.
_VESSEL_HU = -600.0
# Nearer than this is the nodule's own blurred edge, mm.
_EDGE_MM = 1.5
_DIAMETER_OF_VOLUME = 6 / pi


@dataclass(frozen=True)
class Shape:
    """What the score is made of.

    Attributes
    ----------
    diameter_mm
        Of the ball of equal volume.
    attached
        Share of the surface behind which a vessel goes on.
    walled
        Share of the surface at the edge of the lung.
    crowded
        Share of the lung around that is vessel.
    roundness
        Shortest over longest principal axis.
    sphericity
        Surface of the ball of equal volume over the surface.
    ground_glass
        Share of the core that is ground glass.
    """

    diameter_mm: float
    attached: float
    walled: float
    crowded: float
    roundness: float
    sphericity: float
    ground_glass: float


def describe(found: Segmentation, spacing: Triple) -> Shape:
    """Measure what the score needs."""
    mask, border = found.mask, found.border
    diameter = (_DIAMETER_OF_VOLUME * measure_volume(mask, border, spacing)) ** (1 / 3)
    attached, walled = _surface(found, spacing)
    points = np.argwhere(mask) * spacing
    # A voxel is a box, not a point: its own spread keeps single rows from being flat.
    spread = np.cov(points.T, bias=True) if len(points) > 1 else np.zeros((3, 3))
    axes = np.linalg.eigvalsh(spread + np.diag(np.square(spacing)) / 12)
    away = ndimage.distance_transform_edt(~mask, sampling=spacing)
    around = found.lungs & (away > _EDGE_MM) & (away <= _EDGE_MM + max(4.0, 0.5 * diameter))
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    core = border.hu[depth > 0.3 * depth.max()]
    return Shape(
        diameter_mm=diameter,
        attached=attached,
        walled=walled,
        crowded=float(np.mean(found.hu[around] > _VESSEL_HU)) if around.any() else 1.0,
        roundness=float(np.sqrt(axes[0] / axes[2])),
        sphericity=sphericity(mask, border, spacing),
        ground_glass=float(np.mean(core < GROUND_GLASS_MOST_HU)),
    )


def score(shape: Shape, window: Window) -> float:
    """Return the detection score, 0 … 1, rounded to 0.0001."""
    evidence = 4.0
    evidence -= 8.0 * shape.attached
    evidence -= 12.0 * shape.crowded
    evidence -= 5.0 * max(0.0, shape.walled - 0.2)
    evidence -= 12.0 * max(0.0, 0.8 - shape.roundness) ** 2
    evidence -= 8.0 * max(0.0, 0.93 - shape.sphericity)
    # Larger is surer, within limits: most crossings are small.
    evidence += 1.5 * min(1.0, max(-1.0, log(max(shape.diameter_mm, 0.1) / 8)))
    if window is Window.GROUND_GLASS:
        # A tangle of vessels, blurred, is as faint as ground glass, but bright inside.
        evidence -= 3.0 * (1 - shape.ground_glass)
    return round(1 / (1 + exp(-evidence)), 4)


def _surface(found: Segmentation, spacing: Triple) -> tuple[float, float]:
    """Return the shares of the surface that touch a vessel, and the edge of the lung."""
    vessel = found.hu > max(found.border.level, _VESSEL_HU)
    faces = attached = walled = 0.0
    for axis in range(3):
        area = float(np.prod(spacing) / spacing[axis])
        for sign in (1, -1):
            outside = np.roll(found.mask, sign, axis) & ~found.mask
            faces += area * float(outside.sum())
            attached += area * float((outside & vessel & found.lungs).sum())
            walled += area * float((outside & ~found.lungs).sum())
    return attached / faces, walled / faces
