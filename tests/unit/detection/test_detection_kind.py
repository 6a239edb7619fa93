"""A nodule's type from the reducer's word, the segmenter's solid share and the HU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.detection.kind import classify
from lungmesh.v1 import nodule_pb2

SOLID = nodule_pb2.NODULE_TYPE_SOLID
PART = nodule_pb2.NODULE_TYPE_PART_SOLID
GLASS = nodule_pb2.NODULE_TYPE_NON_SOLID
CALCIFIED = nodule_pb2.NODULE_TYPE_CALCIFIED
FAT = nodule_pb2.NODULE_TYPE_FAT_CONTAINING

UNSURE = (0.3, 0.3, 0.3, 0.1)
_Z, _Y, _X = np.mgrid[-8:9, -8:9, -8:9]
BALL = np.sqrt(_Z**2 + _Y**2 + _X**2) <= 6


def _type(
    probabilities: tuple[float, ...], share: float, core: bool = True, level: float = 30.0
) -> int:
    hu = np.where(BALL, level, -850).astype(np.float32)
    return classify(probabilities, share, core, hu, BALL, (0.7, 0.7, 0.7))


@pytest.mark.parametrize(
    ("probabilities", "share", "expected"),
    [
        (UNSURE, 0.97, SOLID),
        (UNSURE, 0.30, PART),
        (UNSURE, 0.02, GLASS),
        # A share between two types is decided by the reducer.
        ((0.05, 0.10, 0.85, 0.0), 0.10, GLASS),
        ((0.05, 0.85, 0.10, 0.0), 0.10, PART),
        ((0.60, 0.30, 0.10, 0.0), 0.75, SOLID),
        ((0.10, 0.80, 0.10, 0.0), 0.75, PART),
    ],
)
def test_share_and_reducer_together_name_the_type(
    probabilities: tuple[float, ...], share: float, expected: int
) -> None:
    assert _type(probabilities, share) == expected


@given(
    parts=st.tuples(*[st.floats(0.01, 1.0)] * 4),
    share=st.floats(0.0, 1.0),
)
def test_without_a_measurable_core_nothing_is_part_solid(
    parts: tuple[float, ...], share: float
) -> None:
    probabilities = tuple(part / sum(parts) for part in parts)
    assert _type(probabilities, share, core=False) != PART


@given(low=st.floats(0.0, 1.0), high=st.floats(0.0, 1.0))
def test_a_larger_solid_share_never_makes_it_less_solid(low: float, high: float) -> None:
    order: list[int] = [GLASS, PART, SOLID]
    low, high = sorted((low, high))
    assert order.index(_type(UNSURE, low)) <= order.index(_type(UNSURE, high))


def test_calcium_is_read_from_the_hu_of_solid_nodules_alone() -> None:
    assert _type((0.4, 0.0, 0.0, 0.6), 0.97, level=500) == CALCIFIED
    assert _type((0.9, 0.0, 0.1, 0.0), 0.97, level=500) == CALCIFIED
    assert _type((0.1, 0.0, 0.9, 0.0), 0.01, level=500) == GLASS


def test_even_fat_in_a_large_solid_nodule_is_named() -> None:
    assert _type((0.9, 0.05, 0.05, 0.0), 0.97, level=-80) == FAT
