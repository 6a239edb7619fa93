"""The segmenter network: how much of each small voxel is nodule, and solid part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lungmesh.detection.crops import crop
from lungmesh.detection.family import Candidate, Hu, Triple
from lungmesh.detection.reducer import Judged
from lungmesh.detection.region import Region, isolate
from lungmesh.detection.triton import Network, Triton, together

# The cube that the network takes, voxels; its edge is this many diameters, its voxels no smaller.
SIZE = 64
_EDGE_DIAMETERS, _LEAST_MM = 2.5, 0.5
# A region that much larger or smaller than its cube was made for is segmented once more.
_OFF_BY = 1.4


def voxel_mm(diameter_mm: float) -> float:
    """Return the edge of a cube's voxels, mm."""
    return max(_LEAST_MM, _EDGE_DIAMETERS * diameter_mm / SIZE)


async def outline(
    triton: Triton,
    network: Network,
    hu: Hu,
    spacing: Triple,
    judged: Sequence[Judged],
    progress: Callable[[float], None] = lambda share: None,
) -> list[Region | None]:
    """Return the region of each candidate; None where the network outlines nothing.

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

    async def one(candidate: Candidate) -> Region | None:
        nonlocal done
        region = await _segment(triton, network, hu, spacing, candidate)
        if region is not None:
            ratio = region.diameter_mm / candidate.diameter_mm
            if not 1 / _OFF_BY <= ratio <= _OFF_BY:
                again = replace(
                    candidate, place=region.centre(spacing), diameter_mm=region.diameter_mm
                )
                region = await _segment(triton, network, hu, spacing, again) or region
        done += 1
        progress(done / len(judged))
        return region

    return await together(one(item.candidate) for item in judged)


async def _segment(
    triton: Triton, network: Network, hu: Hu, spacing: Triple, candidate: Candidate
) -> Region | None:
    mm = voxel_mm(candidate.diameter_mm)
    cube = await asyncio.to_thread(crop, hu, spacing, candidate.place, mm, SIZE)
    answer = await triton.infer(network, {"hu": cube[None]}, ("share",))
    total, solid = answer["share"][0].astype(np.float32)
    return await asyncio.to_thread(isolate, cube, total, solid, mm, candidate)
