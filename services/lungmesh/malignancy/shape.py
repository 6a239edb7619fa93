"""The shape of a nodule's mask in a few numbers, the same for readers' contours and our own masks.

Everything is read from the signed distance to the mask's surface on cubic voxels, smoothed so that
neither the stairs between slices nor the pixels' corners count as shape.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from math import pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]

NAME, VERSION = "nodule-shape", "1"

# Cubic voxels of this edge, or so many to the diameter of a large nodule.
_STEP_MM, _STEPS = 0.5, 20
_SMOOTHING_MM = 0.6
# A mask of fewer voxels than this has no shape; it is judged as so many.
_LEAST_VOXELS = 8
# Notches are what a ball of this radius does not enter; it needs as much room around the nodule.
_NOTCH_RADIUS_MM, _MARGIN_MM = 5.0, 6.0
# Protrusions are what a ball of this share of the nodule's own radius does not fill.
_CORE_SHARE = 0.6
# Outlines are judged on every second plane whose area reaches this share of the largest.
_PLANE_SHARE = 0.25
_ANGLES = 64
_RAY = 0.25
# Of a pixel, from its centre.
_CORNERS = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)])
# Harmonics of the outline's radius: waves a turn.
_LOBES, _SPIKES = slice(3, 7), slice(7, 21)


@dataclass(frozen=True)
class Shape:
    """Shape of one nodule.

    Attributes
    ----------
    diameter_mm
        Of the ball of the same volume.
    elongation, flatness
        Second and third principal axis over the first, 0 … 1; both are 1 for a ball.
    notches
        What a ball of 5 mm radius cannot enter, over the volume; 0 for a ball.
    protrusions
        Share that a ball of 0.6 of the nodule's radius cannot fill; 0 for a ball.
    outline_fill
        Area over that of the convex outline, mean over axial planes; 1 for a disc.
    outline_lobes, outline_spikes
        Waves of the outline's radius with 3 to 6 and with 7 to 20 periods a turn, as a share of the
        mean radius (root of the sum of squares), mean over axial planes; 0 for a disc.
    """

    diameter_mm: float
    elongation: float
    flatness: float
    notches: float
    protrusions: float
    outline_fill: float
    outline_lobes: float
    outline_spikes: float

    def as_tuple(self) -> tuple[float, ...]:
        """Return the numbers in the order of `NAMES`."""
        numbers: tuple[float, ...] = astuple(self)
        return numbers


NAMES = tuple(field.name for field in fields(Shape))


def measure_shape(mask: Mask, spacing: Triple) -> Shape:
    """Measure a mask.

    Parameters
    ----------
    mask
        bool [z, y, x] with at least one voxel; a box around the nodule suffices.
    spacing
        mm along [z, y, x]; outlines are taken on planes of the first axis.

    Raises ValueError for an empty mask.
    """
    if not mask.any():
        raise ValueError("an empty mask has no shape")
    about = (6 / pi * float(mask.sum()) * float(np.prod(spacing))) ** (1 / 3)
    step = max(_STEP_MM, about / _STEPS)
    distance = _distance(mask, spacing, step)
    level = 0.0
    if np.count_nonzero(distance < level) < _LEAST_VOXELS:
        level = float(np.partition(distance.ravel(), _LEAST_VOXELS)[_LEAST_VOXELS])
    body = distance <= level
    volume = float(np.clip(0.5 - (distance - level) / step, 0, 1).sum()) * step**3
    diameter = (6 / pi * volume) ** (1 / 3)
    points = np.argwhere(body) * step
    axes = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(points.T)), 1e-3))
    fill, lobes, spikes = _outlines(distance - level, body)
    return Shape(
        diameter_mm=diameter,
        elongation=float(axes[1] / axes[2]),
        flatness=float(axes[0] / axes[2]),
        notches=_notches(distance - level, body, step),
        protrusions=_protrusions(body, step, _CORE_SHARE * diameter / 2),
        outline_fill=fill,
        outline_lobes=lobes,
        outline_spikes=spikes,
    )


def _distance(mask: Mask, spacing: Triple, step: float) -> Field:
    """Return the signed distance to the surface, mm, negative inside, on cubic voxels."""
    low = np.argwhere(mask).min(axis=0)
    high = np.argwhere(mask).max(axis=0) + 1
    box = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    padded = np.pad(box, [(int(np.ceil(_MARGIN_MM / mm)) + 1,) * 2 for mm in spacing])
    # The surface runs half a voxel outside the outermost centres.
    half = 0.5 * min(spacing)
    outside = ndimage.distance_transform_edt(~padded, sampling=spacing)
    inside = ndimage.distance_transform_edt(padded, sampling=spacing)
    signed = np.where(padded, half - inside, outside - half).astype(np.float32)
    size = np.ceil((np.array(padded.shape) - 1) * spacing / step).astype(int) + 1
    resampled = ndimage.affine_transform(
        signed, step / np.array(spacing), output_shape=tuple(size), order=1, mode="nearest"
    )
    smooth: Field = ndimage.gaussian_filter(resampled, _SMOOTHING_MM / step)
    return smooth


def _notches(distance: Field, body: Mask, step: float) -> float:
    near = distance <= _NOTCH_RADIUS_MM
    # The first voxel beyond a surface lies half a step behind it on average.
    filled = ndimage.distance_transform_edt(near) * step > _NOTCH_RADIUS_MM + step / 2
    return float(np.count_nonzero(filled | body) / np.count_nonzero(body) - 1)


def _protrusions(body: Mask, step: float, radius_mm: float) -> float:
    (box,) = ndimage.find_objects(body.astype(np.int8))
    body = np.pad(body[box], 1)
    core = ndimage.distance_transform_edt(body) * step > radius_mm
    if not core.any():
        return 1.0
    opened = body & (ndimage.distance_transform_edt(~core) * step <= radius_mm)
    return 1 - float(np.count_nonzero(opened) / np.count_nonzero(body))


def _outlines(distance: Field, body: Mask) -> tuple[float, float, float]:
    """Return fill, lobes and spikes of the axial outlines, weighted by their areas."""
    areas = np.count_nonzero(body, axis=(1, 2))
    planes = np.flatnonzero(areas >= max(_LEAST_VOXELS, _PLANE_SHARE * areas.max()))[::2]
    if not planes.size:
        planes = np.array([areas.argmax()])
    found = []
    for z in planes:
        inside = np.argwhere(body[z])
        corners = np.concatenate([inside + corner for corner in _CORNERS])
        waves = _waves(distance[z], inside)
        found.append(
            (
                len(inside) / ConvexHull(corners).volume,  # the area, in the plane
                np.linalg.norm(waves[_LOBES]),
                np.linalg.norm(waves[_SPIKES]),
            )
        )
    fill, lobes, spikes = np.average(found, axis=0, weights=areas[planes])
    return float(fill), float(lobes), float(spikes)


def _waves(plane: Field, points: npt.NDArray[np.int64]) -> Floats:
    """Return the harmonics of the outline's farthest radius around the centre, over the mean.

    Parameters
    ----------
    points
        (n, 2) [y, x]: the pixels inside.
    """
    center = points.mean(axis=0)
    angles = np.arange(_ANGLES) * 2 * pi / _ANGLES
    far = np.linalg.norm(points - center, axis=1).max() + 2
    radii = np.arange(0, far, _RAY)
    rays = [
        center[0] + np.outer(np.sin(angles), radii),
        center[1] + np.outer(np.cos(angles), radii),
    ]
    inside = ndimage.map_coordinates(plane, rays, order=1, mode="nearest") <= 0
    last = inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)
    radius = np.where(inside.any(axis=1), radii[last], 0.0) + _RAY / 2
    harmonics = np.abs(np.fft.rfft(radius))
    waves: Floats = harmonics / harmonics[0]
    return waves
