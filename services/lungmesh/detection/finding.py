"""A measured nodule on the CT's own index, before it becomes a message."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lungmesh.detection.measure import Density
from lungmesh.v1 import nodule_pb2

Labels = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Size:
    """Axes and volume of a nodule or its solid part.

    Attributes
    ----------
    long_mm, short_mm
        Axes, mm.
    long_ends, short_ends
        Two points each, continuous index [z, y, x] on the CT.
    volume_mm3
        Volume.
    """

    long_mm: float
    short_mm: float
    long_ends: tuple[Triple, Triple]
    short_ends: tuple[Triple, Triple]
    volume_mm3: float

    @property
    def mean_mm(self) -> float:
        """Mean of both axes, mm."""
        return (self.long_mm + self.short_mm) / 2


@dataclass(frozen=True)
class Finding:
    """A nodule.

    Attributes
    ----------
    score
        Detection score, 0 … 1.
    type
        As the proto numbers it.
    centre
        Continuous index [z, y, x] on the CT.
    slice_index
        The axial slice on which the axes are shown.
    labels
        uint8 [z, y, x]: 0 outside, 1 nodule, 2 solid part of a part-solid nodule; tight.
    start
        Index [z, y, x] on the CT of the labels' first voxel.
    whole, solid
        Its size, and that of its solid part: the whole of a solid nodule, None without one.
    density
        HU of its voxels.
    sphericity
        0 … 1.
    """

    score: float
    type: nodule_pb2.NoduleType.ValueType
    centre: Triple
    slice_index: int
    labels: Labels
    start: tuple[int, int, int]
    whole: Size
    solid: Size | None
    density: Density
    sphericity: float
