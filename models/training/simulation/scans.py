"""Whole simulated CTs with known nodules, for the referee and for checks of training.

Simulated: real lungs, bent and mirrored, with nodules of LIDC readers' shapes. Not real patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.training.simulation.degrade import rounded
from models.training.simulation.hosts import Host, kept_variant
from models.training.simulation.plant import Kind, Planted, plant
from models.training.simulation.shapes import Shape

# Sizes of the referee's bins, mm, and how many of twenty nodules fall into each.
_SIZES = ((3.0, 4.0, 3), (4.0, 6.0, 6), (6.0, 8.0, 4), (8.0, 15.0, 5), (15.0, 28.0, 2))
_KINDS: tuple[tuple[Kind, int], ...] = (
    ("solid", 10),
    ("part_solid", 3),
    ("ground_glass", 6),
    ("calcified", 1),
)
# Smaller ones of a kind are seen by nobody, and no guideline acts on them.
LEAST_MM: dict[Kind, float] = {
    "solid": 3.0,
    "part_solid": 5.5,
    "ground_glass": 4.5,
    "calcified": 3.0,
}
# Free lung between two nodules, mm.
_APART_MM = 10.0
_TRIES = 400


@dataclass(frozen=True)
class Scan:
    """A simulated CT and its truth.

    Attributes
    ----------
    hu, lungs, ignore
        int16, bool, bool [z, y, x]; `ignore` is what readers marked in the real lungs.
    spacing
        mm along [z, y, x].
    nodules
        What was planted.
    """

    name: str
    hu: npt.NDArray[np.int16]
    lungs: npt.NDArray[np.bool_]
    ignore: npt.NDArray[np.bool_]
    spacing: tuple[float, float, float]
    nodules: list[Planted]


def simulated_scan(host: Host, shapes: Sequence[Shape], seed: int, count: int = 16) -> Scan:
    """Return a host, varied on a grid of its own spacing, with `count` nodules in it.

    Parameters
    ----------
    host
        A real host on its own grid.
    shapes
        Of one split.

    Fewer nodules are planted where the lungs have no free place left.
    """
    random = np.random.default_rng([seed, 0x5CA7])
    lungs = kept_variant(host, seed, host.spacing)
    image = lungs.hu.astype(np.float32)
    profile = lungs.profile(float(random.uniform(0.5, 0.75)))
    free = lungs.lungs & ~lungs.ignore
    pools = _pools(image, free)
    taken: list[tuple[npt.NDArray[np.float64], float]] = []
    nodules: list[Planted] = []
    for kind, diameter in sorted(_wanted(count, random), key=lambda pair: -pair[1]):
        near = [shape for shape in shapes if 1 / 1.5 < shape.diameter_mm / diameter < 1.5]
        for _ in range(_TRIES):
            pool = pools[int(random.choice(3, p=(0.5, 0.25, 0.25)))]
            place = np.array(
                np.unravel_index(pool[random.integers(len(pool))], image.shape), float
            ) + random.uniform(-0.5, 0.5, 3)
            mm = place * lungs.spacing
            if any(
                np.linalg.norm(mm - other) < (diameter + size) / 2 + _APART_MM
                for other, size in taken
            ) or _touches(lungs.ignore, place, diameter, lungs.spacing):
                continue
            planted = plant(
                image,
                lungs.lungs,
                lungs.spacing,
                near[int(random.integers(len(near)))],
                kind,
                (float(place[0]), float(place[1]), float(place[2])),
                diameter,
                profile,
                random,
            )
            if planted is not None:
                nodules.append(planted)
                taken.append((mm, diameter))
                break
    hu = rounded(image)
    return Scan(
        f"simulated {host.name} {seed}", hu, lungs.lungs, lungs.ignore, lungs.spacing, nodules
    )


def _wanted(count: int, random: np.random.Generator) -> list[tuple[Kind, float]]:
    """Return kinds and diameters: each size bin and kind by its share, in random pairs."""
    sizes = np.array([n for *_, n in _SIZES], float)
    kinds = np.array([n for _, n in _KINDS], float)
    out: list[tuple[Kind, float]] = []
    while len(out) < count:
        low, high, _ = _SIZES[int(random.choice(len(_SIZES), p=sizes / sizes.sum()))]
        kind, _ = _KINDS[int(random.choice(len(_KINDS), p=kinds / kinds.sum()))]
        diameter = float(np.exp(random.uniform(np.log(low), np.log(high))))
        if diameter >= LEAST_MM[kind]:
            out.append((kind, diameter))
    return out


def _pools(
    image: npt.NDArray[np.float32], free: npt.NDArray[np.bool_]
) -> list[npt.NDArray[np.intp]]:
    """Return places anywhere in the lungs, at vessels, and at the pleura."""
    rim = free & ~ndimage.binary_erosion(free, iterations=3)
    return [np.flatnonzero(mask) for mask in (free, free & (image > -600), rim)]


def _touches(
    ignore: npt.NDArray[np.bool_],
    place: npt.NDArray[np.float64],
    diameter_mm: float,
    spacing: tuple[float, float, float],
) -> bool:
    half = diameter_mm / 2 + 3
    around = tuple(
        slice(max(0, int(at - half / mm)), int(at + half / mm) + 2)
        for at, mm in zip(place, spacing, strict=True)
    )
    return bool(ignore[around].any())
