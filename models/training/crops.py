"""Crops for training: a nodule planted in a host, seen through a varied scanner, cut and turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]
AIR_HU = -1000.0


@dataclass(frozen=True)
class Scanner:
    """What is changed on the way from the host's pixels to those of another scanner.

    Attributes
    ----------
    slices
        Neighbouring slices averaged into one.
    kernel_mm
        In-plane blur (above 0) or sharpening (below 0), sigma in mm.
    noise_hu
        Standard deviation of the added noise, before slices are averaged.
    slope, shift_hu
        Error of the HU scale.
    flips
        Axes [z, y, x] that are turned round in the crop.
    """

    slices: int = 1
    kernel_mm: float = 0.0
    noise_hu: float = 0.0
    slope: float = 1.0
    shift_hu: float = 0.0
    flips: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A part of a volume.

    Attributes
    ----------
    image
        float32 [z, y, x].
    spacing
        mm along [z, y, x].
    center
        Index [z, y, x], not rounded, of the place it was cut around.
    """

    image: Floats
    spacing: Spacing
    center: tuple[float, float, float]


def cut(
    image: npt.NDArray[np.generic],
    spacing: Spacing,
    center: npt.ArrayLike,
    size: int,
    step_mm: float,
    outside: float = AIR_HU,
) -> Floats:
    """Return a cube of `size` voxels of `step_mm` around a place, trilinear.

    Parameters
    ----------
    image
        [z, y, x].
    center
        Index [z, y, x] of the middle of the cube, (size - 1) / 2.
    outside
        What is read beyond the image; voxels beyond the outermost centres fade into it.
    """
    out: npt.NDArray[np.generic] = image
    around = np.asarray(center, float)
    reach = np.arange(size) - (size - 1) / 2
    lows, weights, box = [], [], []
    for axis, mm in enumerate(spacing):
        at = around[axis] + reach * step_mm / mm
        low = np.floor(at).astype(int)
        first, last = int(low[0]), int(low[-1]) + 2
        lows.append(low - first)
        weights.append((at - low).astype(np.float32))
        box.append((first, last))
    part = padded(out, box, outside)
    for axis in range(3):
        weight = weights[axis].reshape([-1 if axis == i else 1 for i in range(3)])
        below = np.take(part, lows[axis], axis)
        above = np.take(part, lows[axis] + 1, axis)
        part = below + weight * (above - below)
    return part


def padded(image: npt.NDArray[np.generic], box: list[tuple[int, int]], outside: float) -> Floats:
    """Return image[box] as float32, with `outside` where the box leaves the image."""
    sides = list(zip(box, image.shape, strict=True))
    inner = tuple(slice(min(max(0, a), n), min(max(0, b), n)) for (a, b), n in sides)
    part = image[inner].astype(np.float32)
    if part.shape == tuple(b - a for a, b in box):
        return part
    out = np.full([b - a for a, b in box], outside, np.float32)
    out[tuple(slice(i.start - a, i.stop - a) for i, (a, _) in zip(inner, box, strict=True))] = part
    return out


def piece_of(
    image: npt.NDArray[np.generic],
    spacing: Spacing,
    place: npt.ArrayLike,
    half_mm: float,
    outside: float = AIR_HU,
) -> Piece:
    """Copy what lies within `half_mm` of a place, whole voxels.

    Parameters
    ----------
    image
        [z, y, x].
    place
        Index [z, y, x] in the image.
    outside
        What is read beyond the image.
    """
    middle = np.asarray(place, float)
    box = []
    for at, mm in zip(middle, spacing, strict=True):
        half = int(np.ceil(half_mm / mm)) + 1
        box.append((int(np.floor(at)) - half, int(np.floor(at)) + half + 2))
    z, y, x = middle - [side[0] for side in box]
    return Piece(padded(image, box, outside), spacing, (float(z), float(y), float(x)))


