"""Measurements of a segmented nodule: axes, density, mass, shape.

Sizes follow what the voxels hold of the nodule, not the voxels: the border runs where their share
crosses the region's level, interpolated between voxel centres. Where another nodule goes on behind
the border it runs between the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]

NAME, VERSION = "nodule-measurements", "2"
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Border:
    """Where a region ends.

    Attributes
    ----------
    share
        float32 [z, y, x]: how much of each voxel is of the region, 0 … 1.
    level
        The share at which it ends.
    """

    share: Field
    level: float


@dataclass(frozen=True)
class Axes:
    """Long and short axis on one axial slice.

    Attributes
    ----------
    z
        The slice, an index of the array.
    long_mm, short_mm
        Lengths, mm.
    long_ends, short_ends
        Two points each, [z, y, x] index coordinates.
    """

    z: int
    long_mm: float
    short_mm: float
    long_ends: tuple[Triple, Triple]
    short_ends: tuple[Triple, Triple]

    @property
    def mean_mm(self) -> float:
        """Mean of both lengths, mm."""
        return (self.long_mm + self.short_mm) / 2


@dataclass(frozen=True)
class Density:
    """HU within a nodule.

    Attributes
    ----------
    mean
        Mean HU.
    percentiles
        5th, 25th, 50th, 75th and 95th.
    """

    mean: float
    percentiles: tuple[float, ...]


def measure_axes(mask: Mask, border: Border, spacing: Triple) -> Axes:
    """Measure the long axis, on the axial slice where it is largest, and the short one across it.

    Long axis: the largest distance between two points of the outline on any axial slice. Short
    axis: the largest extent of the convex outline perpendicular to it on that slice.

    Parameters
    ----------
    mask
        bool [z, y, x], at least one voxel, none of them on the array's faces.
    spacing
        mm along [z, y, x]; axial slices are the planes of the first axis.
    """
    _, dy, dx = spacing
    best: tuple[float, int, Floats, int, int] | None = None
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        points = _outline(mask[z], border.share[z], border.level) * (dy, dx)
        points = _corners(points)
        apart = squareform(pdist(points))
        one, other = np.unravel_index(int(apart.argmax()), apart.shape)
        if best is None or apart[one, other] > best[0] + 1e-9:
            best = float(apart[one, other]), int(z), points, int(one), int(other)
    if best is None:
        raise ValueError("an empty mask has no axes")
    length, slice_index, points, first, second = best
    along = (points[second] - points[first]) / length
    across = np.array([-along[1], along[0]])
    u, v = points @ along, points @ across
    at, low, high = _widest(u, v)
    ends = [at * along + low * across, at * along + high * across]

    def place(point: Floats) -> Triple:
        return float(slice_index), float(point[0] / dy), float(point[1] / dx)

    return Axes(
        z=slice_index,
        long_mm=length,
        short_mm=high - low,
        long_ends=(place(points[first]), place(points[second])),
        short_ends=(place(ends[0]), place(ends[1])),
    )


def measure_density(mask: Mask, hu: npt.NDArray[np.floating | np.integer]) -> Density:
    """Return mean and percentiles of the HU of the mask's voxels."""
    values = hu[mask].astype(np.float64)
    return Density(
        mean=float(values.mean()),
        percentiles=tuple(float(part) for part in np.percentile(values, PERCENTILES)),
    )


def mass_mg(volume_mm3: float, mean_hu: float) -> float:
    """Return the mass in mg: volume × density, with water 1000 and air 0 mg/ml."""
    return max(0.0, volume_mm3 * (mean_hu + 1000) / 1000)


def sphericity(mask: Mask, border: Border, spacing: Triple) -> float:
    """Return the surface of the ball of equal volume over the surface, 0 … 1.

    The surface is the integral of the gradient of the filled share (coarea formula), which a
    staircase of voxels does not lengthen.
    """
    filled = np.pad(_filled(mask, border), 2)
    slope = np.sqrt(sum(part**2 for part in np.gradient(filled, *spacing)))
    voxel = float(np.prod(spacing))
    volume = float(filled.sum(dtype=np.float64)) * voxel
    surface = float(slope.sum(dtype=np.float64)) * voxel
    ball: float = pi ** (1 / 3) * (6 * volume) ** (2 / 3)
    return min(1.0, ball / surface)


def _filled(mask: Mask, border: Border) -> Field:
    """Return each voxel's share of the region: 1 deep inside, 0 outside, between on the border."""
    filled: Field = np.clip(border.share / (2 * border.level), 0, 1)
    filled[ndimage.binary_erosion(mask)] = 1
    filled[~ndimage.binary_dilation(mask)] = 0
    return filled


def _outline(mask: Mask, share: Field, level: float) -> Floats:
    """Return where the border crosses the lines between neighbouring pixels, (n, 2) [y, x]."""
    found = []
    for axis in (0, 1):
        for sign in (1, -1):
            outside = np.roll(mask, -sign, axis)
            index = np.argwhere(mask & ~outside)
            step = np.zeros(2, int)
            step[axis] = sign
            inner = share[tuple(index.T)]
            outer = share[tuple((index + step).T)]
            falls = (inner >= level) & (outer < level)
            part = np.where(falls, (inner - level) / np.where(falls, inner - outer, 1), 0.5)
            found.append(index + part[:, None] * step)
    return np.concatenate(found).astype(np.float64)


def _corners(points: Floats) -> Floats:
    """Return the corners of the points' convex outline."""
    try:
        corners: Floats = points[ConvexHull(points).vertices]
    except QhullError:  # all in one line
        return points
    return corners


def _widest(u: Floats, v: Floats) -> tuple[float, float, float]:
    """Return where along u a convex outline is widest in v, and its two v there.

    The width of a convex outline is concave and bends only at corners, so it is largest at one.
    """
    places = np.unique(u)
    low, high = _edge(u, v, places, -1), _edge(u, v, places, 1)
    best = int((high - low).argmax())
    return float(places[best]), float(low[best]), float(high[best])


def _edge(u: Floats, v: Floats, places: Floats, side: int) -> Floats:
    """Return the outline's upper (1) or lower (-1) edge at places along u."""
    chain: list[tuple[float, float]] = []
    for index in np.lexsort((-side * v, u)):
        point = float(u[index]), side * float(v[index])
        while len(chain) > 1 and _turn(chain[-2], chain[-1], point) >= 0:
            chain.pop()
        if not chain or point[0] > chain[-1][0]:
            chain.append(point)
    at, height = np.array(chain).T
    edge: Floats = side * np.interp(places, at, height)
    return edge


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
