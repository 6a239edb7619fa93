"""The first detector, fixed weights and rules, until the trained one takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection import detect, kind, measure, score, segment
from lungmesh.detection.family import Hu, Triple
from lungmesh.detection.finding import Finding, Size
from lungmesh.detection.measure import Border, measure_axes, measure_density, measure_volume
from lungmesh.detection.network import connected
from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.working import working_grids
from lungmesh.v1 import nodule_pb2

NETWORK = "nodule_blobs"
RULES = (
    (segment.NAME, segment.VERSION),
    (score.NAME, score.VERSION),
    (measure.NAME, measure.VERSION),
    (kind.NAME, kind.VERSION),
)
_GROUND_GLASS_HU = -600.0
_WHOLLY_SOLID = (
    nodule_pb2.NODULE_TYPE_SOLID,
    nodule_pb2.NODULE_TYPE_CALCIFIED,
    nodule_pb2.NODULE_TYPE_FAT_CONTAINING,
)


async def find(
    settings: DetectionSettings,
    hu: Hu,
    lobes: npt.NDArray[np.uint8],
    spacing: Triple,
    progress: Callable[[float, str], None],
) -> list[Finding]:
    """Return the findings of a CT, in falling order of score."""
    async with connected(
        settings.triton, settings.network, settings.network_version, settings.request_seconds
    ) as network:
        plan = await network.plan()
        grids = await asyncio.to_thread(working_grids, hu, lobes > 0, spacing, plan.grid_mm)
        responses = await network.respond(
            plan,
            grids,
            settings.in_flight,
            lambda share: progress(0.1 + 0.4 * share, "looking for candidates"),
        )
    findings = await asyncio.to_thread(
        detect.find_nodules,
        hu,
        lobes,
        spacing,
        responses,
        settings.solid_above_hu,
        settings.least_score,
        settings.most_nodules,
        lambda share: progress(0.5 + 0.45 * share, "measuring candidates"),
    )
    return [measured(one, spacing, settings.solid_above_hu) for one in findings]


def measured(found: detect.Finding, spacing: Triple, solid_above_hu: float) -> Finding:
    """Measure a finding."""
    region = found.region
    start = [side.start for side in region.box]
    inner = ndimage.find_objects(region.mask.view(np.uint8))[0]
    labels = region.mask[inner].astype(np.uint8)
    labels[found.solid[inner]] = 2
    z, y, x = (at + side.start for at, side in zip(start, inner, strict=True))
    centre = np.argwhere(region.mask).mean(axis=0) + start
    whole = _size(region.mask, region.border, start, spacing)
    solid = whole if found.type in _WHOLLY_SOLID else None
    if found.solid.any():
        border = Border(kind.smoothed(region.hu, spacing), solid_above_hu, _GROUND_GLASS_HU)
        solid = _size(found.solid, border, start, spacing)
    return Finding(
        score=found.score,
        type=found.type,
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        slice_index=int(whole.long_ends[0][0]),
        labels=labels,
        start=(z, y, x),
        whole=whole,
        solid=solid,
        density=measure_density(region.mask, region.hu),
        sphericity=measure.sphericity(region.mask, region.border, spacing),
    )


def _size(mask: npt.NDArray[np.bool_], border: Border, start: list[int], spacing: Triple) -> Size:
    axes = measure_axes(mask, border, spacing)

    def moved(ends: tuple[Triple, Triple]) -> tuple[Triple, Triple]:
        (a, b, c), (d, e, f) = ends
        z, y, x = start
        return (a + z, b + y, c + x), (d + z, e + y, f + x)

    return Size(
        long_mm=axes.long_mm,
        short_mm=axes.short_mm,
        long_ends=moved(axes.long_ends),
        short_ends=moved(axes.short_ends),
        volume_mm3=measure_volume(mask, border, spacing),
    )
