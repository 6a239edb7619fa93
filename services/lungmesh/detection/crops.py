"""Cubes of the CT around a place, on cubic voxels, as the networks for candidates take them."""

from __future__ import annotations

import numpy as np

from lungmesh.detection.family import Hu, Triple
from lungmesh.detection.grid import cut


def crop(hu: Hu, spacing: Triple, place: Triple, mm: float, size: int) -> Hu:
    """Return int16 [size, size, size] on voxels of `mm`, trilinear, air outside the CT.

    Parameters
    ----------
    hu
        int16 [z, y, x].
    spacing
        mm along [z, y, x] of the CT.
    place
        Continuous index [z, y, x] on the CT of the cube's middle, index (size - 1)/2.
    """
    half = (size - 1) / 2
    reach = [(at, half * mm / edge) for at, edge in zip(place, spacing, strict=True)]
    start = [int(np.floor(at - wide)) for at, wide in reach]
    stop = [int(np.floor(at + wide)) + 2 for at, wide in reach]
    field = cut(hu, start, [b - a for a, b in zip(start, stop, strict=True)]).astype(np.float32)
    for axis, (at, wide) in enumerate(reach):
        wanted = np.linspace(at - wide, at + wide, size) - start[axis]
        low = np.clip(np.floor(wanted).astype(int), 0, field.shape[axis] - 2)
        share = (
            (wanted - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        )
        below, above = np.take(field, low, axis), np.take(field, low + 1, axis)
        field = below + share * (above - below)
    return np.rint(field).astype(np.int16)
