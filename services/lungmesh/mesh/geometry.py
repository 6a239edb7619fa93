"""The voxel grid: index coordinates to DICOM patient coordinates (LPS, mm) and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lungmesh.v1.volume_pb2 import Geometry

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """A voxel grid in DICOM patient coordinates.

    Attributes
    ----------
    size
        Voxels along (x, y, z) = (columns, rows, slices).
    spacing
        mm along (x, y, z).
    origin
        LPS position of the centre of voxel (0, 0, 0), mm.
    direction
        3 x 3; column k is the LPS unit vector of index axis k.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array in memory, [z, y, x]."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³."""
        return self.spacing[0] * self.spacing[1] * self.spacing[2]

    @property
    def _matrix(self) -> Floats:
        matrix: Floats = np.asarray(self.direction, float) * np.asarray(self.spacing, float)
        return matrix

    def to_lps(self, index: npt.ArrayLike) -> Floats:
        """Map index coordinates (…, 3) in (x, y, z) order to LPS mm."""
        lps: Floats = np.asarray(index, float) @ self._matrix.T + np.asarray(self.origin, float)
        return lps

    def to_index(self, lps: npt.ArrayLike) -> Floats:
        """Map LPS mm (…, 3) to continuous index coordinates in (x, y, z) order."""
        offset = np.asarray(lps, float) - np.asarray(self.origin, float)
        index: Floats = offset @ np.linalg.inv(self._matrix).T
        return index

    @classmethod
    def from_proto(cls, geometry: Geometry) -> Grid:
        """Read the message; its rules are checked at the edge of the service."""
        rows = np.asarray(geometry.direction, float).reshape(3, 3).tolist()
        x, y, z = geometry.size
        return cls(
            size=(x, y, z),
            spacing=(geometry.spacing_mm[0], geometry.spacing_mm[1], geometry.spacing_mm[2]),
            origin=(
                geometry.origin_lps_mm[0],
                geometry.origin_lps_mm[1],
                geometry.origin_lps_mm[2],
            ),
            direction=tuple((row[0], row[1], row[2]) for row in rows),
        )

    def to_proto(self) -> Geometry:
        """Return the message."""
        return Geometry(
            size=self.size,
            spacing_mm=self.spacing,
            origin_lps_mm=self.origin,
            direction=[value for row in self.direction for value in row],
        )
