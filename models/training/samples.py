"""Simulated nodules in grounds, cut out as the crop networks get them, with the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.training.crops import (
    Noise,
    Piece,
    any_scanner,
    cut,
    jitter,
    piece_of,
    seen,
    turned,
)
from models.training.grounds import Ground
from models.training.simulation.plant import KINDS, Kind, Planted, Profile, plant
from models.training.simulation.scans import LEAST_MM
from models.training.simulation.shapes import Shape

Floats = npt.NDArray[np.float32]
MOST_MM = 32.0
# The truth is made on slices of this, or a share of the diameter: thick slices would blur it.
_FINE_MM = 0.6
_FINE_SHARE = 1 / 16
# Planted nodules keep this far from real ones.
_CLEAR_MM = 6.0
_TRIES = 50
# Bodies smaller and larger than the host's.
_BODIES = (0.88, 1.14)
_MOST_SIGMAS = 2.0
# Slices that do not fill a slab of 5 mm are lost at both ends.
_SLAB_MM = 5.0


@dataclass(frozen=True)
class Wanted:
    """How a crop is cut: `size` voxels of an edge that follows from the diameter by `step_mm`.

    Attributes
    ----------
    shift_mm, shift_share
        Reach of the error of its centre, in mm and as a share of the diameter.
    spread
        Logarithmic standard deviation of the error of its diameter.
    """

    size: int
    step_mm: float
    widest: float = 0.0
    shift_mm: float = 0.0
    shift_share: float = 0.0
    spread: float = 0.0

    def step(self, diameter_mm: float) -> float:
        """Return the edge of a voxel, mm: the crop is at least `widest` diameters wide."""
        return max(self.step_mm, self.widest * diameter_mm / self.size)

    def reach(self, diameter_mm: float) -> float:
        """Return how far a crop reaches from the nodule's centre along an axis at most, mm."""
        step = self.step(diameter_mm * float(np.exp(_MOST_SIGMAS * self.spread)))
        # What the lungs' border cuts off moves the centre.
        shift = self.shift_mm + (self.shift_share + 0.15) * diameter_mm
        return self.size * step / 2 + shift + _SLAB_MM


@dataclass(frozen=True)
class Sample:
    """A planted nodule as a network gets it.

    Attributes
    ----------
    hu, total, solid
        float32 [size, size, size]: HU, and how much of each voxel is nodule and solid part.
    step_mm
        Edge of a voxel.
    """

    hu: Floats
    total: Floats
    solid: Floats
    step_mm: float
    kind: Kind
    diameter_mm: float
    volume_mm3: float


@dataclass(frozen=True)
class Planting:
    """A nodule in its surroundings, before any scanner.

    Attributes
    ----------
    piece
        The surroundings on the host's grid, cut around the nodule's centre.
    truth
        On slices of `fine`, mm along [z, y, x].
    """

    piece: Piece
    truth: Planted
    fine: tuple[float, float, float]


