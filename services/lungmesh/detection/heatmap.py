"""Family `heatmap`: a network that says for each place how likely a nodule has its centre there.

Outputs at a stride s of the working grid; output voxel i lies at input index s·i + (s - 1)/2:
`heat` is the probability of a centre, `size` the natural logarithm of the diameter in mm, `offset`
the centre minus the output voxel's place, mm along z, y, x (after CenterNet: Zhou et al.,
arXiv:1904.07850, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection.family import Array, Candidate, Hu, Shape, Tile, Triple
from lungmesh.detection.nms import one_each

Floats = npt.NDArray[np.float32]
# Looked at, of a CT: more peaks than any lung has places.
_MOST_PEAKS = 1000
# Nearer than this share of the larger diameter, two peaks are one: little, so that a wide false one
# hides no nodule beside it before the reducer has seen both.
_NEAR_SHARE = 0.25
# What a network may answer for a size, mm.
_DIAMETERS_MM = (1.0, 80.0)


@dataclass(frozen=True)
class Heatmap:
    """The family's reader; see `family.Family` for the attributes.

    Attributes
    ----------
    stride
        Voxels of the working grid in one voxel of the outputs, along each axis.
    least_heat
        Peaks below are no candidates.
    """

    grid_mm: Triple
    tile: Shape
    halo: int
    stride: int
    least_heat: float
    multiple: int = 8
    fixed: bool = False
    outputs: Sequence[str] = ("heat", "size", "offset")

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Heatmap:
        """Read a card's parameters: `grid_mm`, `tile` (one number or three), `halo`, `stride`.

        An imported network may say `multiple` and `fixed` too.
        """
        edge = parameters["tile"]
        z, y, x = edge if isinstance(edge, list) else (edge, edge, edge)
        mm = float(parameters["grid_mm"])
        return cls(
            grid_mm=(mm, mm, mm),
            tile=(int(z), int(y), int(x)),
            halo=int(parameters["halo"]),
            stride=int(parameters["stride"]),
            least_heat=float(parameters["least_heat"]),
            multiple=int(parameters.get("multiple", cls.multiple)),
            fixed=bool(parameters.get("fixed", cls.fixed)),
        )

    def inputs(self, hu: Hu) -> Mapping[str, Array]:
        """The HU as they are: cast and window are in the network."""
        return {"hu": hu}

    def candidates(
        self, shape: Shape, answers: Sequence[tuple[Tile, Mapping[str, Array]]]
    ) -> list[Candidate]:
        """Return the peaks of the whole lung's heat, so that no tile's edge cuts one."""
        heat, rest = self._whole(shape, answers)
        highest = ndimage.maximum_filter(heat, size=3, mode="constant")
        peaks = np.argwhere((heat == highest) & (heat >= self.least_heat))
        values = heat[tuple(peaks.T)]
        order = np.argsort(-values, kind="stable")[:_MOST_PEAKS]
        found = []
        for index, value in zip(peaks[order], values[order], strict=True):
            size, *offset = (float(field) for field in rest[(slice(None), *index)])
            z, y, x = (
                self.stride * float(at) + (self.stride - 1) / 2 + off / mm
                for at, off, mm in zip(index, offset, self.grid_mm, strict=True)
            )
            diameter = float(np.clip(np.exp(min(size, 10.0)), *_DIAMETERS_MM))
            found.append(Candidate((z, y, x), diameter, float(value)))
        return one_each(found, self.grid_mm, _MOST_PEAKS, _NEAR_SHARE)

    def _whole(
        self, shape: Shape, answers: Sequence[tuple[Tile, Mapping[str, Array]]]
    ) -> tuple[Floats, Floats]:
        """Return heat [z, y, x], and size and offset [4, z, y, x], of the whole grid."""
        # Tiles end at multiples of the stride, so they may reach beyond the grid.
        room = [-(-(size + self.multiple) // self.stride) for size in shape]
        heat = np.zeros(room, np.float32)
        rest = np.zeros((4, *room), np.float32)
        for tile, answer in answers:
            core = tuple(
                slice(side.start // self.stride, side.stop // self.stride) for side in tile.core
            )
            place = tuple(
                slice((at + side.start) // self.stride, (at + side.stop) // self.stride)
                for at, side in zip(tile.start, tile.core, strict=True)
            )
            here = np.nan_to_num(answer["heat"][core].astype(np.float32))
            # Cores of the two lungs may overlap.
            better = here > heat[place]
            heat[place][better] = here[better]
            parts = np.concatenate([answer["size"][None], answer["offset"]])[(slice(None), *core)]
            rest[(slice(None), *place)][:, better] = parts[:, better]
        return heat, rest
