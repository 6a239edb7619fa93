"""Patches for the detector: pieces of hosts with a few nodules, as a scanner might see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.training.simulation.hosts import Host
from models.training.simulation.plant import KINDS, Planted, Profile, plant
from models.training.simulation.scans import LEAST_MM
from models.training.simulation.shapes import Shape

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
SIZE = 64
# Of the kinds, in the order of KINDS.
_SHARES = (0.5, 0.15, 0.28, 0.07)
_MOST_MM = 30.0


@dataclass(frozen=True)
class Patch:
    """A training example on voxels of 1 mm.

    Attributes
    ----------
    hu
        float32 [64, 64, 64].
    nodules
        What was planted.
    ignore
        bool [64, 64, 64]: where no answer is asked for.
    """

    hu: Image
    nodules: list[Planted]
    ignore: Mask


class Patches:
    """Makes patches from hosts on 1 mm voxels and shapes of one split."""

    def __init__(self, hosts: Sequence[Host], shapes: Sequence[Shape], seed: int) -> None:
        self._hosts = hosts
        self._shapes = sorted(shapes, key=lambda shape: shape.diameter_mm)
        self._sizes = np.array([shape.diameter_mm for shape in self._shapes])
        self._random = np.random.default_rng(seed)
        self._inside = [np.argwhere(host.lungs[::4, ::4, ::4]) * 4 for host in hosts]

    def one(self) -> Patch:
        """Return the next patch."""
        random = self._random
        number = int(random.integers(len(self._hosts)))
        host = self._hosts[number]
        places = self._inside[number]
        middle = places[random.integers(len(places))] + random.integers(-20, 21, 3)
        start = [
            int(np.clip(at - SIZE // 2, 0, max(0, n - SIZE)))
            for at, n in zip(middle, host.hu.shape, strict=True)
        ]
        where = tuple(slice(a, a + SIZE) for a in start)
        turn = self._turn()
        hu = turn(_whole(host.hu[where], -1000)).astype(np.float32)
        lungs, ignore = turn(_whole(host.lungs[where], 0)), turn(_whole(host.ignore[where], 0))
        profile = host.profile(random.uniform(0.45, 0.85))
        nodules = self._plant(hu, lungs, ignore, profile)
        return Patch(self._scanned(hu, lungs), nodules, ignore)

    def shape_of(self, diameter_mm: float) -> Shape:
        """Return a shape whose own size is near: small nodules look unlike large ones."""
        low, high = np.searchsorted(self._sizes, (diameter_mm / 1.5, diameter_mm * 1.5))
        low = min(int(low), len(self._shapes) - 10)
        return self._shapes[int(self._random.integers(low, max(int(high), low + 10)))]

    def _plant(self, hu: Image, lungs: Mask, ignore: Mask, profile: Profile) -> list[Planted]:
        random = self._random
        taken = ignore.copy()
        nodules: list[Planted] = []
        choices = _places(hu, lungs, random)
        if choices is None:
            return nodules
        for _ in range(int(random.choice((0, 3, 5, 8)))):
            kind = KINDS[int(random.choice(len(KINDS), p=_SHARES))]
            span = np.log(_MOST_MM / LEAST_MM[kind])
            diameter = LEAST_MM[kind] * float(np.exp(span * random.random() ** 1.4))
            pool = choices[int(random.choice(3, p=(0.45, 0.3, 0.25)))]
            if not len(pool):
                continue
            place = pool[random.integers(len(pool))] + random.uniform(-0.5, 0.5, 3)
            if np.any(place < 5) or np.any(place > SIZE - 6):
                continue
            half = diameter / 2 + 3
            around = tuple(slice(max(0, int(at - half)), int(at + half) + 2) for at in place)
            if taken[around].any():
                continue
            done = plant(
                hu,
                lungs,
                (1.0, 1.0, 1.0),
                self.shape_of(diameter),
                kind,
                (float(place[0]), float(place[1]), float(place[2])),
                diameter,
                profile,
                random,
            )
            if done is not None:
                nodules.append(done)
                taken[around] = True
        return nodules

    def _turn(self) -> Callable[[Array], Array]:
        """Mirror along any axis and swap rows with columns; z stays the slices' axis."""
        random = self._random
        flips = tuple(slice(None, None, -1 if random.random() < 0.5 else 1) for _ in range(3))
        swap = random.random() < 0.5

        def turn(array: Array) -> Array:
            turned = array[flips]
            return np.ascontiguousarray(turned.swapaxes(1, 2) if swap else turned)

        return turn

    def _scanned(self, hu: Image, lungs: Mask) -> Image:
        """Change sharpness, noise and calibration, as other scanners, kernels and doses would."""
        random = self._random
        if random.random() < 0.5:
            amount = random.uniform(-0.6, 0.9)
            sigma = (0.0, 0.9, 0.9)
            hu = hu + np.float32(amount) * (hu - ndimage.gaussian_filter(hu, sigma))
        if random.random() < 0.3:  # thick slices
            hu = ndimage.gaussian_filter1d(hu, random.uniform(0.4, 1.3), axis=0)
        if random.random() < 0.6:
            noise = random.standard_normal(hu.shape, dtype=np.float32)
            noise = ndimage.gaussian_filter(noise, random.uniform(0.4, 1.0, 3))
            hu = hu + noise * np.float32(random.uniform(5, 60) / max(float(noise.std()), 1e-6))
        if random.random() < 0.5:
            hu = (hu + 1000) * np.float32(random.uniform(0.93, 1.07)) - 1000
        if random.random() < 0.3:  # dependent lung, less air, or emphysema
            slope = np.linspace(-1, 1, SIZE, dtype=np.float32) * np.float32(random.normal(0, 40))
            axis = int(random.integers(1, 3))
            hu = hu + np.where(lungs & (hu < -500), np.expand_dims(slope, (0, 3 - axis)), 0)
        return hu.astype(np.float32)


def _whole(array: Array, fill: float) -> Array:
    pad = [(0, SIZE - n) for n in array.shape]
    return np.pad(array, pad, constant_values=fill) if any(b for _, b in pad) else array


def _places(
    hu: Image, lungs: Mask, random: np.random.Generator
) -> list[npt.NDArray[np.intp]] | None:
    """Return places anywhere in the lungs, at vessels, and at the pleura."""
    if lungs.sum() < 500:
        return None
    rim = np.zeros_like(lungs)
    for axis in range(3):
        for shift in (-2, 2):
            rim |= lungs & ~np.roll(lungs, shift, axis)
    picks = []
    for mask in (lungs, lungs & (hu > -600), rim):
        flat = np.flatnonzero(mask)
        chosen = flat[random.integers(len(flat), size=40)] if len(flat) else flat
        picks.append(np.stack(np.unravel_index(chosen, lungs.shape), -1))
    return picks
