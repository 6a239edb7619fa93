"""Which nodule is which: one-to-one pairs of nodules of two exams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from lungmesh.followup.registration import Exam, Registration

RULES = ("nodule-matching", "1")
# The error of a registration of the lungs' surfaces, deep inside them, mm.
_GATE_MM = 10.0
# Without a registration only the place in the lung, as a share of its box, is known.
_UNREGISTERED_GATE_MM = 25.0
# A nodule grows from its edge: a larger one may lie farther off by this share of its diameter.
_SIZE_SHARE = 0.25
# Nobody's nodule becomes this many times larger or smaller between two exams.
_SIZE_RATIO = 4.0
_FORBIDDEN = 1e6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """A nodule as matching sees it.

    Attributes
    ----------
    center
        LPS of its own exam, mm.
    lobe
        Number of the Lobe.
    """

    nodule_id: str
    center: tuple[float, float, float]
    mean_diameter_mm: float
    lobe: int


@dataclass(frozen=True)
class Pair:
    """The same nodule in two exams; `distance_mm` lies between the laid-over centres."""

    earlier_id: str
    current_id: str
    distance_mm: float


def to_current(
    centers: npt.ArrayLike, earlier: Exam, current: Exam, registration: Registration | None
) -> Floats:
    """Return places of the earlier exam (n, 3) in the current one's LPS, mm.

    Without a registration a place keeps its share of the box around both lungs.
    """
    places = np.asarray(centers, float).reshape(-1, 3)
    if registration is not None:
        return registration.to_current(places)
    (low_e, high_e), (low_c, high_c) = _lung_box(earlier), _lung_box(current)
    return low_c + (places - low_e) * (high_c - low_c) / (high_e - low_e)


def match(
    earlier: Sequence[Found], moved: Floats, current: Sequence[Found], registered: bool
) -> list[Pair]:
    """Return the pairs with the smallest summed distance, in order of the current nodules.

    Parameters
    ----------
    moved
        Centres of `earlier` in the current exam's LPS, mm, (n, 3).
    registered
        False where the exams were not laid over each other: the gate is wider, and both nodules
        must lie in one lobe.
    """
    if not earlier or not current:
        return []
    cost = np.full((len(earlier), len(current)), _FORBIDDEN)
    for i, then in enumerate(earlier):
        for j, now in enumerate(current):
            distance = float(np.linalg.norm(moved[i] - np.asarray(now.center)))
            if _may_be_same(then, now, distance, registered):
                cost[i, j] = distance
    rows, columns = linear_sum_assignment(cost)
    pairs = [
        Pair(earlier[i].nodule_id, current[j].nodule_id, round(float(cost[i, j]), 2))
        for i, j in sorted(zip(rows, columns, strict=True), key=lambda pair: int(pair[1]))
        if cost[i, j] < _FORBIDDEN
    ]
    return pairs


def inside_view(place: Floats, exam: Exam) -> bool:
    """Return whether a place (LPS, mm) lies in the exam's field of view."""
    index = exam.grid.to_index(place)
    return bool(np.all(index >= -0.5) and np.all(index <= np.asarray(exam.grid.size) - 0.5))


def _may_be_same(then: Found, now: Found, distance: float, registered: bool) -> bool:
    larger = max(then.mean_diameter_mm, now.mean_diameter_mm)
    smaller = min(then.mean_diameter_mm, now.mean_diameter_mm)
    gate = (_GATE_MM if registered else _UNREGISTERED_GATE_MM) + _SIZE_SHARE * larger
    return (
        distance <= gate
        and larger <= _SIZE_RATIO * smaller
        and (registered or then.lobe == now.lobe)
    )


def _lung_box(exam: Exam) -> tuple[Floats, Floats]:
    z, y, x = np.nonzero(exam.lobes)
    corners = np.stack([x, y, z], axis=-1)
    # The box in index space suffices: axes of CT grids run along the body.
    ends = exam.grid.to_lps(np.stack([corners.min(axis=0), corners.max(axis=0)]))
    return ends.min(axis=0), ends.max(axis=0)
