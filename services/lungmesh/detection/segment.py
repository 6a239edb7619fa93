"""Segmentation of one candidate at the CT's own resolution.

A nodule is what is connected above half its contrast, inside the closed lung, once thin things that
run into it (vessels, spicules) are opened away. Opening by a share of the nodule's own inner radius
keeps small nodules and lobes; where a vessel is too thick for it, the opening is widened.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection.candidates import GROUND_GLASS_MOST_HU, Candidate, Window
from lungmesh.detection.measure import Border
from lungmesh.detection.working import Hu

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]
Triple = tuple[float, float, float]

NAME, VERSION = "nodule-segmentation", "1"

# A solid nodule's level is not read above this: calcium and contrast would move the border inwards.
_SOLID_MOST_HU = 50.0
# A border lies at least this far above the lung, or noise would be taken for it.
_LEAST_CONTRAST_HU = 120.0
# Ground glass is as faint as noise and uneven: blurred by a share of its size, within limits.
_BLUR_SHARE, _BLUR_MM = 0.08, (0.7, 1.6)
# How often the level inside is read again from the region that it gave.
_ROUNDS = 3
# The core of a region: deeper than this share of its inner radius.
_CORE_DEPTH = 0.3
# Opening radius over the inner radius, tried in turn.
_OPENINGS = (0.4, 0.55, 0.7, 0.85)
# A region is compact when its farthest voxel is this near, in inner radii.
_COMPACT_REACH = 2.5


@dataclass(frozen=True)
class Segmentation:
    """A candidate's region in a box of the volume.

    Attributes
    ----------
    box
        The box on the full grid, slices of [z, y, x].
    hu
        float32 [z, y, x] of the box.
    mask
        bool [z, y, x].
    lungs
        The closed lungs in the box.
    border
        Where the region ends.
    """

    candidate: Candidate
    box: tuple[slice, slice, slice]
    hu: Field
    mask: Mask
    lungs: Mask
    border: Border


def segment(
    hu: Hu, lungs: Mask, spacing: Triple, candidate: Candidate, background: float
) -> Segmentation | None:
    """Segment a candidate; None when nothing connected stands out there.

    Parameters
    ----------
    hu, lungs
        int16 and bool [z, y, x]: the volume and the closed lungs.
    spacing
        mm along [z, y, x].
    background
        HU of the aerated lung.
    """
    diameter = candidate.diameter_mm
    box = _box(candidate.place, 1.25 * diameter + 6.0, spacing, hu.shape)
    part = hu[box].astype(np.float32)
    inside = lungs[box].copy()
    for axis in range(3):  # measurements need a free voxel around the mask
        ends = np.moveaxis(inside, axis, 0)
        ends[[0, -1]] = False
    image = part
    if candidate.window is Window.GROUND_GLASS:
        blur = float(np.clip(_BLUR_SHARE * diameter, *_BLUR_MM))
        image = ndimage.gaussian_filter(part, [blur / mm for mm in spacing])
    place = tuple(at - side.start for at, side in zip(candidate.place, box, strict=True))
    away = _distance_to(place, part.shape, spacing)
    near = inside & (away <= max(0.35 * diameter, 1.5))
    if not near.any():
        return None
    middle = inside & (away <= max(0.25 * diameter, 1.5))
    level = _level(image[middle if middle.any() else near], candidate.window)
    surround = _surround(image, inside & (away > 0.6 * diameter), background)
    found: _Found | None = None
    for _ in range(_ROUNDS):
        contrast = max(level - surround, _LEAST_CONTRAST_HU)
        border = Border(image, surround + contrast / 2, surround)
        again = _region(border, inside, near, spacing)
        if again is None:
            break
        found = again
        # Half-way is meant between the lung and the nodule as a whole, not its brightest part.
        core = found.depth > _CORE_DEPTH * found.radius
        level = _level(image[core & found.mask], candidate.window)
    if found is None:
        return None
    return Segmentation(candidate, box, part, found.mask, inside, found.border)


@dataclass(frozen=True)
class _Found:
    mask: Mask
    border: Border
    depth: npt.NDArray[np.float64]
    radius: float


def _region(border: Border, inside: Mask, near: Mask, spacing: Triple) -> _Found | None:
    """Return the connected region above the border's level, thin things opened away."""
    region = _connected(inside & (border.hu >= border.level), near)
    if region is None:
        return None
    region = inside & np.stack([ndimage.binary_fill_holes(plane) for plane in region])
    depth = ndimage.distance_transform_edt(region, sampling=spacing)
    mask, radius = _detach(region, depth, near, spacing)
    return _Found(mask, border, depth, radius)


