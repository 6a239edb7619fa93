"""The reducer network: is a candidate a nodule, and of which kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from lungmesh.detection.crops import crop
from lungmesh.detection.family import Candidate, Hu, Triple
from lungmesh.detection.triton import Network, Triton, together

# The cube that the network takes: voxels, and their edge in mm.
SIZE, MM = 40, 0.8


@dataclass(frozen=True)
class Judged:
    """A candidate after the reducer.

    Attributes
    ----------
    candidate
        With the detection score: the root of detector's times reducer's probability, calibrated
        where the reducer's card says how.
    kinds
        Probabilities of solid, part-solid, non-solid, calcified.
    """

    candidate: Candidate
    kinds: tuple[float, ...]


async def judge(
    triton: Triton,
    network: Network,
    hu: Hu,
    spacing: Triple,
    candidates: Sequence[Candidate],
    progress: Callable[[float], None] = lambda share: None,
) -> list[Judged]:
    """Return the candidates, in their order, with the reducer's word on each.

    Parameters
    ----------
    hu
        int16 [z, y, x], the CT.
    spacing
        mm along [z, y, x] of the CT; the candidates' places are indices on it.
    progress
        Called with the fraction of candidates done.
    """
    done = 0

    async def some(part: Sequence[Candidate]) -> list[Judged]:
        nonlocal done
        cubes = await asyncio.to_thread(
            lambda: np.stack([crop(hu, spacing, one.place, MM, SIZE) for one in part])
        )
        answer = await triton.infer(network, {"hu": cubes}, ("nodule", "kind"))
        done += len(part)
        progress(done / len(candidates))
        return [
            _judged(network, one, float(nodule[0]), kinds.astype(float).tolist())
            for one, nodule, kinds in zip(part, answer["nodule"], answer["kind"], strict=True)
        ]

    step = max(1, network.batch)
    parts = [candidates[at : at + step] for at in range(0, len(candidates), step)]
    return [one for part in await together(map(some, parts)) for one in part]


def _judged(
    network: Network, candidate: Candidate, nodule: float, kinds: Sequence[float]
) -> Judged:
    score = sqrt(candidate.score * min(max(nodule, 0.0), 1.0))
    calibration = network.parameters.get("calibration")
    if calibration:
        score = float(np.interp(score, calibration["raw"], calibration["calibrated"]))
    return Judged(replace(candidate, score=round(score, 6)), tuple(kinds))
