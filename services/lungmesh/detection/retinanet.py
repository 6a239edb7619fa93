"""The family `retinanet`: anchors, box regression and scores on several levels, as MONAI has them.

`lungmesh models import` rewrites a network so that its maps run along [z, y, x] whatever axes it
was trained on (`docs/models-import.md`); what is left to do here is arithmetic on boxes.

Sources: Lin et al., "Focal loss for dense object detection", ICCV 2017; the boxes' code and its
limit log(1000 / 16) as in MONAI, `monai/apps/detection/utils/box_coder.py`; anchors as in its
`anchor_utils.py`; choice of boxes as in its `box_selector.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lungmesh.detection.family import Array, Candidate, Hu, Parameters, Shape, Tile, Triple
from lungmesh.detection.nms import one_each

Floats = npt.NDArray[np.float64]

# Larger growth of an anchor is cut off.
_MOST_LOG_GROWTH = math.log(1000 / 16)


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Attributes
    ----------
    stride
        Voxels of the tile in one voxel of the level's maps, along [z, y, x].
    first
        Index [z, y, x] in the tile at which the anchors of the maps' voxel (0, 0, 0) are centred.
    anchors
        Edges of the anchors, float64 (n, 3), voxels along [z, y, x].
    """

    stride: Triple
    first: Triple
    anchors: Floats


@dataclass(frozen=True)
class Boxes:
    """Boxes in falling order of score.

    Attributes
    ----------
    center, edges
        float64 (n, 3), voxels along [z, y, x].
    score
        float64 (n,), 0 … 1.
    """

    center: Floats
    edges: Floats
    score: Floats

    def __getitem__(self, chosen: npt.NDArray[Any]) -> Boxes:
        return Boxes(self.center[chosen], self.edges[chosen], self.score[chosen])


@dataclass(frozen=True)
class RetinaNet:
    """A detector of the family; see `Family` for the first six attributes.

    Its outputs, for each level k: `logit_k` [anchors, d, h, w], the logit that an anchor holds a
    nodule, and `delta_k` [anchors · 6, d, h, w], six numbers an anchor: the box's centre against
    the anchor's in anchor edges along z, y, x, then ln of its edges in anchor edges.

    Attributes
    ----------
    levels
        From fine to coarse.
    least_score
        Boxes of a lower score are dropped.
    overlap
        Of two boxes whose intersection over union is above this, the one of the lower score goes.
    most_of_level
        Boxes of one tile and level that are looked at.
    most
        Candidates given out.
    """

    grid_mm: Triple
    tile: Shape
    halo: int
    multiple: int
    fixed: bool
    outputs: Sequence[str]
    levels: tuple[Level, ...]
    least_score: float
    overlap: float
    most_of_level: int = 1000
    most: int = 300

    @classmethod
    def of(cls, parameters: Parameters) -> RetinaNet:
        """Read the parameters of a card that `lungmesh models import` wrote."""
        levels = tuple(
            Level(_triple(stride), _triple(first), np.asarray(anchors, float))
            for stride, first, anchors in zip(
                parameters["strides"], parameters["firsts"], parameters["anchors"], strict=True
            )
        )
        z, y, x = (int(edge) for edge in parameters["tile"])
        return cls(
            grid_mm=_triple(parameters["grid_mm"]),
            tile=(z, y, x),
            halo=int(parameters["halo"]),
            multiple=int(parameters["multiple"]),
            fixed=bool(parameters["fixed"]),
            outputs=tuple(
                f"{kind}_{number}" for kind in ("logit", "delta") for number in range(len(levels))
            ),
            levels=levels,
            least_score=float(parameters["least_score"]),
            overlap=float(parameters["overlap"]),
        )

    def inputs(self, hu: Hu) -> Mapping[str, Array]:
        """Return the network's input for one tile; the window is in the network."""
        return {"hu": hu}

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
        parts = [self._of_tile(tile, maps) for tile, maps in answers]
        if not parts:
            return []
        boxes = without_doubles(joined(parts), self.overlap, self.most)
        boxes = boxes[_within(boxes.center, np.full(3, -0.5), np.subtract(shape, 0.5))]
        # The edges of LIDC boxes that such networks learn are all the nodule's diameter.
        diameters = (boxes.edges * self.grid_mm).mean(axis=1)
        found = [
            Candidate(_triple(center), float(diameter), float(score))
            for center, diameter, score in zip(boxes.center, diameters, boxes.score, strict=True)
        ]
        return one_each(found, self.grid_mm, self.most)

    def _of_tile(self, tile: Tile, maps: Mapping[str, Array]) -> Boxes:
        """Return the boxes centred in the core of a tile, on the working grid."""
        boxes = joined(
            [
                decoded(
                    level,
                    maps[f"logit_{number}"],
                    maps[f"delta_{number}"],
                    self.least_score,
                    self.most_of_level,
                )
                for number, level in enumerate(self.levels)
            ]
        )
        low = np.array([side.start for side in tile.core]) - 0.5
        high = np.array([side.stop for side in tile.core]) - 0.5
        boxes = boxes[_within(boxes.center, low, high)]
        return Boxes(boxes.center + tile.start, boxes.edges, boxes.score)