class Drawer:
    """Draws samples: the same ones for the same seed."""

    def __init__(self, grounds: list[Ground], shapes: list[Shape], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._grounds = grounds
        weights = np.array([ground.weight for ground in grounds])
        self._weights = weights / weights.sum()
        self._shapes = sorted(shapes, key=lambda shape: shape.diameter_mm)
        self._sizes = np.array([shape.diameter_mm for shape in self._shapes])
        self._noise = Noise(self.random)

    def ground(self) -> Ground:
        """Draw a host."""
        return self._grounds[int(self.random.choice(len(self._grounds), p=self._weights))]

    def planted(self, wanted: Wanted, kind: Kind | None = None) -> Planting:
        """Draw a nodule, all sizes on a logarithmic scale and all kinds alike, and plant it.

        Raises RuntimeError when no place takes it.
        """
        random = self.random
        kind = kind or KINDS[int(random.integers(len(KINDS)))]
        diameter = float(np.exp(random.uniform(np.log(LEAST_MM[kind]), np.log(MOST_MM))))
        half = wanted.reach(diameter)
        for _ in range(_TRIES):
            ground = self.ground()
            place = self._place(ground, diameter)
            if place is None:
                continue
            scale = float(random.uniform(*_BODIES))
            made = self._planted_piece(ground, place, half, scale, kind, diameter)
            if made is not None:
                return made
        raise RuntimeError(f"no place for a nodule of {diameter:.1f} mm in {_TRIES} tries")

    def sample(self, planting: Planting, wanted: Wanted) -> Sample:
        """See a planted nodule through some scanner, and cut it out."""
        random = self.random
        truth, fine = planting.truth, planting.fine
        thickest = max(2.5, min(5.0, 0.6 * truth.diameter_mm))
        scanner = any_scanner(planting.piece.spacing, thickest, random)
        shown = seen(planting.piece, scanner, self._noise, random)
        error = float(np.clip(random.normal(), -_MOST_SIGMAS, _MOST_SIGMAS)) * wanted.spread
        step = wanted.step(truth.diameter_mm * float(np.exp(error)))
        shift = jitter(wanted.shift_mm + wanted.shift_share * truth.diameter_mm, random)
        middle = shown.center + shift / shown.spacing
        hu = cut(shown.image, shown.spacing, middle, wanted.size, step)
        inside = np.subtract(truth.center_zyx, [side.start for side in truth.box]) + shift / fine
        total = cut(truth.total, fine, inside, wanted.size, step, outside=0.0)
        if truth.kind == "part_solid":
            solid = cut(truth.solid, fine, inside, wanted.size, step, outside=0.0)
        else:
            solid = np.zeros_like(total) if truth.kind == "ground_glass" else total
        return Sample(
            turned(hu, scanner.flips),
            turned(total, scanner.flips),
            turned(solid, scanner.flips),
            step,
            truth.kind,
            truth.diameter_mm,
            truth.volume_mm3,
        )

    def stream(self, wanted: Wanted, uses: int, held: int = 32) -> Iterator[Sample]:
        """Give samples without end; each nodule is seen `uses` times, among `held` others.

        Planting costs more than all the rest.
        """
        waiting = [(self.planted(wanted), uses) for _ in range(held)]
        while True:
            at = int(self.random.integers(held))
            planting, left = waiting[at]
            yield self.sample(planting, wanted)
            waiting[at] = (planting, left - 1) if left > 1 else (self.planted(wanted), uses)

    def bare(self, ground: Ground, place: npt.ArrayLike, wanted: Wanted) -> Floats:
        """Cut out what is at a place of a host, as a network gets it: HU."""
        random = self.random
        scale = float(random.uniform(*_BODIES))
        half = wanted.size * wanted.step_mm / 2 + wanted.shift_mm + _SLAB_MM
        piece = piece_of(ground.hu, _scaled(ground, scale), place, half)
        scanner = any_scanner(piece.spacing, 5.0, random)
        shown = seen(piece, scanner, self._noise, random)
        middle = shown.center + jitter(wanted.shift_mm, random) / shown.spacing
        hu = cut(shown.image, shown.spacing, middle, wanted.size, wanted.step_mm)
        return turned(hu, scanner.flips)

    def _place(self, ground: Ground, diameter: float) -> npt.NDArray[np.float64] | None:
        """Draw an index [z, y, x]: anywhere, at the pleura, or at a vessel."""
        random = self.random
        sort = random.random()
        if sort < 0.2 and len(ground.spots):
            places = ground.spots[random.integers(len(ground.spots), size=8)]
        else:
            places = ground.places[random.integers(len(ground.places), size=64)]
        places = places[places[:, 4] > diameter / 2 + _CLEAR_MM]
        if not len(places):
            return None
        if 0.2 <= sort < 0.45:
            wanted = diameter * random.uniform(0.15, 0.55)
            best = places[np.argmin(np.abs(places[:, 3] - wanted))]
        else:
            best = places[0]
        at: npt.NDArray[np.float64] = best[:3] + random.uniform(-0.5, 0.5, 3)
        if sort < 0.2:
            at += jitter(diameter / 2 + 1.0, random) / ground.spacing
        return at

    def _shape(self, diameter: float) -> Shape:
        """Draw a shape of about that diameter: a hundredth's stairs would show when enlarged."""
        at = int(np.searchsorted(self._sizes, diameter))
        near = max(8, len(self._shapes) // 8)
        low = min(max(0, at - near), max(0, len(self._shapes) - 2 * near))
        return self._shapes[int(self.random.integers(low, min(len(self._shapes), low + 2 * near)))]

    def _planted_piece(
        self,
        ground: Ground,
        place: npt.ArrayLike,
        half_mm: float,
        scale: float,
        kind: Kind,
        diameter: float,
    ) -> Planting | None:
        """Plant into a copy of the surroundings.

        The nodule is put on slices thin enough for its truth; of these the host's own are kept.
        """
        random = self.random
        spacing = _scaled(ground, scale)
        piece = piece_of(ground.hu, spacing, place, half_mm)
        lungs = piece_of(ground.lungs, spacing, place, half_mm, 0.0).image > 0.5
        step = piece.spacing[0]
        parts = max(1, round(step / max(_FINE_MM, _FINE_SHARE * diameter)))
        fine = (step / parts, piece.spacing[1], piece.spacing[2])
        image = _divided(piece.image, parts)
        at = (piece.center[0] * parts, piece.center[1], piece.center[2])
        truth = plant(
            image,
            np.repeat(lungs, parts, 0)[: len(image)],
            fine,
            self._shape(diameter),
            kind,
            at,
            diameter,
            self._profile(ground, step, fine[0], scale),
            random,
        )
        if truth is None:
            return None
        z, y, x = truth.center_zyx
        return Planting(Piece(image[::parts], piece.spacing, (z / parts, y, x)), truth, fine)

    def _profile(self, ground: Ground, step: float, fine: float, scale: float) -> Profile:
        """Return the blur of the host's slices, of which the voxel itself is a part already."""
        thick = ground.slice_mm * scale
        square = max(thick**2 - fine**2, 0.0) / 12
        if step < 0.8 * thick:
            square += thick**2 / 6
        sigma = float(self.random.uniform(0.4, 0.8))
        return Profile((float(np.sqrt(square + 0.15**2)), sigma, sigma), ground.noise_hu)


def _scaled(ground: Ground, scale: float) -> tuple[float, float, float]:
    """Return the spacing of a body that is larger or smaller than the host's."""
    z, y, x = ground.spacing
    return z * scale, y * scale, x * scale


def _divided(image: Floats, parts: int) -> Floats:
    """Put parts - 1 slices between two slices, linear; every parts-th is an old one."""
    if parts == 1:
        return image
    out = np.empty(((len(image) - 1) * parts + 1, *image.shape[1:]), np.float32)
    for part in range(parts):
        weight = np.float32(part / parts)
        between = image[:-1] * (1 - weight) + image[1:] * weight
        out[part : len(out) - 1 : parts] = between
    out[-1] = image[-1]
    return out
