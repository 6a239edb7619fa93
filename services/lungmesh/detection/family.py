"""The seam between the service and a detector: what it wants to see, how its answers are read.

A model's card names its family; the service asks Triton for the card. `heatmap.py` and
`retinanet.py` are the families; everything else in the service is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lungmesh.mesh.errors import SettingsError

Hu = npt.NDArray[np.int16]
Array = npt.NDArray[Any]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """A place that may be a nodule.

    Attributes
    ----------
    place
        Its centre, continuous index [z, y, x]: on the working grid as a family gives it, on the
        CT's own grid afterwards.
    diameter_mm
        Its diameter.
    score
        0 … 1.
    """

    place: Triple
    diameter_mm: float
    score: float


@dataclass(frozen=True)
class Tile:
    """A block of the working grid, its halo included.

    Attributes
    ----------
    hu
        int16 [z, y, x]; what lies outside the CT reads as air.
    start
        Index [z, y, x] of its first voxel on the working grid; negative in a halo beyond it.
    core
        What the tile answers for, slices [z, y, x] of the tile.
    """

    hu: Hu
    start: tuple[int, int, int]
    core: tuple[slice, slice, slice]


class Family(Protocol):
    """One kind of detector, set up by a model's card."""

    @property
    def grid_mm(self) -> Triple:
        """Voxel edges of the working grid, mm along [z, y, x]."""

    @property
    def tile(self) -> Shape:
        """Largest tile, its halo included, voxels along [z, y, x]."""

    @property
    def halo(self) -> int:
        """Voxels around a tile's core that only give context."""

    @property
    def multiple(self) -> int:
        """Even; a core's edges are multiples of it, and so is the place where it begins."""

    @property
    def fixed(self) -> bool:
        """Whether every tile must be of the size `tile`."""

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the network's outputs that are asked for."""

    def inputs(self, hu: Hu) -> Mapping[str, Array]:
        """Return the network's inputs for one tile, without the batch axis."""

    def candidates(
        self, shape: Shape, answers: Sequence[tuple[Tile, Mapping[str, Array]]]
    ) -> list[Candidate]:
        """Return the candidates on the working grid, in falling order of score.

        Parameters
        ----------
        shape
            Voxels of the working grid along [z, y, x].
        answers
            Each tile with the network's outputs for it, without the batch axis.
        """


Parameters = Mapping[str, Any]


def family_of(name: str, parameters: Parameters) -> Family:
    """Return the family that a model's card asks for.

    Parameters
    ----------
    name
        The model's name, for the error.
    parameters
        `parameters` of the card.

    Raises SettingsError when the card names no family that this service reads.
    """
    from lungmesh.detection.heatmap import Heatmap
    from lungmesh.detection.retinanet import RetinaNet

    families: dict[str, Callable[[Parameters], Family]] = {
        "heatmap": Heatmap.of,
        "retinanet": RetinaNet.of,
    }
    wanted = str(parameters.get("family", ""))
    if wanted not in families:
        raise SettingsError(
            f"model {name} is of the family '{wanted}'; a detector must be one of "
            f"{', '.join(families)}"
        )
    return families[wanted](parameters)
