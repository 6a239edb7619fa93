"""All of detection for one CT: candidates, judged, outlined, measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lungmesh.detection.describe import describe
from lungmesh.detection.family import Candidate, Family, Hu, Tile, Triple, family_of
from lungmesh.detection.finding import Finding
from lungmesh.detection.grid import Labels, WorkingGrid, tiles, working_grid
from lungmesh.detection.nms import in_order, one_each
from lungmesh.detection.reducer import Judged, judge
from lungmesh.detection.segmenter import outline
from lungmesh.detection.triton import Network, Triton, Wanted, together

# A nodule's centre lies in the lung or this near to it: mm, or share of its diameter.
_NEAR_LUNG_MM, _NEAR_LUNG_SHARE = 3.0, 0.5


@dataclass(frozen=True)
class Lineup:
    """The networks that read a CT together."""

    detector: Wanted
    reducer: Wanted
    segmenter: Wanted

    @property
    def networks(self) -> tuple[Wanted, Wanted, Wanted]:
        """All three, in the order of their work."""
        return self.detector, self.reducer, self.segmenter


@dataclass(frozen=True)
class Limits:
    """What is taken for a nodule.

    Attributes
    ----------
    candidates
        Places that the reducer looks at, at most.
    score
        Detection score below which a candidate is dropped.
    diameter_mm
        Mean diameter below which a nodule is dropped.
    nodules
        Nodules given out at most.
    """

    candidates: int
    score: float
    diameter_mm: float
    nodules: int


async def find_nodules(
    triton: Triton,
    lineup: Lineup,
    hu: Hu,
    lobes: Labels,
    spacing: Triple,
    limits: Limits,
    progress: Callable[[float, str], None] = lambda share, doing: None,
) -> list[Finding]:
    """Return the nodules of a CT, in falling order of score.

    Parameters
    ----------
    hu, lobes
        int16 and uint8 [z, y, x]: the CT, and the lobe's number in each voxel (0 outside).
    spacing
        mm along [z, y, x].
    progress
        Called with the fraction done, and what is being done.

    Raises Unavailable when Triton is away, SettingsError when a network is of no known family.
    """
    detector, reducer, segmenter = await together(
        triton.network(wanted) for wanted in lineup.networks
    )
    family = family_of(detector.name, detector.parameters)
    grid = await asyncio.to_thread(working_grid, hu, lobes, spacing, family.grid_mm)
    if grid is None:
        return []
    candidates = await _candidates(
        triton,
        detector,
        family,
        grid,
        lambda share: progress(0.6 * share, "looking for candidates"),
    )
    candidates = [one for one in candidates if _near_lung(one, grid)][: limits.candidates]
    on_ct = [replace(one, place=_place(grid, one)) for one in candidates]
    judged = await judge(
        triton,
        reducer,
        hu,
        spacing,
        on_ct,
        lambda share: progress(0.6 + 0.2 * share, "judging candidates"),
    )
    judged = _best(judged, spacing, limits)
    regions = await outline(
        triton,
        segmenter,
        hu,
        spacing,
        judged,
        lambda share: progress(0.8 + 0.2 * share, "outlining nodules"),
    )
    return await asyncio.to_thread(
        lambda: _chosen(
            [
                describe(one, region, hu, spacing)
                for one, region in zip(judged, regions, strict=True)
                if region is not None
            ],
            spacing,
            limits,
        )
    )


async def _candidates(
    triton: Triton,
    network: Network,
    family: Family,
    grid: WorkingGrid,
    progress: Callable[[float], None],
) -> list[Candidate]:
    """Run the detector on every tile and return its candidates, places on the working grid."""
    work = await asyncio.to_thread(tiles, grid, family)
    done = 0

    async def one(tile: Tile) -> tuple[Tile, dict[str, npt.NDArray[np.generic]]]:
        nonlocal done
        inputs = {name: array[None] for name, array in family.inputs(tile.hu).items()}
        answer = await triton.infer(network, inputs, family.outputs)
        done += 1
        progress(done / len(work))
        return tile, {name: array[0] for name, array in answer.items()}

    answers = await together(map(one, work))
    return await asyncio.to_thread(family.candidates, grid.shape, answers)


def _place(grid: WorkingGrid, candidate: Candidate) -> Triple:
    z, y, x = grid.to_full(candidate.place)
    return float(z), float(y), float(x)


def _near_lung(candidate: Candidate, grid: WorkingGrid) -> bool:
    limit = max(_NEAR_LUNG_MM, _NEAR_LUNG_SHARE * candidate.diameter_mm)
    away = []
    box = []
    for at, mm, size in zip(candidate.place, grid.mm, grid.shape, strict=True):
        low = min(max(0, int(np.floor(at - limit / mm))), size - 1)
        high = max(low + 1, min(size, int(np.ceil(at + limit / mm)) + 1))
        box.append(slice(low, high))
        away.append(((np.arange(low, high) - at) * mm) ** 2)
    lung = grid.sides[tuple(box)] > 0
    distance = away[0][:, None, None] + away[1][:, None] + away[2]
    # A voxel is a box: its centre may lie half an edge farther than the lung in it.
    return bool((distance[lung] <= (limit + 0.5 * max(grid.mm)) ** 2).any())


def _best(judged: Sequence[Judged], spacing: Triple, limits: Limits) -> list[Judged]:
    """Return the candidates worth outlining, best first, one a place."""
    by_candidate = {one.candidate: one for one in judged if one.candidate.score >= limits.score}
    return [
        by_candidate[candidate]
        for candidate in one_each(list(by_candidate), spacing, 2 * limits.nodules)
    ]


def _chosen(findings: Sequence[Finding], spacing: Triple, limits: Limits) -> list[Finding]:
    """Return one finding a nodule: two candidates may have grown into one region."""
    large = [one for one in findings if one.whole.mean_mm >= limits.diameter_mm]
    by_place = {Candidate(one.centre, one.whole.mean_mm, one.score): one for one in large}
    return [
        by_place[candidate]
        for candidate in one_each(in_order(list(by_place)), spacing, limits.nodules)
    ]
