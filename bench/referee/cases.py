"""Scans with a known truth, and the same scans moved or cut with their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bench.referee.scoring import Mark, Point, Truth
from models.training.simulation.degrade import Degraded

Hu = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Share = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Finding:
    """A nodule of the truth.

    Attributes
    ----------
    center_zyx
        Centre of mass, index coordinates of the scan.
    diameter_mm
        Of the ball of the same volume.
    kind
        solid, part_solid, ground_glass or calcified.
    box
        Slices of [z, y, x] in the scan.
    total, solid
        float32 [z, y, x] of the box, 0 to 1: how much of each voxel is nodule, and solid part.
    """

    center_zyx: Triple
    diameter_mm: float
    kind: str
    box: Box
    total: Share
    solid: Share


class SimulatedNodule(Protocol):
    """What the simulator says of a nodule that it put in (`models.training.simulation.plant`)."""

    @property
    def center_zyx(self) -> Triple: ...
    @property
    def diameter_mm(self) -> float: ...
    @property
    def kind(self) -> str: ...
    @property
    def box(self) -> Box: ...
    @property
    def total(self) -> Share: ...
    @property
    def solid(self) -> Share: ...


@dataclass(frozen=True)
class Case:
    """A scan and what is in it.

    Attributes
    ----------
    name
        Unique among the cases of a run.
    simulated
        Whether its nodules were put in by the simulator.
    hu, lungs
        int16 and bool [z, y, x]: z from feet to head, y to posterior, x to the patient's left.
    spacing
        mm along [z, y, x].
    slice_mm
        Thickness of its slices.
    findings
        What counts.
    ignore
        bool [z, y, x]: a mark here that hits nothing is no false positive.
    """

    name: str
    simulated: bool
    hu: Hu
    lungs: Mask
    spacing: Triple
    slice_mm: float
    findings: tuple[Finding, ...]
    ignore: Mask

    def place_mm(self, index: Triple) -> Point:
        """Return mm along [z, y, x] from the centre of the first voxel."""
        z, y, x = (at * mm for at, mm in zip(index, self.spacing, strict=True))
        return z, y, x

    def truths(self) -> list[Truth]:
        """Return the findings as the scoring takes them, in order."""
        return [Truth(self.place_mm(f.center_zyx), f.diameter_mm, f.kind) for f in self.findings]

    def mark(self, index: Triple, score: float) -> Mark:
        """Return a mark at an index of the scan."""
        nearest = tuple(
            min(max(0, round(at)), n - 1) for at, n in zip(index, self.hu.shape, strict=True)
        )
        return Mark(self.place_mm(index), score, bool(self.ignore[nearest]))


def finding_of(nodule: SimulatedNodule) -> Finding:
    """Return a simulated nodule as a finding."""
    return Finding(
        nodule.center_zyx, nodule.diameter_mm, nodule.kind, nodule.box, nodule.total, nodule.solid
    )


def sides(lungs: Mask) -> npt.NDArray[np.uint8]:
    """Return a lung mask as lobe labels: 1 (right upper) in the right lung, 4 (left upper) left.

    The lungs' largest pieces are sorted by their middle; one piece that holds both is cut in the
    middle of the lungs' box. Lobes are not told apart: no figure here depends on them.
    """
    box = ndimage.find_objects(lungs.view(np.uint8))[0]
    middle = (box[2].start + box[2].stop) / 2
    pieces, count = ndimage.label(lungs)
    numbers = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(lungs, pieces, numbers)
    middles = np.array([at[2] for at in ndimage.center_of_mass(lungs, pieces, numbers)])
    labels = np.zeros(count + 1, np.uint8)
    labels[1:] = np.where(middles < middle, 1, 4)
    out: npt.NDArray[np.uint8] = labels[pieces]
    if sizes.max() > 0.8 * sizes.sum():
        x = np.arange(lungs.shape[2])
        out = np.where(lungs, np.where(x < middle, 1, 4), 0).astype(np.uint8)
    return out


def moved(case: Case, change: Degraded, slice_mm: float) -> Case:
    """Return the case as a changed scan, its truth moved along.

    Parameters
    ----------
    change
        The scan after it was cut, flipped or averaged, and how its indices follow from the old.
    slice_mm
        Thickness of its slices.

    Findings whose centre leaves the scan are no longer in the truth.
    """
    weights = [
        _overlap(old, new, scale, offset)
        for old, new, scale, offset in zip(
            case.hu.shape, change.hu.shape, change.scale, change.offset, strict=True
        )
    ]
    findings = []
    for finding in case.findings:
        box = _box(finding.box, change)
        if box is None or not change.holds(finding.center_zyx):
            continue
        z, y, x = change.index(finding.center_zyx).tolist()
        total, solid = (
            _averaged(share, finding.box, box, weights) for share in (finding.total, finding.solid)
        )
        findings.append(replace(finding, center_zyx=(z, y, x), box=box, total=total, solid=solid))
    return replace(
        case,
        hu=change.hu,
        lungs=change.moved(case.lungs),
        ignore=change.moved(case.ignore),
        spacing=change.spacing,
        slice_mm=slice_mm,
        findings=tuple(findings),
    )


def _overlap(old: int, new: int, scale: float, offset: float) -> Floats:
    """Return (new, old): the share of each new voxel that each old one covers."""
    edges = np.sort((np.arange(old)[:, None] + [-0.5, 0.5]) * scale + offset, axis=1)
    low = np.arange(new)[:, None] - 0.5
    covered: Floats = np.minimum(low + 1, edges[None, :, 1]) - np.maximum(low, edges[None, :, 0])
    return np.clip(covered, 0, None)


def _box(box: Box, change: Degraded) -> Box | None:
    """Return the box of every new voxel that an old box reaches; None when it left the scan."""
    ends = change.index([[s.start - 0.5 for s in box], [s.stop - 0.5 for s in box]])
    low = np.maximum(0, np.floor(ends.min(axis=0) + 0.5).astype(int))
    high = np.minimum(change.hu.shape, np.ceil(ends.max(axis=0) + 0.5).astype(int))
    if (low >= high).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def _averaged(share: Share, old: Box, new: Box, weights: Sequence[Floats]) -> Share:
    z, y, x = (w[to, come] for w, to, come in zip(weights, new, old, strict=True))
    out: Share = np.einsum("az,by,cx,zyx->abc", z, y, x, share, optimize=True).astype(np.float32)
    return out
