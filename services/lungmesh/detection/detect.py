"""From the network's responses to measured findings, in falling order of score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.detection import kind
from lungmesh.detection.candidates import Response, Window, find_candidates
from lungmesh.detection.measure import measure_axes
from lungmesh.detection.score import describe, score
from lungmesh.detection.segment import Segmentation, segment
from lungmesh.detection.working import Hu, lung_background
from lungmesh.v1 import nodule_pb2

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]
Box = tuple[slice, slice, slice]

# Candidates that are segmented, of each working grid from fine to coarse.
_MOST = {Window.SOLID: (30, 16, 8), Window.GROUND_GLASS: (24, 16, 8)}
# Smaller ones are not reported: no guideline acts on them, and vessels look the same.
_LEAST_SOLID_MM, _LEAST_SUBSOLID_MM = 4.0, 6.0
# Two regions are one nodule when they share this much of the smaller.
_SAME_SHARE = 0.3
# Ground glass around a solid core makes one part-solid nodule where it reaches this far beyond the
# core's blurred edge and fills this share of the whole.
_HALO_MM, _HALO_SHARE = 2.5, 0.5


@dataclass(frozen=True)
class Finding:
    """A nodule, on the full grid's indices.

    Attributes
    ----------
    region
        Its segmentation.
    solid
        The solid part of a subsolid nodule, in the region's box; empty for other types.
    type
        As the proto numbers it.
    score
        Detection score, 0 … 1.
    """

    region: Segmentation
    solid: Mask
    type: nodule_pb2.NoduleType.ValueType
    score: float


def find_nodules(
    hu: Hu,
    lobes: Labels,
    spacing: Triple,
    responses: Sequence[Response],
    solid_above_hu: float,
    least_score: float,
    most: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> list[Finding]:
    """Return at most `most` findings of at least a score, in falling order of score.

    Parameters
    ----------
    hu
        int16 [z, y, x].
    lobes
        uint8 [z, y, x], 0 outside the lungs.
    spacing
        mm along [z, y, x].
    responses
        The network's answers, from the finest working grid to the coarsest.
    solid_above_hu
        Where the solid part begins.
    progress
        Called with the fraction of candidates done.
    """
    lungs = lobes > 0
    background = lung_background(hu, lungs)
    candidates = [
        candidate
        for level, response in enumerate(responses)
        for window in Window
        for candidate in find_candidates(
            response, window, spacing, background, _MOST[window][level]
        )
    ]
    scored = []
    for done, candidate in enumerate(candidates, start=1):
        region = segment(hu, lungs, spacing, candidate, background)
        if region is not None:
            scored.append((score(describe(region, spacing), candidate.window), region))
        progress(done / len(candidates))
    chosen = _one_each(scored, spacing)
    findings: list[Finding] = []
    for value, region in chosen:
        if len(findings) == most or value < least_score:
            break
        solid = kind.solid_part(region.hu, region.mask, spacing, solid_above_hu)
        type_ = kind.classify(region.hu, region.mask, solid, spacing, solid_above_hu)
        if type_ != nodule_pb2.NODULE_TYPE_PART_SOLID:
            solid = np.zeros_like(solid)
        if _worth_reporting(region, type_, spacing):
            findings.append(Finding(region, solid, type_, value))
    return findings


def _worth_reporting(
    region: Segmentation, type_: nodule_pb2.NoduleType.ValueType, spacing: Triple
) -> bool:
    subsolid = type_ in (nodule_pb2.NODULE_TYPE_PART_SOLID, nodule_pb2.NODULE_TYPE_NON_SOLID)
    if region.candidate.window is Window.GROUND_GLASS and not subsolid:
        # Solid inside, yet no ball in the solid window: a vessel.
        return False
    diameter = measure_axes(region.mask, region.border, spacing).mean_mm
    return diameter >= (_LEAST_SUBSOLID_MM if subsolid else _LEAST_SOLID_MM)


def _one_each(
    scored: Sequence[tuple[float, Segmentation]], spacing: Triple
) -> list[tuple[float, Segmentation]]:
    """Return one region a nodule, in falling order of score."""
    order = sorted(scored, key=lambda item: (-item[0], item[1].candidate.place))
    kept: list[tuple[float, Segmentation]] = []
    for value, region in order:
        same = [index for index, (_, other) in enumerate(kept) if _overlap(region, other)]
        if not same:
            kept.append((value, region))
            continue
        first = same[0]
        before, other = kept[first]
        if other.candidate.window is not region.candidate.window:
            # Both windows show it: ground glass with a core, or a solid nodule's blurred edge.
            solid, glass = (
                (region, other) if region.candidate.window is Window.SOLID else (other, region)
            )
            wide = _has_halo(solid, glass, spacing)
            kept[first] = (max(before, value), glass if wide else solid)
    kept.sort(key=lambda item: (-item[0], item[1].candidate.place))
    return kept


def _overlap(one: Segmentation, other: Segmentation) -> bool:
    common = _common(one, other)
    if common is None:
        return False
    shared = int((one.mask[common[0]] & other.mask[common[1]]).sum())
    return shared > _SAME_SHARE * min(int(one.mask.sum()), int(other.mask.sum()))


def _has_halo(solid: Segmentation, glass: Segmentation, spacing: Triple) -> bool:
    """Return whether the ground-glass region is more than the solid one's blurred edge."""
    common = _common(solid, glass)
    if common is None:
        return False
    core = np.zeros_like(glass.mask)
    core[common[1]] = solid.mask[common[0]]
    if not core.any():
        return False
    beyond = ndimage.distance_transform_edt(~core, sampling=spacing) > _HALO_MM
    return bool((glass.mask & beyond).sum() > _HALO_SHARE * glass.mask.sum())


def _common(one: Segmentation, other: Segmentation) -> tuple[Box, Box] | None:
    """Return the two regions' common box, in the index of each."""
    first, second = [], []
    for a, b in zip(one.box, other.box, strict=True):
        low, high = max(a.start, b.start), min(a.stop, b.stop)
        if low >= high:
            return None
        first.append(slice(low - a.start, high - a.start))
        second.append(slice(low - b.start, high - b.start))
    return (first[0], first[1], first[2]), (second[0], second[1], second[2])
