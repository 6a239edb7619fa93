"""Puts a nodule of a reader's shape into a CT: texture, partial volume, blur, noise.

Everything made here is simulated, and figures measured on it are labelled so.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.v1 import nodule_pb2
from models.training.simulation.shapes import STEP_MM, Shape

Kind = Literal["solid", "part_solid", "ground_glass", "calcified"]
KINDS: tuple[Kind, ...] = ("solid", "part_solid", "ground_glass", "calcified")
# What the mesh calls them.
TYPES: dict[str, nodule_pb2.NoduleType.ValueType] = {
    "solid": nodule_pb2.NODULE_TYPE_SOLID,
    "part_solid": nodule_pb2.NODULE_TYPE_PART_SOLID,
    "ground_glass": nodule_pb2.NODULE_TYPE_NON_SOLID,
    "calcified": nodule_pb2.NODULE_TYPE_CALCIFIED,
}
Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Triple = tuple[float, float, float]
_LUNG_HU = -860.0
# What lies in soft tissue nobody sees: a nodule must lie in lung that holds air by this share, and
# within the closed lungs by that one.
_AERATED_HU = -500.0
_LEAST_SEEN = 0.65
_LEAST_INSIDE = 0.6
# Above this the host is soft tissue, which ground glass does not brighten.
_TISSUE_HU = 30.0


@dataclass(frozen=True)
class Profile:
    """How a scanner blurs.

    Attributes
    ----------
    blur_mm
        Gaussian sigma along [z, y, x], mm.
    noise_hu
        Standard deviation of the noise in soft tissue, HU.
    """

    blur_mm: Triple
    noise_hu: float


@dataclass(frozen=True)
class Planted:
    """A simulated nodule and its exact truth.

    Attributes
    ----------
    center_zyx
        Centre of mass, index coordinates of the image.
    diameter_mm
        Of the ball of the same volume, mm.
    volume_mm3
        Of the whole nodule.
    box
        Slices of [z, y, x] in the image.
    total, solid
        float32 [z, y, x] of the box: how much of each voxel is nodule, and its solid part.
    nodule
        The LIDC nodule whose shape it has.
    """

    center_zyx: Triple
    diameter_mm: float
    volume_mm3: float
    kind: Kind
    box: tuple[slice, slice, slice]
    total: Image
    solid: Image
    nodule: str


def plant(
    image: Image,
    lungs: Mask,
    spacing: Triple,
    shape: Shape,
    kind: Kind,
    place_zyx: Triple,
    diameter_mm: float,
    profile: Profile,
    random: np.random.Generator,
) -> Planted | None:
    """Put a nodule into `image`, in place; None, and nothing changed, where hardly any would fit.

    Parameters
    ----------
    image, lungs
        float32 HU and bool [z, y, x]. What would lie outside the closed lungs is left away, as the
        chest wall hides it.
    spacing
        mm along [z, y, x].
    place_zyx
        Where its centre goes, index coordinates.
    diameter_mm
        The shape is scaled to this diameter of the ball of the same volume.
    """
    scale = diameter_mm / shape.diameter_mm
    turn = _rotation(random)
    # The blur, spicules and a ground-glass rim reach beyond the surface.
    reach = float(np.linalg.norm(shape.distance.shape)) * STEP_MM * scale / 2
    reach = min(reach, 1.1 * diameter_mm) + 3.0
    low = [max(0, int(at - reach / mm)) for at, mm in zip(place_zyx, spacing, strict=True)]
    high = [
        min(n, int(at + reach / mm) + 2)
        for at, mm, n in zip(place_zyx, spacing, image.shape, strict=True)
    ]
    if any(b - a < 2 for a, b in zip(low, high, strict=True)):
        return None
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    fine = _Fine.over(box, spacing, place_zyx, diameter_mm)
    distance = _distance(shape, fine, turn, scale)
    inside = lungs[box].astype(np.float32)
    whole = np.clip(0.5 - distance / fine.step, 0, 1)
    total = fine.averaged(whole) * inside
    volume = float(total.sum() * np.prod(spacing))
    aerated = float((total * (image[box] < _AERATED_HU)).sum() * np.prod(spacing))
    intended = np.pi / 6 * diameter_mm**3
    if volume < _LEAST_INSIDE * intended or aerated < _LEAST_SEEN * volume:
        return None
    core = _core(distance, diameter_mm, fine, random) if kind == "part_solid" else None
    solid = np.zeros_like(total)
    if kind in ("solid", "calcified"):
        solid = total
    elif core is not None:
        solid = fine.averaged(np.minimum(core, whole)) * inside
    part = image[box]
    background = _background(part, inside > 0)
    sigma = [blur / mm for blur, mm in zip(profile.blur_mm, spacing, strict=True)]
    if kind in ("ground_glass", "part_solid"):
        _add_ground_glass(part, total, sigma, spacing, background, diameter_mm, random)
    if kind != "ground_glass":
        seen = whole if core is None else np.minimum(core, whole)
        if kind == "solid" and diameter_mm >= 6:
            seen = _ornate(seen, distance, fine, shape.ratings["spiculation"], random)
        level = _solid_hu(kind, distance, diameter_mm, fine, random)
        _add_solid(part, fine.averaged(seen) * inside, level, sigma, profile, random)
    weights = total[..., None] * np.stack(
        np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), -1
    )
    center = weights.sum(axis=(0, 1, 2)) / total.sum()
    return Planted(
        (float(center[0]), float(center[1]), float(center[2])),
        float((6 / np.pi * volume) ** (1 / 3)),
        volume,
        kind,
        box,
        total.astype(np.float32),
        solid.astype(np.float32),
        shape.nodule,
    )


@dataclass(frozen=True)
class _Fine:
    """A finer grid over a box, whose voxels divide the image's.

    `offset` holds the mm from the nodule's centre along each axis.
    """

    factor: tuple[int, int, int]
    step: float
    offset: tuple[Image, Image, Image]

    @classmethod
    def over(
        cls,
        box: tuple[slice, slice, slice],
        spacing: Triple,
        place: Triple,
        diameter_mm: float,
    ) -> _Fine:
        wanted = float(np.clip(diameter_mm / 16, 0.4, 0.9))
        factor = [max(1, round(mm / wanted)) for mm in spacing]
        offset = [
            (((np.arange((s.stop - s.start) * k) + 0.5) / k - 0.5 + s.start - at) * mm).astype(
                np.float32
            )
            for s, k, mm, at in zip(box, factor, spacing, place, strict=True)
        ]
        step = float(np.mean([mm / k for mm, k in zip(spacing, factor, strict=True)]))
        return cls((factor[0], factor[1], factor[2]), step, (offset[0], offset[1], offset[2]))

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.offset
        return z.size, y.size, x.size

    def averaged(self, fine: Image) -> Image:
        """Average into the image's voxels: the partial volume."""
        blocks = [
            part for n, k in zip(fine.shape, self.factor, strict=True) for part in (n // k, k)
        ]
        mean: Image = fine.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
        return mean

    def smooth_noise(self, mm: float, random: np.random.Generator) -> Image:
        """Return noise of unit variance that changes over `mm`."""
        count = [max(2, int(np.ptp(axis) / mm) + 2) for axis in self.offset]
        coarse = random.standard_normal(count).astype(np.float32)
        zoom = [n / c for n, c in zip(self.shape, count, strict=True)]
        out: Image = ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest")
        return out[tuple(slice(n) for n in self.shape)]


def _rotation(random: np.random.Generator) -> npt.NDArray[np.float32]:
    turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
    return turn.astype(np.float32)


def _distance(shape: Shape, fine: _Fine, turn: npt.NDArray[np.float32], scale: float) -> Image:
    """Sample the turned and scaled surface; the shape's centre of mass lies at the origin."""
    inside = np.argwhere(shape.distance < 0)
    middle = inside.mean(axis=0) if len(inside) else np.array(shape.distance.shape) / 2
    matrix = turn / (scale * STEP_MM)
    z, y, x = fine.offset
    # One axis at a time: broadcasting spares a product of every point with a matrix.
    places = np.stack(
        [
            matrix[i, 0] * z[:, None, None]
            + matrix[i, 1] * y[None, :, None]
            + matrix[i, 2] * x[None, None, :]
            + np.float32(middle[i])
            for i in range(3)
        ]
    )
    sampled: Image = ndimage.map_coordinates(
        shape.distance.astype(np.float32), places, order=1, mode="nearest"
    )
    # Outside the stored box the distance goes on growing.
    beyond = sum(
        np.clip(np.maximum(-p, p - (n - 1)), 0, None) ** 2
        for p, n in zip(places, shape.distance.shape, strict=True)
    )
    out: Image = (sampled + np.sqrt(beyond) * STEP_MM) * scale
    return out


def _core(distance: Image, diameter_mm: float, fine: _Fine, random: np.random.Generator) -> Image:
    """Return the share of a solid core: deeper in the nodule, off its middle, uneven."""
    share = random.uniform(0.3, 0.75)
    away = random.normal(0, 0.12 * diameter_mm, 3)
    z, y, x = (axis - np.float32(d) for axis, d in zip(fine.offset, away, strict=True))
    ball = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    bumps = fine.smooth_noise(max(2.0, 0.3 * diameter_mm), random) * 0.06 * diameter_mm
    surface = np.maximum(ball - share * diameter_mm / 2 + bumps, distance)
    core: Image = np.clip(0.5 - surface / fine.step, 0, 1).astype(np.float32)
    return core


def _background(part: Image, inside: Mask) -> float:
    values = part[inside & (part < -600)]
    return float(np.median(values)) if values.size else _LUNG_HU


def _add_ground_glass(
    part: Image,
    total: Image,
    sigma: list[float],
    spacing: Triple,
    background: float,
    diameter_mm: float,
    random: np.random.Generator,
) -> None:
    """Brighten the lung; vessels and walls in it stay visible."""
    # A fainter one of a few mm is nothing that a reader would see.
    low, high = (-720.0, -450.0) if diameter_mm >= 8 else (-640.0, -420.0)
    contrast = max(random.uniform(low, high) - background, 130.0)
    fuzzy = random.uniform(0.0, 0.07) * diameter_mm
    wide = [np.hypot(s, fuzzy / mm) for s, mm in zip(sigma, spacing, strict=True)]
    share = ndimage.gaussian_filter(total, wide)
    uneven = ndimage.gaussian_filter(
        random.standard_normal(part.shape).astype(np.float32),
        [max(1.5, 0.12 * diameter_mm) / mm for mm in spacing],
    )
    uneven *= random.uniform(0.05, 0.3) / max(float(uneven.std()), 1e-6)
    room = np.clip((_TISSUE_HU - part) / (_TISSUE_HU - background), 0, 1)
    part += share * contrast * np.clip(1 + uneven, 0.2, 1.8) * room


def _solid_hu(
    kind: Kind, distance: Image, diameter_mm: float, fine: _Fine, random: np.random.Generator
) -> Image:
    base = random.normal(25, 25)
    level = np.full(fine.shape, base, np.float32)
    if diameter_mm >= 6:
        level += fine.smooth_noise(max(2.0, 0.25 * diameter_mm), random) * random.uniform(5, 30)
    if kind == "calcified":
        calcium = random.uniform(300, 1000)
        if random.random() < 0.6:
            level += np.float32(calcium)
        else:  # central
            level += np.where(distance < -0.2 * diameter_mm, np.float32(calcium), 0)
    elif kind == "solid" and diameter_mm >= 10 and random.random() < 0.1:
        # Bubbles of air: vacuoles, air bronchograms.
        holes = fine.smooth_noise(3.0, random) > 1.6
        level[holes] = -850
    return level


def _ornate(
    seen: Image, distance: Image, fine: _Fine, spiculation: float, random: np.random.Generator
) -> Image:
    """Add spicules: thin tapering strands. They belong to the picture, not to the volume."""
    if random.random() > 0.15 + 0.15 * (spiculation - 1):
        return seen
    out = seen.copy()
    surface = np.argwhere(np.abs(distance) < fine.step)
    if not len(surface):
        return seen
    z, y, x = fine.offset
    axes = (z, y, x)
    for _ in range(int(random.integers(4, 18))):
        root = surface[random.integers(len(surface))]
        start = np.array([axis[i] for axis, i in zip(axes, root, strict=True)])
        direction = start / max(float(np.linalg.norm(start)), 1e-3) + random.normal(0, 0.35, 3)
        direction /= np.linalg.norm(direction)
        length = random.uniform(2.0, 8.0)
        radius = random.uniform(0.25, 0.7)
        ends = [start + direction * length * t for t in np.linspace(0, 1, 12)]
        for k, (one, _next) in enumerate(pairwise(ends)):
            wide = radius * (1 - 0.7 * k / 11)
            near = [
                slice(*np.searchsorted(axis, (at - 1.5, at + 1.5)))
                for axis, at in zip(axes, one, strict=True)
            ]
            if any(s.stop <= s.start for s in near):
                continue
            dz, dy, dx = (axis[s] - at for axis, s, at in zip(axes, near, one, strict=True))
            away = np.sqrt(dz[:, None, None] ** 2 + dy[None, :, None] ** 2 + dx[None, None, :] ** 2)
            spot = out[tuple(near)]
            np.maximum(spot, np.clip(0.5 - (away - wide) / fine.step, 0, 0.9), out=spot)
    return out


def _add_solid(
    part: Image,
    share: Image,
    level: Image,
    sigma: list[float],
    profile: Profile,
    random: np.random.Generator,
) -> None:
    """Replace the lung by tissue with noise of the host's strength."""
    factor = [n // m for n, m in zip(level.shape, part.shape, strict=True)]
    blocks = [x for n, k in zip(part.shape, factor, strict=True) for x in (n, k)]
    hu = level.reshape(blocks).mean(axis=(1, 3, 5))
    blurred = ndimage.gaussian_filter(share, sigma)
    noise = ndimage.gaussian_filter(
        random.standard_normal(part.shape).astype(np.float32), [max(0.3, 0.8 * s) for s in sigma]
    )
    noise *= profile.noise_hu / max(float(noise.std()), 1e-6)
    # A vessel that runs into it stays as bright as it is.
    part += blurred * np.maximum(hu + noise - part, 0) + blurred * np.minimum(
        np.clip(hu + noise - part, -200, 0), 0
    )