def _box(
    place: Triple, half_mm: float, spacing: Triple, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    parts = [
        slice(max(0, int(at - half_mm / mm)), min(size, int(at + half_mm / mm) + 2))
        for at, mm, size in zip(place, spacing, shape, strict=True)
    ]
    return parts[0], parts[1], parts[2]


def _distance_to(place: tuple[float, ...], shape: tuple[int, ...], spacing: Triple) -> Field:
    z, y, x = (
        ((np.arange(size) - at) * mm) ** 2
        for size, at, mm in zip(shape, place, spacing, strict=True)
    )
    away: Field = np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :]).astype(np.float32)
    return away


def _level(values: Field, window: Window) -> float:
    """Return the HU that the nodule has inside."""
    if window is Window.GROUND_GLASS:
        return min(float(np.median(values)), GROUND_GLASS_MOST_HU)
    # The brighter half: the middle of a small nodule is mostly its blurred edge.
    return min(float(np.percentile(values, 75)), _SOLID_MOST_HU)


def _surround(image: Field, around: Mask, background: float) -> float:
    """Return the HU of the lung around: emphysema is darker, dependent lung brighter."""
    values = image[around]
    values = values[values < background + 200]
    return float(np.median(values)) if values.size >= 50 else background


def _connected(bright: Mask, near: Mask) -> Mask | None:
    """Return the connected region of bright voxels nearest to the place."""
    start = bright & near
    if not start.any():
        return None
    labels, _ = ndimage.label(bright)
    # The largest piece near the place; of equal ones that of the lower label.
    counts = np.bincount(labels[start])
    counts[0] = 0
    region: Mask = labels == int(counts.argmax())
    return region


def _detach(
    region: Mask, depth: npt.NDArray[np.float64], near: Mask, spacing: Triple
) -> tuple[Mask, float]:
    """Open thin things away; return what remains around the place, and its inner radius in mm."""
    deepest = np.unravel_index(int(np.where(near, depth, 0).argmax()), depth.shape)
    peak = _uphill(depth, tuple(int(at) for at in deepest))
    radius = float(depth[peak])
    away = _distance_to(tuple(float(at) for at in peak), region.shape, spacing)
    limit = _COMPACT_REACH * max(radius, max(spacing))
    mask = region
    for share in _OPENINGS:
        mask = _opened(region, depth, peak, share * radius, spacing)
        if float(away[mask].max()) <= limit:
            break
    return mask, radius


def _uphill(depth: npt.NDArray[np.float64], peak: tuple[int, ...]) -> tuple[int, ...]:
    """Follow the depth to its nearest top: the place may lie off the middle."""
    while True:
        window = tuple(slice(max(0, at - 1), at + 2) for at in peak)
        best = np.unravel_index(int(depth[window].argmax()), depth[window].shape)
        higher = tuple(int(at) + part.start for at, part in zip(best, window, strict=True))
        if depth[higher] <= depth[peak]:
            return peak
        peak = higher


def _opened(
    region: Mask,
    depth: npt.NDArray[np.float64],
    peak: tuple[int, ...],
    reach: float,
    spacing: Triple,
) -> Mask:
    """Open a region with a ball and return the piece around the peak."""
    labels, _ = ndimage.label(depth > reach)
    core = labels == labels[peak]
    # Opening rounds off what is as small as a voxel: give that back.
    opened = ndimage.distance_transform_edt(~core, sampling=spacing) <= reach + 0.75 * min(spacing)
    out: Mask = region & opened
    return out
