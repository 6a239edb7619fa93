"""Lungs made by rule: varied hosts without nodules, and full of what is mistaken for them.

Coordinates in mm: z feet to head, y to the back, x to the patient's left; the origin lies between
the lungs at the height of their roots. A window of the wished size is cut somewhere in such a
chest. HU are those of textbooks (lung -950 to -780, blood 40 or 130 to 260 with contrast, muscle
50, fat -100, bone 200 to 800), the sizes those of adults, each varied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.training.simulation.degrade import rounded
from models.training.simulation.hosts import Host
from models.training.simulation.trees import Tubes, grow, paint

Floats = npt.NDArray[np.floating]
Random = np.random.Generator
# End points of arteries (and of veins) in 1 cm³ of lung: what a 1 mm CT still shows.
_ENDS_PER_CM3 = 0.45
_LEAST_LUNG = 0.4
_BODY_WALL_MM = 38.0


@dataclass(frozen=True)
class _Chest:
    """Half-axes (z, y, x) and middles of a lung, the heart and the diaphragm's dome, mm."""

    lung: Floats
    lung_x: float
    medial: float
    heart: Floats
    heart_at: Floats
    dome: Floats
    dome_at: Floats
    spine_y: float

    def depth(self, z: Floats, y: Floats, x: Floats) -> Floats:
        """Return mm to the lungs' surface, negative inside; about right near it."""
        side = np.abs(x)
        wall = _ellipsoid((z, y, side - self.lung_x), self.lung)
        medial = self.medial + 6 * np.exp(-((z / 25) ** 2)) - side
        spine = 24 - np.hypot(y - self.spine_y, x)
        heart = -_ellipsoid(
            [v - c for v, c in zip((z, y, x), self.heart_at, strict=True)], self.heart
        )
        dome = -_ellipsoid(
            [v - c for v, c in zip((z, y, side), self.dome_at, strict=True)], self.dome
        )
        inner = np.maximum(np.maximum(medial, spine), np.maximum(heart, dome))
        depth: Floats = np.maximum(wall, inner)
        return depth


def procedural_lung(shape: tuple[int, int, int], seed: int, spacing_mm: float = 1.0) -> Host:
    """Make a piece of chest that holds no nodule.

    Parameters
    ----------
    shape
        Voxels along z, y, x.
    seed
        The same seed gives the same voxels.
    spacing_mm
        Edge of the cubic voxels.
    """
    random = np.random.default_rng([seed, 0x4C4D])
    chest = _chest(random)
    corner = _window(chest, shape, spacing_mm, random)
    z, y, x = _axes(shape, corner, spacing_mm)
    depth = chest.depth(z, y, x) + 2.0 * _smooth(random, shape, 18 / spacing_mm)
    contrast = (
        float(random.uniform(130, 260)) if random.random() < 0.4 else float(random.uniform(25, 60))
    )
    hu = _aerated(random, shape, spacing_mm, corner)
    _emphysema(hu, depth, random, spacing_mm)
    _plates(hu, depth, (z, y, x), random, spacing_mm)
    wall = _body(chest, depth, (z, y, x), contrast, random, spacing_mm)
    # Blood vessels of the lung's root run on into the mediastinum.
    air = np.clip(0.5 - depth / spacing_mm, 0, 1)
    hu = air * hu + (1 - air) * wall
    _trees(hu, depth, chest, corner, spacing_mm, contrast, random)
    hu = ndimage.gaussian_filter(hu, random.uniform(0.3, 0.65) / spacing_mm)
    noise_hu = float(random.uniform(8, 55))
    hu += noise_hu * _noise(random, shape, spacing_mm)
    return Host(
        name=f"procedural-{seed}",
        hu=rounded(hu),
        lungs=depth < 0,
        ignore=np.zeros(shape, bool),
        spacing=(spacing_mm, spacing_mm, spacing_mm),
        slice_mm=spacing_mm,
        noise_hu=noise_hu,
    )


def _chest(random: Random) -> _Chest:
    scale = random.uniform(0.88, 1.12)

    def size(*mm: float) -> Floats:
        return np.array([scale * v * random.uniform(0.92, 1.08) for v in mm], np.float32)

    lung = size(128, 90, 64)
    lung_x = float(scale * random.uniform(66, 76))
    return _Chest(
        lung=lung,
        lung_x=lung_x,
        medial=float(scale * random.uniform(20, 32)),
        heart=size(48, 42, 58),
        heart_at=np.array([random.uniform(-60, -40), -30, random.uniform(10, 25)], np.float32),
        dome=size(85, 95, 85),
        dome_at=np.array([-lung[0] - random.uniform(5, 45), 5, lung_x], np.float32),
        spine_y=float(lung[1] * random.uniform(0.6, 0.8)),
    )


