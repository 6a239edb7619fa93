"""A made-up chest with balls of known size in it, as preprocess would have handed it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lungmesh.mesh.arrays import write_array
from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import nodule_pb2
from tests.support.networks import LUNG_HU
from tests.support.report import Case, made_up_case

TISSUE_HU = 40.0
# Slices of the made-up case, whose headers are taken.
SLICES = 50
_PIXEL_MM = 0.75
# Lungs along y and x, mm; the tissue around and between them.
_DEEP_MM, _WIDE_MM, _WALL_MM = 56.0, 44.0, 9.0
# Parts of a voxel along each axis that partial volume is computed from.
_FINE = 5
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Ball:
    """An even ball.

    Attributes
    ----------
    at
        Centre, mm from the middle of the volume, [z, y, x].
    diameter_mm
        Diameter.
    hu
        HU inside.
    """

    at: Triple
    diameter_mm: float
    hu: float = 40.0


@dataclass(frozen=True)
class Phantom:
    """A chest in arrays.

    Attributes
    ----------
    hu, lobes
        int16 and uint8 [z, y, x].
    spacing
        mm along [z, y, x].
    """

    hu: npt.NDArray[np.int16]
    lobes: npt.NDArray[np.uint8]
    spacing: Triple

    def index(self, at: Triple) -> npt.NDArray[np.float64]:
        """Return the continuous index [z, y, x] of a place in mm from the middle."""
        middle = (np.array(self.hu.shape) - 1) / 2
        return np.asarray(middle + np.array(at) / self.spacing)


def phantom(balls: Sequence[Ball], slice_mm: float = 1.25, noise_hu: float = 0.0) -> Phantom:
    """Return two box-shaped lungs in tissue, right at low x, with balls put in in turn."""
    spacing = (slice_mm, _PIXEL_MM, _PIXEL_MM)
    shape = (
        SLICES,
        round((_DEEP_MM + 2 * _WALL_MM) / _PIXEL_MM),
        round((2 * _WIDE_MM + 3 * _WALL_MM) / _PIXEL_MM),
    )
    z, y, x = (
        (np.arange(n, dtype=np.float64) - (n - 1) / 2) * mm
        for n, mm in zip(shape, spacing, strict=True)
    )
    high = SLICES * slice_mm / 2 - _WALL_MM
    inside = (np.abs(z) < high)[:, None, None] & (np.abs(y) < _DEEP_MM / 2)[:, None]
    side = _WALL_MM / 2
    lobes = np.zeros(shape, np.uint8)
    lobes[inside & (x > -side - _WIDE_MM) & (x < -side)] = nodule_pb2.LOBE_RIGHT_UPPER
    lobes[inside & (x < side + _WIDE_MM) & (x > side)] = nodule_pb2.LOBE_LEFT_LOWER
    hu = np.where(lobes > 0, LUNG_HU, TISSUE_HU)
    for ball in balls:
        share = _share(ball, spacing, (z, y, x))
        hu += share * (ball.hu - hu)
    hu += np.random.default_rng(0).normal(0, noise_hu, shape)
    return Phantom(np.rint(hu).astype(np.int16), lobes, spacing)


def received(root: Path, made: Phantom, name: str = "phantom") -> Case:
    """Keep a phantom in a blob store and return the event that preprocess would have sent."""
    case = made_up_case(root, name)
    z, y, x = made.hu.shape
    grid = Grid(
        size=(x, y, z),
        spacing=made.spacing[::-1],
        origin=(-90.0, -40.0, -150.0),
        direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    volume = case.ready.volume
    volume.geometry.CopyFrom(grid.to_proto())
    volume.hu.CopyFrom(write_array(case.blobs, f"{volume.hu.key}-phantom", made.hu))
    volume.lobes.CopyFrom(write_array(case.blobs, f"{volume.lobes.key}-phantom", made.lobes))
    return case


def _share(
    ball: Ball, spacing: Triple, places: Sequence[npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Return how much of each voxel lies in a ball."""
    steps = (np.arange(_FINE) + 0.5) / _FINE - 0.5
    near, parts = [], []
    for at, mm, line in zip(ball.at, spacing, places, strict=True):
        chosen = np.flatnonzero(np.abs(line - at) < ball.diameter_mm / 2 + mm)
        near.append(slice(chosen[0], chosen[-1] + 1))
        parts.append(((line[chosen][:, None] + steps * mm - at) ** 2).ravel())
    inside = parts[0][:, None, None] + parts[1][:, None] + parts[2] <= (ball.diameter_mm / 2) ** 2
    blocks = [size for part in parts for size in (len(part) // _FINE, _FINE)]
    share = np.zeros([len(line) for line in places])
    share[tuple(near)] = inside.reshape(blocks).mean(axis=(1, 3, 5))
    return share