def seen(piece: Piece, scanner: Scanner, noise: Noise, random: np.random.Generator) -> Piece:
    """Return the piece as another scanner would show it, whole HU."""
    image = piece.image
    z, y, x = piece.center
    thick, rows, columns = piece.spacing
    if scanner.noise_hu > 0:
        image = image + scanner.noise_hu * noise.part(image.shape, random)
    if scanner.slices > 1:
        # Which slice is the first of a slab is chance.
        count = (image.shape[0] - scanner.slices + 1) // scanner.slices
        first = int(random.integers(scanner.slices))
        slab = image[first : first + count * scanner.slices]
        image = slab.reshape(count, scanner.slices, *image.shape[1:]).mean(axis=1)
        z = (z - first - (scanner.slices - 1) / 2) / scanner.slices
        thick *= scanner.slices
    if scanner.kernel_mm:
        blurred = image
        for axis, mm in ((1, rows), (2, columns)):
            sigma = abs(scanner.kernel_mm) / mm
            blurred = ndimage.gaussian_filter1d(blurred, sigma, axis, truncate=3.0)
        image = blurred if scanner.kernel_mm > 0 else 2 * image - blurred
    image = image * np.float32(scanner.slope) + np.float32(scanner.shift_hu)
    whole = np.rint(np.clip(image, -1024, 3071)).astype(np.float32)
    return Piece(whole, (thick, rows, columns), (z, y, x))


def any_scanner(spacing: Spacing, thickest_mm: float, random: np.random.Generator) -> Scanner:
    """Draw a scanner: half leave the slices alone, a third the kernel, a third the noise."""
    slices = 1
    if random.random() < 0.5:
        wanted = random.uniform(1.0, thickest_mm)
        slices = max(1, round(wanted / spacing[0]))
    kernel = random.random()
    flips = tuple(axis for axis in range(3) if random.random() < 0.5)
    return Scanner(
        slices=slices,
        kernel_mm=(
            float(random.uniform(0.3, 0.9))
            if kernel < 1 / 3
            else float(random.uniform(-0.9, -0.4))
            if kernel < 2 / 3
            else 0.0
        ),
        noise_hu=float(np.exp(random.uniform(np.log(4), np.log(60))))
        if random.random() < 2 / 3
        else 0.0,
        slope=float(random.uniform(0.98, 1.02)),
        shift_hu=float(random.uniform(-15, 15)),
        flips=flips,
    )


def turned(crop: Floats, flips: tuple[int, ...]) -> Floats:
    """Turn the last three axes of a crop round, those that are named (0 is z)."""
    return np.flip(crop, tuple(axis - 3 for axis in flips)) if flips else crop


class Noise:
    """A bank of CT-like noise of unit variance: correlated in the slice, not between slices."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int, int] = (96, 192, 192)):
        self._banks: list[Floats] = []
        for sigma in (0.5, 0.8, 1.2):
            white = random.standard_normal(size, np.float32)
            fine = ndimage.gaussian_filter(white, (0, sigma, sigma), mode="wrap")
            # Filtered back-projection lets little noise of low frequency through.
            fine -= ndimage.gaussian_filter(white, (0, 3 * sigma, 3 * sigma), mode="wrap")
            self._banks.append((fine / fine.std()).astype(np.float32))

    def part(self, shape: tuple[int, ...], random: np.random.Generator) -> Floats:
        """Return a random part of the bank; it repeats where the shape is larger."""
        bank = self._banks[int(random.integers(len(self._banks)))]
        for axis, n in enumerate(shape):
            first = int(random.integers(bank.shape[axis]))
            if first + n <= bank.shape[axis]:
                bank = np.moveaxis(np.moveaxis(bank, axis, 0)[first : first + n], 0, axis)
            else:
                bank = np.take(bank, np.arange(first, first + n) % bank.shape[axis], axis)
        return bank


def jitter(reach_mm: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a shift [z, y, x] in mm, even over the ball of that radius."""
    direction = random.standard_normal(3)
    length = reach_mm * random.random() ** (1 / 3)
    shift: npt.NDArray[np.float64] = direction / np.linalg.norm(direction) * length
    return shift