def _window(chest: _Chest, shape: tuple[int, int, int], step: float, random: Random) -> Floats:
    """Return the corner of a window with enough lung in it: z, y, x in mm of voxel (0, 0, 0)."""
    extent = np.array(shape) * step
    best, corner = -1.0, np.zeros(3, np.float32)
    for _ in range(12):
        side = random.choice([-1, 1])
        middle = random.uniform([-90, -65, 25], [95, 70, 115]) * (1, 1, side)
        at = (middle - extent / 2).astype(np.float32)
        coarse = (max(2, shape[0] // 8), max(2, shape[1] // 8), max(2, shape[2] // 8))
        axes = [
            (at[i] + np.linspace(0, extent[i], coarse[i], dtype=np.float32)).reshape(
                [-1 if i == j else 1 for j in range(3)]
            )
            for i in range(3)
        ]
        share = float(np.mean(chest.depth(*axes) < 0))
        if share > best:
            best, corner = share, at
        if best >= _LEAST_LUNG:
            break
    return corner


def _aerated(random: Random, shape: tuple[int, int, int], step: float, corner: Floats) -> Floats:
    """Return lung without vessels: denser to the back, mottled at three scales."""
    y = (corner[1] + step * np.arange(shape[1], dtype=np.float32))[:, None]
    hu = np.broadcast_to(random.uniform(-905, -835) + random.uniform(0.1, 0.7) * y, shape).copy()
    for mm, high in ((40, 22), (12, 14), (4, 16)):
        hu += random.uniform(0.3, 1) * high * _smooth(random, shape, mm / step)
    # Interstitium and vessels below the resolution: bright specks more than dark ones.
    fine = _smooth(random, shape, max(1.5 / step, 1))
    hu += random.uniform(5, 20) * (fine + 0.5 * np.maximum(fine, 0) ** 2)
    aerated: Floats = np.maximum(hu, -985)
    return aerated


def _emphysema(hu: Floats, depth: Floats, random: Random, step: float) -> None:
    """Cut holes of air: none in most lungs, many small ones or a few bullae in others."""
    if random.random() > 0.4:
        return
    share = random.uniform(0.03, 0.25)
    field = _smooth(random, hu.shape, random.uniform(2.5, 9) / step)
    field += 0.6 * _smooth(random, hu.shape, 30 / step)
    edge = np.quantile(field[::4, ::4, ::4], 1 - share)
    hole = np.clip((field - edge) / 0.25, 0, 1)
    hu += hole * (random.uniform(-995, -960) - hu)


def _plates(
    hu: Floats, depth: Floats, axes: tuple[Floats, Floats, Floats], random: Random, step: float
) -> None:
    """Draw fissures, septal lines, scars, and the denser band along the back of a lung."""
    z, y, x = axes
    shape = hu.shape
    wave = 4 * _smooth(random, shape, 35 / step)
    gaps = np.clip(1.2 + _smooth(random, shape, 30 / step), 0, 1)
    oblique = (z + 15 + random.uniform(0.7, 1.3) * y + random.uniform(-0.25, 0.25) * x) / 1.5
    _sheet(hu, oblique + wave, random.uniform(0.3, 0.8), step, -50, gaps)
    if random.random() < 0.6:
        front = np.clip(-oblique / 4, 0, 1) * (x < 0)
        _sheet(hu, z - 5 + 0.2 * y - wave, random.uniform(0.3, 0.7), step, -50, gaps * front)
    if random.random() < 0.35:
        # Thickened septa: walls of cells some 15 mm wide, near the pleura.
        cells = _smooth(random, shape, 14 / step)
        near = np.clip(1 + depth / 14, 0, 1) * random.uniform(0.4, 1)
        _sheet(hu, 10 * cells, random.uniform(0.5, 1.1), step, -100, near)
    for _ in range(random.poisson(0.8 * hu.size * step**3 / 1e6)):
        _scar(hu, depth, axes, random, step)
    if random.random() < 0.5:
        band = np.clip(1 + depth / random.uniform(4, 18), 0, 1) ** 2 * np.clip(y / 60, 0, 1)
        hu += band * random.uniform(60, 350)


def _scar(
    hu: Floats, depth: Floats, axes: tuple[Floats, Floats, Floats], random: Random, step: float
) -> None:
    """Draw a band or strand of some 15 to 50 mm, 1 to 3 mm thick, with ragged edges."""
    at = [int(random.integers(0, n)) for n in hu.shape]
    if not -25 < depth[tuple(at)] < -2:
        return
    reach = int(28 / step)
    box = tuple(slice(max(0, i - reach), i + reach + 1) for i in at)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0].astype(np.float32)
    grid = [
        step * (np.arange(part.start, min(part.stop, n), dtype=np.float32) - i)
        for part, i, n in zip(box, at, hu.shape, strict=True)
    ]
    u, v, w = np.einsum(
        "ij,jzyx->izyx", turn, np.stack(np.meshgrid(*grid, indexing="ij")), optimize=True
    )
    size = u.shape
    w = w + 1.5 * _smooth(random, size, 9 / step)
    length, breadth = random.uniform(8, 26), random.uniform(3, 14)
    fade = np.clip(4 * (1 - (u / length) ** 2 - (v / breadth) ** 2), 0, 1)
    thick = random.uniform(0.8, 2.2) * (1 + 0.4 * _smooth(random, size, 6 / step))
    _sheet(hu[box], w, thick, step, random.uniform(-150, 30), fade)


def _sheet(
    hu: Floats, off: Floats, thick: Floats | float, step: float, to: float, share: Floats
) -> None:
    """Blend a sheet at |off| = 0 (mm) into `hu`, in place; thinner than a voxel it is fainter."""
    wide = np.maximum(thick, step)
    cover = np.clip(0.5 + (wide / 2 - np.abs(off)) / step, 0, 1) * (thick / wide) * share
    hu += cover * (to - hu)


def _body(
    chest: _Chest,
    depth: Floats,
    axes: tuple[Floats, Floats, Floats],
    contrast: float,
    random: Random,
    step: float,
) -> Floats:
    """Return HU of what is not lung: wall with ribs, mediastinum, heart, spine, diaphragm."""
    z, y, x = axes
    side = np.abs(x)
    mottle = _smooth(random, depth.shape, 14 / step)
    wall = np.where(mottle + depth / 12 > random.uniform(1.2, 2.2), -100.0, 45.0)
    wall = np.where(depth < random.uniform(0.5, 2.0), -20.0, wall)
    pitch, slope = random.uniform(24, 32), random.uniform(0.25, 0.55)
    across = np.mod(z - slope * y + 300 + 3 * mottle, pitch) - pitch / 2
    rib = np.sqrt((across / random.uniform(5.5, 7.5)) ** 2 + ((depth - 6.5) / 4.8) ** 2)
    bone = np.where(rib > 0.68, random.uniform(450, 850), random.uniform(120, 260))
    wall = np.where(rib < 1, bone, wall)
    wall = np.where(depth > _BODY_WALL_MM + 6 * mottle, -1000.0, wall)
    between = (side < chest.lung_x * 0.8) | (
        _ellipsoid((z, y, side - chest.lung_x), chest.lung) < -3
    )
    fat = np.where(mottle > random.uniform(-0.6, 0.4), 40.0, -95.0)
    medial = np.where(np.hypot((y + 5) / 15, (side - 14) / 11) < 1, contrast, fat)
    wall = np.where(between & (depth > 0), medial, wall)
    heart = _ellipsoid([v - c for v, c in zip(axes, chest.heart_at, strict=True)], chest.heart)
    wall = np.where(heart < -2, np.where(heart < -9, contrast, 60.0), wall)
    dome = _ellipsoid([v - c for v, c in zip((z, y, side), chest.dome_at, strict=True)], chest.dome)
    wall = np.where(dome < 0, random.uniform(45, 110), wall)
    spine = np.hypot(y - chest.spine_y - 4, x)
    wall = np.where(spine < 20, np.where(spine > 17, 420.0, 180.0 + 40 * mottle), wall)
    return wall.astype(np.float32)


def _trees(
    hu: Floats,
    depth: Floats,
    chest: _Chest,
    corner: Floats,
    step: float,
    contrast: float,
    random: Random,
) -> None:
    """Paint arteries, veins and bronchi into `hu`, in place."""
    window = (corner - 12, corner + step * np.array(hu.shape, np.float32) + 12)
    inside = np.clip(-depth / step, 0, 1)
    blood = np.zeros(hu.shape, np.float32)
    wall, lumen = np.zeros_like(blood), np.zeros_like(blood)
    end_radius = random.uniform(0.32, 0.5)
    for side in (-1, 1):
        for kind in ("artery", "vein"):
            ends = _ends(chest, side, random)
            height = 2.0 if kind == "artery" else -22.0
            root = np.array([height, 4 if kind == "artery" else -6, side * 24], np.float32)
            tubes = grow(root, ends, window, end_radius * random.uniform(0.85, 1.1), random)
            paint(blood, tubes, corner, step)
            if kind == "artery":
                _bronchi(wall, lumen, tubes, corner, step, random)
    # A vessel ends before the pleura; at the lung's root it goes on.
    blood *= np.maximum(inside, np.clip(blood * 2 - 1, 0, 1) * (depth < 8))
    hu += blood * (contrast * random.uniform(0.85, 1) - hu)
    hu += wall * inside * (random.uniform(-120, 20) - hu)
    hu += lumen * inside * (random.uniform(-1000, -940) - hu)


def _ends(chest: _Chest, side: int, random: Random) -> Floats:
    """Return where a tree ends in one lung, 4 mm or more from its surface: [n, 3] in mm."""
    half = chest.lung
    box = 8 * float(np.prod(half))
    count = int(_ENDS_PER_CM3 * random.uniform(0.7, 1.2) * box / 1000)
    points = random.uniform(-half, half, (count, 3)).astype(np.float32)
    points[:, 2] += side * chest.lung_x
    kept: Floats = points[chest.depth(*points.T) < -4]
    return kept


def _bronchi(
    wall: Floats, lumen: Floats, tubes: Tubes, corner: Floats, step: float, random: Random
) -> None:
    side = random.normal(size=3).astype(np.float32)
    side /= np.linalg.norm(side)
    outer = tubes.radius * random.uniform(0.85, 1.15)
    beside = tubes.beside(side, outer, least_mm=random.uniform(1.1, 1.5))
    thick = np.maximum(0.25 * beside.radius, random.uniform(0.45, 0.8))
    paint(wall, beside, corner, step)
    inner = np.maximum(beside.radius - thick, 0.2)
    paint(lumen, Tubes(beside.start, beside.end, inner), corner, step)


def _noise(random: Random, shape: tuple[int, int, int], step: float) -> Floats:
    """Return noise of deviation 1 with a CT's spectrum: little of it at the lowest frequencies."""
    white = random.standard_normal(shape, np.float32)
    near = ndimage.gaussian_filter(white, (0.4, *[random.uniform(0.45, 0.8) / step] * 2))
    noise = near - 0.9 * ndimage.uniform_filter(near, (1, 9, 9))
    scaled: Floats = noise / float(noise.std())
    return scaled


def _smooth(random: Random, shape: tuple[int, ...], voxels: float) -> Floats:
    """Return smooth noise of mean 0 and deviation about 1 that changes over `voxels`."""
    grid = random.standard_normal([int(n / voxels) + 5 for n in shape]).astype(np.float32)
    grid *= 1.9
    for axis, n in enumerate(shape):
        at = np.arange(n, dtype=np.float32) / np.float32(voxels) + random.random()
        weights = np.zeros((n, grid.shape[axis]), np.float32)
        base, t = at.astype(int), at % 1
        # Cubic B-spline: no corners, so that no grid shows.
        parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        for k, part in enumerate(parts):
            weights[np.arange(n), base + k] = part / 6
        grid = np.moveaxis(np.tensordot(weights, grid, (1, axis)), 0, axis)
    return np.ascontiguousarray(grid)


def _axes(
    shape: tuple[int, int, int], corner: Floats, step: float
) -> tuple[Floats, Floats, Floats]:
    z, y, x = (corner[i] + step * np.arange(shape[i], dtype=np.float32) for i in range(3))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _ellipsoid(offset: Sequence[Floats], axes: Floats) -> Floats:
    """Return about the distance to an ellipsoid's surface in mm, negative inside."""
    z, y, x = offset
    unit = np.sqrt((z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2) + 1e-6
    slope = np.sqrt((z / axes[0] ** 2) ** 2 + (y / axes[1] ** 2) ** 2 + (x / axes[2] ** 2) ** 2)
    distance: Floats = (unit - 1) * unit / (slope + 1e-6)
    return distance