def decoded(level: Level, logit: Array, delta: Array, least_score: float, most: int) -> Boxes:
    """Return the boxes of one level of one tile.

    Parameters
    ----------
    logit, delta
        The level's maps, [anchors, d, h, w] and [anchors · 6, d, h, w].
    least_score
        Boxes of a lower score are dropped.
    most
        Boxes returned at most.
    """
    values = logit.ravel()
    chosen = np.flatnonzero(values > math.log(least_score / (1 - least_score)))
    order = np.argsort(-values[chosen].astype(np.float64), kind="stable")
    chosen = chosen[order[:most]]
    anchor, *place = np.unravel_index(chosen, logit.shape)
    codes = delta.reshape(len(level.anchors), 6, *logit.shape[1:])
    code = codes[anchor, :, place[0], place[1], place[2]].astype(np.float64)
    whole = np.isfinite(code).all(axis=1)
    code, edges = code[whole], level.anchors[anchor[whole]]
    at = np.stack(place, axis=1)[whole] * np.asarray(level.stride) + np.asarray(level.first)
    score = 1 / (1 + np.exp(-values[chosen][whole].astype(np.float64)))
    return Boxes(
        center=at + code[:, :3] * edges,
        edges=np.exp(np.minimum(code[:, 3:], _MOST_LOG_GROWTH)) * edges,
        score=score,
    )


def joined(parts: Sequence[Boxes]) -> Boxes:
    """Return the boxes of all parts, in falling order of score."""
    boxes = Boxes(
        np.concatenate([part.center for part in parts]),
        np.concatenate([part.edges for part in parts]),
        np.concatenate([part.score for part in parts]),
    )
    return boxes[np.argsort(-boxes.score, kind="stable")]


def without_doubles(boxes: Boxes, overlap: float, most: int) -> Boxes:
    """Return at most `most` boxes that do not cover one of a higher score.

    Parameters
    ----------
    boxes
        In falling order of score.
    overlap
        Intersection over union above which one covers the other, 0 … 1.
    """
    low, high = boxes.center - boxes.edges / 2, boxes.center + boxes.edges / 2
    volume = boxes.edges.prod(axis=1)
    left = np.arange(len(boxes.score))
    kept: list[int] = []
    while left.size and len(kept) < most:
        best = left[0]
        kept.append(int(best))
        common = np.minimum(high[left], high[best]) - np.maximum(low[left], low[best])
        shared = np.maximum(common, 0).prod(axis=1)
        left = left[shared <= overlap * (volume[left] + volume[best] - shared)]
        left = left[left != best]
    return boxes[np.asarray(kept, int)]


def _within(center: Floats, low: Floats, high: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(((center >= low) & (center < high)).all(axis=1))


def _triple(values: Sequence[float] | Floats) -> Triple:
    z, y, x = (float(value) for value in values)
    return z, y, x
