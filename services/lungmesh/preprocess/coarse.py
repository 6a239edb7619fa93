"""The coarse grid on which lungs and lobes are found, and the way back to the full one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from lungmesh.mesh.geometry import Grid

Hu = npt.NDArray[np.int16]
Labels = npt.NDArray[np.uint8]
# Lungs are found on voxels of about this size, mm.
_COARSE_MM = 2.0


@dataclass(frozen=True)
class Coarse:
    """A volume averaged to about 2 mm and turned so that its axes run along the body's.

    Attributes
    ----------
    hu
        float32 [z, y, x] with x to the left, y to the back, z to the head (LPS).
    spacing
        mm along [z, y, x].
    """

    hu: npt.NDArray[np.float32]
    spacing: tuple[float, float, float]
    _axes: tuple[int, ...]
    _flips: tuple[bool, ...]
    _factors: tuple[int, int, int]
    _full_shape: tuple[int, int, int]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, ml."""
        return self.spacing[0] * self.spacing[1] * self.spacing[2] / 1000

    def to_full(self, labels: Labels) -> Labels:
        """Return labels of the coarse volume on the full grid, uint8 [z, y, x].

        Each full voxel takes the label of the coarse voxel around it.
        """
        stored = labels[_turns(self._flips)]
        stored = np.transpose(stored, np.argsort(self._axes))
        index = [
            np.minimum(np.arange(full) // factor, coarse - 1)
            for full, factor, coarse in zip(
                self._full_shape, self._factors, stored.shape, strict=True
            )
        ]
        return np.ascontiguousarray(stored[np.ix_(*index)])


def body_axes(grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return, for the body axes [z, y, x], the array axis along each and whether it is flipped.

    Array axes count [z, y, x] = 0, 1, 2. The result turns an array with
    ``transpose(array, axes)`` and a flip of each marked axis.
    """
    # Rows: LPS x, y, z; columns: index x, y, z.
    direction = np.asarray(grid.direction)
    best = max(
        permutations(range(3)), key=lambda order: sum(abs(direction[k, order[k]]) for k in range(3))
    )
    axes = tuple(2 - best[2 - k] for k in range(3))
    flips = tuple(bool(direction[2 - k, best[2 - k]] < 0) for k in range(3))
    return axes, flips


def coarsen(hu: Hu, grid: Grid) -> Coarse:
    """Average a volume [z, y, x] to voxels of about 2 mm, turned to the body's axes."""
    spacing = grid.spacing[::-1]
    factors = tuple(max(1, round(_COARSE_MM / mm)) for mm in spacing)
    fz, fy, fx = factors
    depth, height, width = (n // f for n, f in zip(hu.shape, factors, strict=True))
    out = np.empty((depth, height, width), np.float32)
    for z in range(depth):
        block = hu[z * fz : (z + 1) * fz, : height * fy, : width * fx]
        # Values under air (outside the scanned circle) would pull the mean of the skin down.
        block = np.maximum(block, -1024).astype(np.float32)
        out[z] = block.reshape(fz, height, fy, width, fx).mean(axis=(0, 2, 4))
    axes, flips = body_axes(grid)
    turned = np.transpose(out, axes)[_turns(flips)]
    return Coarse(
        hu=np.ascontiguousarray(turned),
        spacing=tuple(spacing[axis] * factors[axis] for axis in axes),  # type: ignore[arg-type]
        _axes=axes,
        _flips=flips,
        _factors=(fz, fy, fx),
        _full_shape=(hu.shape[0], hu.shape[1], hu.shape[2]),
    )


def _turns(flips: tuple[bool, ...]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
