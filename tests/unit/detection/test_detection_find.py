"""Segmentation, type and score on made-up lungs whose content is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lungmesh.detection.blobs import measured
from lungmesh.detection.candidates import DIAMETER_OF_SIGMA, Candidate, Response, Window
from lungmesh.detection.detect import Finding, find_nodules
from lungmesh.detection.measure import measure_axes, measure_volume
from lungmesh.detection.message import lobe_of, nodule_message
from lungmesh.detection.score import describe, score
from lungmesh.detection.segment import Segmentation, segment
from lungmesh.detection.working import tiles, working_grids
from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import nodule_pb2

LUNG_HU = -860
Triple = tuple[float, float, float]
SPACING: Triple = (1.25, 0.7, 0.7)
EDGE_MM = 60.0


class Lung:
    """A cube of lung with things put into it; places in mm from its middle, [z, y, x]."""

    blur_mm = 0.3

    def __init__(self, spacing: Triple = SPACING) -> None:
        self.spacing = spacing
        self.shape = tuple(int(EDGE_MM / mm) for mm in spacing)
        self.z, self.y, self.x = np.meshgrid(
            *((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(self.shape, spacing, strict=True)),
            indexing="ij",
        )
        noise = np.random.default_rng(0).normal(0, 20, self.shape)
        self.image = LUNG_HU + noise
        self.lobes = np.full(self.shape, nodule_pb2.LOBE_RIGHT_UPPER, np.uint8)

    def put(self, distance: npt.NDArray[np.float64], hu: float) -> Lung:
        """Put a thing where a signed distance in mm is negative, its border blurred."""
        share = 1 / (1 + np.exp(np.clip(distance / self.blur_mm, -50, 50)))
        self.image += share * (hu - self.image)
        return self

    def ball(self, diameter: float, hu: float, at: Triple = (0, 0, 0)) -> Lung:
        """Put a ball."""
        away = np.sqrt((self.z - at[0]) ** 2 + (self.y - at[1]) ** 2 + (self.x - at[2]) ** 2)
        return self.put(away - diameter / 2, hu)

    def vessel(self, radius: float, hu: float = 40) -> Lung:
        """Put a vessel along x through the middle."""
        return self.put(np.sqrt(self.z**2 + self.y**2) - radius, hu)

    @property
    def hu(self) -> npt.NDArray[np.int16]:
        """int16 [z, y, x]."""
        return np.rint(self.image).astype(np.int16)

    def candidate(self, diameter: float, window: Window) -> Candidate:
        """A candidate in the middle."""
        z, y, x = ((n - 1) / 2 for n in self.shape)
        return Candidate((z, y, x), diameter, 500, 500, window)

    def segmented(self, diameter: float, window: Window = Window.SOLID) -> Segmentation:
        """Segment what is in the middle."""
        found = segment(
            self.hu, self.lobes > 0, self.spacing, self.candidate(diameter, window), LUNG_HU
        )
        assert found is not None
        return found

    def found(self, **diameters: float) -> list[Finding]:
        """Find nodules, with the network's peak in the middle for a window (solid, glass)."""
        (grid,) = working_grids(self.hu, self.lobes > 0, self.spacing, [2.5])
        shape = tuple(-(-n // 2) for n in grid.hu.shape)
        values = np.zeros((2, *shape), np.float32)
        sigma = np.ones((2, *shape), np.float32)
        middle = tuple(n // 2 for n in shape)
        for window, name in ((Window.SOLID, "solid"), (Window.GROUND_GLASS, "glass")):
            if name in diameters:
                values[(window, *middle)] = 400
                sigma[(window, *middle)] = diameters[name] / DIAMETER_OF_SIGMA
        response = Response(grid, values, sigma, 2)
        return find_nodules(self.hu, self.lobes, self.spacing, [response], -300.0, 0.3, 12)


def mean_diameter(found: Segmentation, spacing: Triple = SPACING) -> float:
    return measure_axes(found.mask, found.border, spacing).mean_mm


@pytest.mark.parametrize("diameter", [6.0, 8.0, 12.0, 20.0])
def test_a_solid_ball_is_measured_within_5_percent(diameter: float) -> None:
    found = Lung().ball(diameter, 40).segmented(diameter)
    assert mean_diameter(found) == pytest.approx(diameter, rel=0.05)
    radius = diameter / 2
    # The integral of the blurred ball.
    ball = 4 / 3 * np.pi * radius * (radius**2 + (np.pi * Lung.blur_mm) ** 2)
    assert measure_volume(found.mask, found.border, SPACING) == pytest.approx(ball, rel=0.05)


@pytest.mark.parametrize("diameter", [10.0, 20.0])
def test_a_ground_glass_ball_is_measured_within_8_percent(diameter: float) -> None:
    found = Lung().ball(diameter, -620).segmented(diameter, Window.GROUND_GLASS)
    assert mean_diameter(found) == pytest.approx(diameter, rel=0.08)


def test_a_vessel_that_runs_through_is_left_outside() -> None:
    found = Lung().ball(12, 40).vessel(1.5).segmented(12)
    assert mean_diameter(found) == pytest.approx(12, rel=0.12)


def test_what_lies_outside_the_lungs_is_left_outside() -> None:
    lung = Lung()
    wall = lung.y > 4
    lung.ball(12, 40).put(4 - lung.y, 40)
    lung.lobes[wall] = 0
    found = lung.segmented(12)
    assert not (found.mask & wall[found.box]).any()
    # A ball of 12 mm without the cap that begins 4 mm behind its middle.
    cut = np.pi / 6 * 12**3 - np.pi * 2**2 * (3 * 6 - 2) / 3
    assert measure_volume(found.mask, found.border, SPACING) == pytest.approx(cut, rel=0.1)


def test_nothing_is_segmented_in_plain_lung() -> None:
    lung = Lung()
    candidate = lung.candidate(8, Window.SOLID)
    assert segment(lung.hu, lung.lobes > 0, SPACING, candidate, LUNG_HU) is None


@pytest.mark.parametrize(
    ("hu", "expected"),
    [
        (40, nodule_pb2.NODULE_TYPE_SOLID),
        (500, nodule_pb2.NODULE_TYPE_CALCIFIED),
        (-80, nodule_pb2.NODULE_TYPE_FAT_CONTAINING),
    ],
)
def test_an_even_solid_ball_has_the_type_of_its_hu(
    hu: float, expected: nodule_pb2.NoduleType.ValueType
) -> None:
    (found,) = Lung().ball(14, hu).found(solid=14)
    assert found.type == expected
    assert not found.solid.any()


def test_ground_glass_alone_is_non_solid() -> None:
    (found,) = Lung().ball(14, -620).found(glass=14)
    assert found.type == nodule_pb2.NODULE_TYPE_NON_SOLID
    assert not found.solid.any()


def test_ground_glass_around_a_core_is_one_part_solid_nodule() -> None:
    lung = Lung().ball(20, -620).ball(8, 20)
    (found,) = lung.found(solid=8, glass=20)
    assert found.type == nodule_pb2.NODULE_TYPE_PART_SOLID
    # The core's blur raises the border's level: the whole reads up to a seventh too small.
    assert mean_diameter(found.region) == pytest.approx(20, rel=0.15)
    whole = measured(found, SPACING, -300)
    nodule, mask = nodule_message(whole, grid_of(lung), lung.lobes), whole.labels
    assert nodule.measurement.solid_mean_diameter_mm == pytest.approx(8, rel=0.15)
    assert nodule.measurement.consolidation_to_tumour_ratio == pytest.approx(0.4, abs=0.06)
    assert set(np.unique(mask)) == {0, 1, 2}


def test_a_solid_nodules_blurred_edge_makes_it_no_part_solid_one() -> None:
    (found,) = Lung().ball(10, 40).found(solid=10, glass=10)
    assert found.type == nodule_pb2.NODULE_TYPE_SOLID
    assert found.region.candidate.window is Window.SOLID


def test_a_thin_rim_of_ground_glass_leaves_a_solid_nodule_solid() -> None:
    (found,) = Lung().ball(22, -620).ball(16, 40).found(solid=16, glass=22)
    assert found.type == nodule_pb2.NODULE_TYPE_SOLID
    assert mean_diameter(found.region) == pytest.approx(16, rel=0.05)


def test_smaller_ones_than_any_guideline_acts_on_are_not_reported() -> None:
    assert Lung().ball(3, 40).found(solid=3) == []
    assert Lung().ball(4.5, -600).found(glass=4.5) == []


def test_a_ball_scores_higher_than_a_crossing_of_vessels() -> None:
    ball = Lung().ball(8, 40)
    crossing = Lung().vessel(2.5)
    crossing.put(np.sqrt(crossing.z**2 + crossing.x**2) - 2.5, 40)
    crossing.put(np.sqrt(crossing.y**2 + crossing.x**2) - 2.5, 40)
    scores = [
        score(describe(lung.segmented(8), SPACING), Window.SOLID) for lung in (ball, crossing)
    ]
    assert scores[0] > 0.9
    assert scores[1] < 0.3


def test_each_disadvantage_lowers_the_score() -> None:
    shape = describe(Lung().ball(8, 40).segmented(8), SPACING)
    best = score(shape, Window.SOLID)
    for worse in (
        replace(shape, attached=0.4),
        replace(shape, crowded=0.3),
        replace(shape, walled=0.6),
        replace(shape, roundness=0.3),
        replace(shape, sphericity=0.7),
    ):
        assert score(worse, Window.SOLID) < best


@settings(max_examples=15, deadline=None)
@given(
    spacing=st.tuples(st.floats(0.6, 2.5), st.floats(0.5, 1.0), st.floats(0.5, 1.0)),
    at=st.tuples(*[st.floats(-15, 15)] * 3),
)
def test_working_grids_keep_every_place(spacing: Triple, at: Triple) -> None:
    lung = Lung(spacing).ball(16, 40, at)
    middle = (np.array(lung.shape) - 1) / 2
    for grid in working_grids(lung.hu, lung.lobes > 0, spacing, [1.25, 2.5]):
        weights = np.clip(grid.hu.astype(float) - LUNG_HU - 100, 0, None)
        seen = grid.to_full(ndimage.center_of_mass(weights))
        assert np.abs((seen - middle) * spacing - at).max() < 0.5


def test_the_tiles_cores_cover_each_lung_voxel_once() -> None:
    lung = Lung()
    lung.lobes[:10] = 0
    (grid,) = working_grids(lung.hu, lung.lobes > 0, SPACING, [1.25])
    covered = np.zeros([n + 16 for n in grid.hu.shape], int)
    for tile in tiles(grid, 32, 8):
        z, y, x = tile.core
        covered[z : z + 16, y : y + 16, x : x + 16] += 1
        core = tile.hu[8:24, 8:24, 8:24]
        here = grid.hu[z : z + 16, y : y + 16, x : x + 16]
        assert np.array_equal(core[: here.shape[0], : here.shape[1], : here.shape[2]], here)
    inside = covered[tuple(slice(n) for n in grid.hu.shape)]
    assert inside.max() == 1
    assert (inside[grid.lungs] == 1).all()


def grid_of(lung: Lung, direction: npt.NDArray[np.float64] | None = None) -> Grid:
    z, y, x = lung.shape
    axes = np.eye(3) if direction is None else direction
    return Grid(
        size=(x, y, z),
        spacing=(lung.spacing[2], lung.spacing[1], lung.spacing[0]),
        origin=(10.0, -20.0, 30.0),
        direction=tuple((row[0], row[1], row[2]) for row in axes.tolist()),
    )


@settings(max_examples=10, deadline=None)
@given(angles=st.tuples(*[st.floats(-1, 1)] * 3))
def test_sizes_do_not_depend_on_how_the_patient_lies_and_places_do(angles: Triple) -> None:
    lung = Lung().ball(12, 40).ball(9, 40, (0, 0, 5))
    (found,) = lung.found(solid=14)
    finding = measured(found, SPACING, -300)
    straight = nodule_message(finding, grid_of(lung), lung.lobes)
    turned_grid = grid_of(lung, rotation(angles))
    turned = nodule_message(finding, turned_grid, lung.lobes)
    one, other = straight.measurement, turned.measurement
    assert other.long_axis_mm == one.long_axis_mm
    assert other.volume_mm3 == one.volume_mm3
    for m in (one, other):
        long_ends = np.reshape(m.long_axis_lps_mm, (2, 3))
        short_ends = np.reshape(m.short_axis_lps_mm, (2, 3))
        along, across = long_ends[1] - long_ends[0], short_ends[1] - short_ends[0]
        assert np.linalg.norm(along) == pytest.approx(m.long_axis_mm, abs=0.01)
        assert np.linalg.norm(across) == pytest.approx(m.short_axis_mm, abs=0.01)
        assert along @ across == pytest.approx(0, abs=0.1)
    index = grid_of(lung).to_index(straight.center_lps_mm)
    assert turned.center_lps_mm == pytest.approx(turned_grid.to_lps(index), abs=0.01)
    box = np.reshape(turned.bbox_lps_mm, (2, 3))
    assert (box[0] <= turned.center_lps_mm).all()
    assert (box[1] >= turned.center_lps_mm).all()


def rotation(angles: Triple) -> npt.NDArray[np.float64]:
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [k for k in range(3) if k != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


def test_a_nodule_lies_in_the_lobe_of_most_of_it_or_in_the_nearest() -> None:
    lobes = np.zeros((10, 10, 10), np.uint8)
    lobes[:, :, :4], lobes[:, :, 4:7] = nodule_pb2.LOBE_LEFT_UPPER, nodule_pb2.LOBE_LEFT_LOWER
    box = (2, 2, 2)
    mask = np.zeros((6, 6, 6), bool)
    mask[:, :, 1:5] = True
    assert lobe_of(lobes, mask, box) == nodule_pb2.LOBE_LEFT_LOWER
    outside = np.zeros((6, 6, 6), bool)
    outside[:, :, 5:] = True
    assert lobe_of(lobes, outside, box) == nodule_pb2.LOBE_LEFT_LOWER
