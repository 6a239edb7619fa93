"""How a patient lies and breathes in one exam: a smooth known map to the real CT and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.training.simulation.hosts import Host

Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]
_STEP_MM = 6.0
# The map is known this far around the real lungs, mm.
_REACH_MM = 90.0
_MOST_TURN_DEGREES = 5.0
_MOST_SHIFT_MM = 20.0
# Bends that no breath explains: scale and standard deviation, mm.
_BEND_SCALE_MM, _BEND_MM = 40.0, 2.0
# The front of the chest moves by this share of the diaphragm.
_CHEST_SHARE = 0.15
_ROUNDS = 60


@dataclass(frozen=True)
class Motion:
    """A map given at the nodes of a grid, linear between them: exact wherever it is asked.

    Attributes
    ----------
    host
        float32 [3, z, y, x]: where a node lies in the real CT, mm along z, y, x.
    low
        The first node, mm along [z, y, x] of the exam.
    """

    host: Field
    low: Floats

    def to_host(self, points: npt.ArrayLike) -> Floats:
        """Map places (…, 3) of the exam, mm along z, y, x, to the real CT."""
        at = (np.asarray(points, float) - self.low) / _STEP_MM
        rows = at.reshape(-1, 3).T
        found = [
            ndimage.map_coordinates(part, rows, float, order=1, mode="nearest")
            for part in self.host
        ]
        return np.stack(found, axis=-1).reshape(at.shape)

    def from_host(self, points: npt.ArrayLike) -> Floats:
        """Map places (…, 3) of the real CT, mm along z, y, x, to the exam."""
        target = np.asarray(points, float)
        place = target.copy()
        for _ in range(_ROUNDS):
            place = place + target - self.to_host(place)
        return place

    def density(self) -> Field:
        """Return how much denser the lung is than in the real CT at each node, [z, y, x]."""
        rows = [np.gradient(part.astype(float), _STEP_MM) for part in self.host]
        matrix = np.moveaxis(np.array(rows), (0, 1), (-2, -1))
        out: Field = np.linalg.det(matrix).astype(np.float32)
        return out

    def sampled(self, part: Field, low: Floats, spacing: Floats, size: tuple[int, ...]) -> Field:
        """Interpolate nodes [z, y, x] onto a grid whose first voxel lies at `low`, mm."""
        out = part
        for axis in range(3):
            at = (low[axis] + np.arange(size[axis]) * spacing[axis] - self.low[axis]) / _STEP_MM
            first = np.clip(np.floor(at).astype(int), 0, part.shape[axis] - 2)
            share = (at - first).astype(np.float32)
            weights = np.zeros((size[axis], part.shape[axis]), np.float32)
            rows = np.arange(size[axis])
            weights[rows, first], weights[rows, first + 1] = 1 - share, share
            out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
        return out


def breathing(host: Host, breath_mm: float, random: np.random.Generator) -> Motion:
    """Return how a patient might lie and breathe, drawn by `random`.

    Parameters
    ----------
    breath_mm
        How much higher the diaphragm stands than in the real CT. It grows with the square of the
        distance from the apex and towards the back; the front of the chest sinks with it.
    """
    box = ndimage.find_objects(host.lungs.view(np.uint8))[0]
    mm = np.array(host.spacing)
    base = np.array([part.start for part in box]) * mm
    top = np.array([part.stop for part in box]) * mm
    low = base - _REACH_MM
    size = np.ceil((top - base + 2 * _REACH_MM) / _STEP_MM).astype(int) + 1
    nodes = (
        np.stack(np.meshgrid(*(np.arange(n) * _STEP_MM for n in size), indexing="ij"))
        + low[:, None, None, None]
    )
    turns = np.deg2rad(random.uniform(-1, 1, 3) * _MOST_TURN_DEGREES * (0.6, 0.6, 1.0))
    middle = ((base + top) / 2)[:, None, None, None]
    shift = random.uniform(-_MOST_SHIFT_MM, _MOST_SHIFT_MM, 3)[:, None, None, None]
    place = np.tensordot(_rotation(turns), nodes - middle, 1) + middle + shift
    z, y, _ = place
    depth = np.clip((top[0] - z) / (top[0] - base[0]), 0, 1.3)
    back = np.clip((y - base[1]) / (top[1] - base[1]), 0, 1)
    place[0] = z - breath_mm * depth**2 * (0.75 + 0.5 * back)
    place[1] = y - _CHEST_SHARE * breath_mm * (1 - back)
    for axis in range(3):
        bend = ndimage.gaussian_filter(random.standard_normal(size), _BEND_SCALE_MM / _STEP_MM / 2)
        place[axis] += bend * (_BEND_MM / bend.std())
    return Motion(place.astype(np.float32), low)


def _rotation(turns: Floats) -> Floats:
    matrix = np.eye(3)
    for axis, turn in enumerate(turns):
        one, other = (k for k in range(3) if k != axis)
        step = np.eye(3)
        step[one, one] = step[other, other] = np.cos(turn)
        step[one, other], step[other, one] = -np.sin(turn), np.sin(turn)
        matrix = step @ matrix
    return matrix
