"""Regions of known balls: isolated, brought onto the CT's grid, measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.detection.describe import describe
from lungmesh.detection.family import Candidate
from lungmesh.detection.finding import Finding
from lungmesh.detection.reducer import Judged
from lungmesh.detection.region import Region, isolate, on_grid
from lungmesh.detection.segmenter import SIZE, voxel_mm
from lungmesh.v1 import nodule_pb2

Field = npt.NDArray[np.float32]
Triple = tuple[float, float, float]
SHAPE = (60, 120, 120)
PLACE: Triple = (30.2, 60.4, 59.7)
SOLID, PART, GLASS, CALCIFIED = np.eye(4).tolist()


def ball(diameter: float, mm: float, at: Triple = (0, 0, 0)) -> Field:
    """Return how much of each voxel of the cube a ball fills; `at` in mm from the middle."""
    fine = 4
    steps = (np.arange(SIZE * fine) + 0.5) / fine - SIZE / 2
    z, y, x = ((steps * mm - place) ** 2 for place in at)
    inside = z[:, None, None] + y[:, None] + x <= (diameter / 2) ** 2
    share: Field = inside.reshape([SIZE, fine] * 3).mean(axis=(1, 3, 5)).astype(np.float32)
    return share


def isolated(
    diameter: float, total: Field | None = None, solid: Field | None = None, hu: float = 40.0
) -> Region:
    mm = voxel_mm(diameter)
    total = ball(diameter, mm) if total is None else total
    cube = np.rint(-860 + total * (hu + 860)).astype(np.int16)
    region = isolate(
        cube, total, total if solid is None else solid, mm, Candidate(PLACE, diameter, 0.8)
    )
    assert region is not None
    return region


def described(
    region: Region, spacing: Triple, kinds: Sequence[float] = tuple(SOLID), hu: float = 40.0
) -> Finding:
    share, start = on_grid(region, region.share, SHAPE, spacing)
    ct = np.full(SHAPE, -860.0)
    ct[tuple(slice(a, a + n) for a, n in zip(start, share.shape, strict=True))] += share * (
        hu + 860
    )
    judged = Judged(Candidate(PLACE, region.diameter_mm, 0.8), tuple(kinds))
    return describe(judged, region, np.rint(ct).astype(np.int16), spacing)


@pytest.mark.parametrize("slice_mm", [1.25, 2.5])
@pytest.mark.parametrize("diameter", [4.0, 5.0, 6.0, 8.0, 12.0, 20.0])
def test_a_ball_is_measured_within_3_percent_whatever_the_slices(
    diameter: float, slice_mm: float
) -> None:
    found = described(isolated(diameter), (slice_mm, 0.7, 0.7))
    assert found.whole.mean_mm == pytest.approx(diameter, rel=0.03)
    assert found.whole.volume_mm3 == pytest.approx(np.pi / 6 * diameter**3, rel=0.01)
    assert found.sphericity > 0.95
    assert found.centre == pytest.approx(PLACE, abs=0.01)
    assert found.solid == found.whole
    voxel = slice_mm * 0.7 * 0.7
    # The mask on the grid has its size too, as far as thick voxels can.
    assert (found.labels > 0).sum() * voxel == pytest.approx(
        found.whole.volume_mm3, rel=0.3 if diameter < 8 else 0.08
    )


@settings(max_examples=20, deadline=None)
@given(
    at=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(st.floats(0.5, 3), st.floats(0.4, 1), st.floats(0.4, 1)),
)
def test_on_the_cts_grid_nothing_of_a_region_is_lost(at: Triple, spacing: Triple) -> None:
    region = isolated(9.0, ball(9.0, voxel_mm(9.0), at))
    share, start = on_grid(region, region.share, (200, 400, 400), spacing)
    assert share.sum() * np.prod(spacing) == pytest.approx(region.volume_mm3, rel=1e-3)
    places = np.meshgrid(
        *(np.arange(n) + a for n, a in zip(share.shape, start, strict=True)), indexing="ij"
    )
    middle = [float((share * line).sum() / share.sum()) for line in places]
    assert (np.subtract(middle, PLACE) * spacing) == pytest.approx(at, abs=0.15)
    assert region.centre(spacing) == pytest.approx(middle, abs=0.15)


def test_a_second_nodule_in_the_cube_is_left_out() -> None:
    mm = voxel_mm(8.0)
    both = np.maximum(ball(8.0, mm), ball(9.0, mm, (0, 0, 11.0)))
    region = isolated(8.0, both)
    assert region.volume_mm3 == pytest.approx(np.pi / 6 * 8**3, rel=0.01)


def test_an_unsure_outline_still_has_its_half_level() -> None:
    mm = voxel_mm(8.0)
    region = isolated(8.0, 0.4 * ball(8.0, mm))
    assert region.level == pytest.approx(0.2, abs=0.01)
    found = described(region, (1.25, 0.7, 0.7))
    assert found.whole.mean_mm == pytest.approx(8.0, rel=0.04)


def test_nothing_in_the_middle_is_no_region() -> None:
    mm = voxel_mm(6.0)
    cube = np.full((SIZE,) * 3, -860, np.int16)
    nothing = np.full((SIZE,) * 3, 0.1, np.float32)
    for total in (nothing, ball(6.0, mm, (0, 12.0, 0)), np.full_like(nothing, np.nan)):
        assert isolate(cube, total, total, mm, Candidate(PLACE, 6.0, 0.5)) is None


def test_a_region_that_fills_the_cube_can_still_be_measured() -> None:
    full = np.ones((SIZE,) * 3, np.float32)
    region = isolated(6.0, full)
    found = described(region, (1.25, 0.7, 0.7))
    assert found.whole.long_mm == pytest.approx(np.sqrt(2) * 62 * 0.5, rel=0.03)


def test_a_part_solid_nodule_has_a_solid_part_of_its_own_size() -> None:
    mm = voxel_mm(16.0)
    region = isolated(16.0, ball(16.0, mm), ball(7.0, mm, (0, 1, 0)))
    found = described(region, (1.25, 0.7, 0.7), (0.2, 0.6, 0.2, 0.0), hu=-600)
    assert found.type == nodule_pb2.NODULE_TYPE_PART_SOLID
    assert found.solid is not None
    assert found.solid.mean_mm == pytest.approx(7.0, rel=0.03)
    assert found.solid.volume_mm3 == pytest.approx(np.pi / 6 * 7**3, rel=0.01)
    assert found.whole.mean_mm == pytest.approx(16.0, rel=0.02)
    assert set(np.unique(found.labels)) == {0, 1, 2}
    voxel = 1.25 * 0.7 * 0.7
    assert (found.labels == 2).sum() * voxel == pytest.approx(np.pi / 6 * 7**3, rel=0.1)


def test_a_nodule_smaller_than_a_slice_still_has_a_voxel() -> None:
    mm = voxel_mm(3.0)
    found = described(isolated(3.0, ball(3.0, mm, (1.6, 0, 0))), (5.0, 0.7, 0.7))
    assert (found.labels > 0).any()
    assert found.whole.mean_mm == pytest.approx(3.0, rel=0.06)


@pytest.mark.parametrize(
    ("kinds", "core_mm", "hu", "expected"),
    [
        # Both networks say the same.
        (SOLID, 12.0, 40, nodule_pb2.NODULE_TYPE_SOLID),
        (GLASS, 0.0, -620, nodule_pb2.NODULE_TYPE_NON_SOLID),
        # The segmenter's solid part decides where the reducer wavers.
        ((0.1, 0.45, 0.45, 0), 0.0, -620, nodule_pb2.NODULE_TYPE_NON_SOLID),
        ((0.1, 0.45, 0.45, 0), 7.0, -620, nodule_pb2.NODULE_TYPE_PART_SOLID),
        ((0.5, 0.5, 0.0, 0), 11.5, 0, nodule_pb2.NODULE_TYPE_SOLID),
        # A part-solid nodule has a solid part.
        (PART, 0.0, -620, nodule_pb2.NODULE_TYPE_NON_SOLID),
        # Density speaks where the network is wrong or has no word for it.
        (SOLID, 12.0, 500, nodule_pb2.NODULE_TYPE_CALCIFIED),
        (CALCIFIED, 12.0, 40, nodule_pb2.NODULE_TYPE_SOLID),
        (SOLID, 12.0, -80, nodule_pb2.NODULE_TYPE_FAT_CONTAINING),
    ],
)
def test_the_type_is_what_networks_and_density_say_together(
    kinds: Sequence[float], core_mm: float, hu: float, expected: nodule_pb2.NoduleType.ValueType
) -> None:
    mm = voxel_mm(12.0)
    core = ball(core_mm, mm) if core_mm else np.zeros((SIZE,) * 3, np.float32)
    region = isolated(12.0, ball(12.0, mm), core, hu)
    assert described(region, (1.25, 0.7, 0.7), kinds, hu).type == expected
