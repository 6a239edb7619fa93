"""From slice headers to one grid: where each slice lies, from its position and orientation only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from lungmesh.mesh.geometry import Grid
from lungmesh.preprocess.findings import Finding, Severity, refuse_if_any

Floats = npt.NDArray[np.float64]

# Slices nearer than this lie at the same place, mm: positions are written to about 0.001 mm, and
# no CT reconstructs at less than 0.1 mm.
_SAME_PLACE_MM = 0.02
# Spacing may vary by 1 % (CLINICAL section 10); a slice further than a quarter of the spacing off
# its place on an even grid would be read at a wrong position.
_EVEN_FRACTION = 0.01
_MAX_OFF_FRACTION = 0.25
# Slices may be missing where their neighbours are near enough to interpolate between.
_MAX_GAP_MM = 6.0
_MAX_MISSING_FRACTION = 0.05
# Positions that run askew to the slice normal by more than this are a tilted gantry.
_MAX_TILT_DEGREES = 0.5
_SAME_DIRECTION = 1e-3


@dataclass(frozen=True)
class Stack:
    """The slices of a series on one grid.

    Attributes
    ----------
    grid
        Rows and columns as stored; z ascends along the slice normal (row x column direction).
    at
        For each z the indices of the headers that lie there: none where a slice is missing, more
        than one where it is repeated.
    """

    grid: Grid
    at: tuple[tuple[int, ...], ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """The z without a slice."""
        return tuple(z for z, here in enumerate(self.at) if not here)


def stack_slices(headers: Sequence[Dataset]) -> tuple[Stack, list[Finding]]:
    """Put slices on a grid (PS3.3 C.7.6.2.1.1), whatever their order and numbers.

    Parameters
    ----------
    headers
        At least two slices with ImagePositionPatient, ImageOrientationPatient and PixelSpacing.

    Returns the stack and what is to be noted or warned of.

    Raises BadInput (mixed_geometry, orientation, gantry_tilt, uneven_spacing, missing_slices).
    """
    refuse_if_any(_not_alike(headers))
    axes = np.array([header.ImageOrientationPatient for header in headers], float).mean(axis=0)
    row, column = axes[:3] / np.linalg.norm(axes[:3]), axes[3:] / np.linalg.norm(axes[3:])
    normal = np.cross(row, column)
    positions = np.array([header.ImagePositionPatient for header in headers], float)
    heights = positions @ normal
    order = sorted(range(len(headers)), key=lambda i: (heights[i], str(headers[i].SOPInstanceUID)))
    places = _places(heights, order)
    centres = np.array([heights[list(place)].mean() for place in places])
    if len(centres) < 2:
        refuse_if_any([_uneven(1.0, refuse=True)])
    indices, spacing, findings = _even_grid(centres)
    findings += _tilt(positions, heights, order, normal)
    findings += _repeated(places)
    refuse_if_any(findings)
    at: list[tuple[int, ...]] = [()] * (int(indices[-1]) + 1)
    for index, place in zip(indices, places, strict=True):
        at[int(index)] = place
    first = headers[places[0][0]]
    grid = Grid(
        size=(int(first.Columns), int(first.Rows), len(at)),
        spacing=(float(first.PixelSpacing[1]), float(first.PixelSpacing[0]), spacing),
        origin=_triple(positions[places[0][0]]),
        direction=tuple(_triple(line) for line in np.stack([row, column, normal], axis=1)),
    )
    return Stack(grid, tuple(at)), findings


def _not_alike(headers: Sequence[Dataset]) -> Iterator[Finding]:
    first = headers[0]
    axes = np.asarray(first.ImageOrientationPatient, float)
    if abs(axes[:3] @ axes[3:]) > _SAME_DIRECTION:
        yield Finding(
            "orientation",
            Severity.REFUSE,
            "Rows and columns of the slices are not at right angles: send the original series.",
            "图像行与列方向不垂直：请发送原始序列。",
        )
    for keyword, name_en, name_zh in (
        ("Rows", "row count", "行数"),
        ("Columns", "column count", "列数"),
        ("PixelSpacing", "pixel spacing", "像素间距"),
        ("ImageOrientationPatient", "orientation", "方向"),
        ("FrameOfReferenceUID", "frame of reference", "参考坐标系"),
    ):
        if not all(_equal(header.get(keyword), first.get(keyword)) for header in headers):
            yield Finding(
                "mixed_geometry",
                Severity.REFUSE,
                f"The slices of the series differ in {name_en}: send each scan as its own series.",
                f"同一序列内各层{name_zh}不一致：请按扫描分序列发送。",
            )


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(one, str | int):
        return bool(one == other)
    return bool(np.allclose(np.asarray(one, float), np.asarray(other, float), atol=_SAME_DIRECTION))


def _places(heights: Floats, order: Sequence[int]) -> list[tuple[int, ...]]:
    """Group slices, in order of height, that lie at the same place."""
    places: list[list[int]] = []
    for i in order:
        if places and heights[i] - heights[places[-1][0]] < _SAME_PLACE_MM:
            places[-1].append(i)
        else:
            places.append([i])
    return [tuple(place) for place in places]


def _even_grid(centres: Floats) -> tuple[npt.NDArray[np.int64], float, list[Finding]]:
    """Return each place's index on an even grid, its spacing in mm, and what is wrong."""
    steps = np.diff(centres)
    # The lower quartile is one step even where many slices are missing.
    step = float(np.quantile(steps, 0.25, method="lower"))
    counts = np.maximum(1, np.rint(steps / step)).astype(np.int64)
    indices = np.concatenate([[0], np.cumsum(counts)])
    spacing = float((centres[-1] - centres[0]) / indices[-1])
    findings: list[Finding] = []
    off = np.abs(centres - (centres[0] + indices * spacing)).max() / spacing
    uneven = np.abs(steps / counts / spacing - 1).max()
    if uneven > _EVEN_FRACTION:
        findings.append(_uneven(float(uneven), refuse=bool(off > _MAX_OFF_FRACTION)))
    missing = int(counts.sum() - len(counts))
    if missing:
        gap = float(counts.max() * spacing)
        bad = gap > _MAX_GAP_MM or missing > _MAX_MISSING_FRACTION * (indices[-1] + 1)
        findings.append(_missing(missing, gap, refuse=bad))
    return indices, spacing, findings


