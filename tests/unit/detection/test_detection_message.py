"""A finding as a message: placed in the patient however the patient lies, and in a lobe."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.detection.finding import Finding, Size
from lungmesh.detection.measure import Density
from lungmesh.detection.message import lobe_of, nodule_message
from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import nodule_pb2

Triple = tuple[float, float, float]
SHAPE = (40, 60, 50)
LOBES = np.full(SHAPE, nodule_pb2.LOBE_RIGHT_UPPER, np.uint8)
WHOLE = Size(11.0, 7.5, ((20, 30, 20), (20, 30, 35.7)), ((20, 25, 28), (20, 35.7, 28)), 300.0)
SOLID = Size(4.0, 3.0, ((20, 30, 25), (20, 30, 31)), ((20, 28, 28), (20, 32, 28)), 20.0)


def finding(solid: Size | None = None) -> Finding:
    return Finding(
        score=0.7,
        type=nodule_pb2.NODULE_TYPE_PART_SOLID,
        centre=(20.2, 30.1, 27.8),
        slice_index=20,
        labels=np.ones((9, 11, 16), np.uint8),
        start=(16, 25, 20),
        whole=WHOLE,
        solid=solid,
        density=Density(-400.0, (-800.0, -600.0, -400.0, -200.0, 0.0)),
        sphericity=0.8,
    )


def grid_of(direction: npt.NDArray[np.float64] | None = None) -> Grid:
    z, y, x = SHAPE
    axes = np.eye(3) if direction is None else direction
    return Grid(
        size=(x, y, z),
        spacing=(0.7, 0.7, 1.25),
        origin=(10.0, -20.0, 30.0),
        direction=tuple((row[0], row[1], row[2]) for row in axes.tolist()),
    )


def rotation(angles: Triple) -> npt.NDArray[np.float64]:
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [k for k in range(3) if k != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


@settings(max_examples=25, deadline=None)
@given(angles=st.tuples(*[st.floats(-1, 1)] * 3))
def test_sizes_do_not_depend_on_how_the_patient_lies_and_places_do(angles: Triple) -> None:
    grid = grid_of(rotation(angles))
    nodule = nodule_message(finding(), grid, LOBES)
    m = nodule.measurement
    assert (m.long_axis_mm, m.short_axis_mm, m.mean_diameter_mm) == (11.0, 7.5, 9.25)
    long_ends = np.reshape(m.long_axis_lps_mm, (2, 3))
    short_ends = np.reshape(m.short_axis_lps_mm, (2, 3))
    along, across = long_ends[1] - long_ends[0], short_ends[1] - short_ends[0]
    assert np.linalg.norm(along) == pytest.approx(m.long_axis_mm, abs=0.02)
    assert np.linalg.norm(across) == pytest.approx(m.short_axis_mm, abs=0.02)
    assert along @ across == pytest.approx(0, abs=0.1)
    assert nodule.center_lps_mm == pytest.approx(grid.to_lps((27.8, 30.1, 20.2)), abs=0.01)
    box = np.reshape(nodule.bbox_lps_mm, (2, 3))
    assert (box[0] <= nodule.center_lps_mm).all()
    assert (box[1] >= nodule.center_lps_mm).all()


def test_the_box_is_that_of_the_masks_voxels() -> None:
    nodule = nodule_message(finding(), grid_of(), LOBES)
    assert list(nodule.mask.offset) == [20, 25, 16]
    assert list(nodule.mask.size) == [16, 11, 9]
    low = [10 + 19.5 * 0.7, -20 + 24.5 * 0.7, 30 + 15.5 * 1.25]
    high = [10 + 35.5 * 0.7, -20 + 35.5 * 0.7, 30 + 24.5 * 1.25]
    assert nodule.bbox_lps_mm == pytest.approx([*low, *high], abs=0.001)


def test_a_solid_part_has_a_size_and_a_share_of_the_long_axis() -> None:
    m = nodule_message(finding(SOLID), grid_of(), LOBES).measurement
    assert (m.solid_long_axis_mm, m.solid_mean_diameter_mm, m.solid_volume_mm3) == (4.0, 3.5, 20.0)
    assert m.consolidation_to_tumour_ratio == pytest.approx(4 / 11, abs=1e-4)
    without = nodule_message(finding(), grid_of(), LOBES).measurement
    assert without.solid_volume_mm3 == without.consolidation_to_tumour_ratio == 0
    # 300 mm³ of 600 mg/ml.
    assert m.mass_mg == pytest.approx(180)


def test_a_nodule_lies_in_the_lobe_of_most_of_it_or_in_the_nearest() -> None:
    lobes = np.zeros((10, 10, 10), np.uint8)
    lobes[:, :, :4], lobes[:, :, 4:7] = nodule_pb2.LOBE_LEFT_UPPER, nodule_pb2.LOBE_LEFT_LOWER
    mask = np.zeros((6, 6, 6), bool)
    mask[:, :, 1:5] = True
    assert lobe_of(lobes, mask, (2, 2, 2)) == nodule_pb2.LOBE_LEFT_LOWER
    outside = np.zeros((6, 6, 6), bool)
    outside[:, :, 5:] = True
    assert lobe_of(lobes, outside, (2, 2, 2)) == nodule_pb2.LOBE_LEFT_LOWER


def test_a_volume_without_lobes_has_no_nodules() -> None:
    with pytest.raises(ValueError, match="without lobes"):
        lobe_of(np.zeros((4, 4, 4), np.uint8), np.ones((2, 2, 2), bool), (1, 1, 1))