def _uneven(fraction: float, refuse: bool) -> Finding:
    return Finding(
        "uneven_spacing",
        Severity.REFUSE if refuse else Severity.WARN,
        f"The distance between slices varies by {fraction:.0%}, more than 1 %"
        + (": send one evenly spaced series." if refuse else "."),
        f"层间距变化 {fraction:.0%}，超过 1 %" + ("：请发送等间距序列。" if refuse else "。"),
    )


def _missing(count: int, gap_mm: float, refuse: bool) -> Finding:
    return Finding(
        "missing_slices",
        Severity.REFUSE if refuse else Severity.WARN,
        f"{count} slice(s) are missing; the widest gap is {gap_mm:.1f} mm"
        + (": send the series again, whole." if refuse else " and was interpolated."),
        f"缺失 {count} 层，最大间隙 {gap_mm:.1f} mm"
        + ("：请重新发送完整序列。" if refuse else "，已插值补齐。"),
    )


def _repeated(places: Sequence[tuple[int, ...]]) -> list[Finding]:
    count = sum(len(place) - 1 for place in places)
    if not count:
        return []
    return [
        Finding(
            "duplicate_slices",
            Severity.NOTE,
            f"{count} slice(s) came twice with the same pixels; one of each was used.",
            f"{count} 层重复且像素相同，仅使用其一。",
        )
    ]


def _tilt(
    positions: Floats, heights: Floats, order: Sequence[int], normal: Floats
) -> list[Finding]:
    """Find a sheared stack: positions that move sideways as they go up (a tilted gantry)."""
    rise = heights[order[-1]] - heights[order[0]]
    way = positions[order[-1]] - positions[order[0]]
    sideways = way - rise * normal
    degrees = float(np.degrees(np.arctan2(np.linalg.norm(sideways), rise)))
    line = positions[order[0]] + np.outer((heights - heights[order[0]]) / rise, way)
    strays = float(np.linalg.norm(positions - line, axis=1).max())
    if degrees > _MAX_TILT_DEGREES:
        return [
            Finding(
                "gantry_tilt",
                Severity.REFUSE,
                f"The slices are sheared by a gantry tilt of {degrees:.1f} degrees: "
                "send a series reconstructed without tilt.",
                f"机架倾斜 {degrees:.1f} 度，图像错切：请发送无倾斜重建的序列。",
            )
        ]
    if strays > 1.0:
        return [
            Finding(
                "mixed_geometry",
                Severity.REFUSE,
                f"A slice lies {strays:.1f} mm beside the others: "
                "send each scan as its own series.",
                f"有层面偏离其余层面 {strays:.1f} mm：请按扫描分序列发送。",
            )
        ]
    return []


def _triple(values: Floats) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
