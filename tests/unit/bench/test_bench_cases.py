"""Truth that follows its scan: averaged, flipped, cut."""

from __future__ import annotations

import numpy as np
import pytest

from bench.referee.cases import Case, Finding, moved, sides
from bench.referee.simulated import AS_SCANNED, conditions
from models.training.simulation.degrade import (
    Degraded,
    cropped_field,
    flipped,
    prone,
    thick_slices,
)

SPACING = (1.25, 0.7, 0.7)


@pytest.fixture
def case() -> Case:
    """A scan of random HU with two lungs and a nodule of uneven shares in the right one."""
    random = np.random.default_rng(3)
    lungs = np.zeros((40, 48, 64), bool)
    lungs[5:35, 8:40, 6:28] = lungs[5:35, 8:40, 36:58] = True
    box = (slice(11, 18), slice(14, 22), slice(10, 19))
    total = random.random((7, 8, 9)).astype(np.float32)
    at = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), -1)
    center = (total[..., None] * at).sum(axis=(0, 1, 2)) / total.sum()
    hu = random.normal(-800, 60, lungs.shape).astype(np.int16)
    z, y, x = center.tolist()
    solid = (total / 2).astype(np.float32)
    finding = Finding((z, y, x), 6.0, "part_solid", box, total, solid)
    return Case("made up", True, hu, lungs, SPACING, 1.25, (finding,), np.zeros_like(lungs))


def painted(case: Case) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Return the shares of the case's only nodule on the whole grid, in thousandths."""
    out = np.zeros(case.hu.shape, np.int16)
    (finding,) = case.findings
    out[finding.box] = np.rint(finding.total * 1000)
    return out


def lungs_of(case: Case, name: str, grid: Case) -> Degraded:
    """Return one of the scanner's changes to the voxels of `grid`."""
    changes = {
        "left-right": lambda hu: flipped(hu, SPACING, 2),
        "head-foot": lambda hu: flipped(hu, SPACING, 0),
        "prone": lambda hu: prone(hu, SPACING, np.zeros_like(case.lungs)),
        "slabs": lambda hu: thick_slices(hu, SPACING, 3.0),
        "crop": lambda hu: cropped_field(hu, SPACING, case.lungs, 0.8),
    }
    return changes[name](grid.hu)


@pytest.mark.parametrize("name", ["left-right", "head-foot", "prone", "slabs", "crop"])
def test_the_moved_truth_is_the_truth_that_the_same_change_of_its_image_gives(
    case: Case, name: str
) -> None:
    changed = moved(case, lungs_of(case, name, case), 3.0)
    image = Case(case.name, True, painted(case), case.lungs, SPACING, 1.25, (), case.ignore)
    expected = lungs_of(case, name, image).hu
    assert np.abs(painted(changed).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["left-right", "head-foot", "prone", "slabs"])
def test_the_centre_stays_the_centre_of_mass_in_mm(case: Case, name: str) -> None:
    changed = moved(case, lungs_of(case, name, case), 3.0)
    (finding,) = changed.findings
    at = np.stack(
        np.meshgrid(*(np.arange(s.start, s.stop) for s in finding.box), indexing="ij"), -1
    )
    mass = (finding.total[..., None] * at).sum(axis=(0, 1, 2)) / finding.total.sum()
    assert finding.center_zyx == pytest.approx(mass, abs=0.05)
    before = case.findings[0].total.sum() * np.prod(case.spacing)
    assert finding.total.sum() * np.prod(changed.spacing) == pytest.approx(before, rel=1e-3)


def test_a_nodule_that_the_field_of_view_cuts_off_leaves_the_truth(case: Case) -> None:
    assert len(moved(case, cropped_field(case.hu, SPACING, case.lungs, 0.9), 1.25).findings) == 1
    assert moved(case, cropped_field(case.hu, SPACING, case.lungs, 0.3), 1.25).findings == ()


def test_a_mark_in_the_ignored_region_is_flagged_and_stands_in_mm(case: Case) -> None:
    case.ignore[10, 20, 30] = True
    flagged, free = case.mark((10.4, 19.6, 30.0), 0.5), case.mark((10.6, 20.0, 30.0), 0.5)
    assert (flagged.ignored, free.ignored) == (True, False)
    assert flagged.center_mm == pytest.approx((13.0, 13.72, 21.0))


def test_lungs_apart_are_labelled_by_their_side_and_joined_ones_cut_in_the_middle(
    case: Case,
) -> None:
    apart = sides(case.lungs)
    assert set(np.unique(apart[:, :, :32])) == {0, 1}
    assert set(np.unique(apart[:, :, 32:])) == {0, 4}
    joined = case.lungs.copy()
    joined[20, 20, 28:36] = True
    assert (sides(joined) > 0).sum() == joined.sum()
    assert (sides(joined)[20, 20, 28:36] == [1, 1, 1, 1, 4, 4, 4, 4]).all()


@pytest.mark.parametrize("name", list(conditions()))
def test_every_condition_gives_a_whole_scan_whose_nodule_keeps_its_volume(
    case: Case, name: str
) -> None:
    changed = conditions()[name](case)
    assert changed is not None
    assert changed.lungs.shape == changed.ignore.shape == changed.hu.shape
    assert changed.hu.dtype == np.int16
    (finding,) = changed.findings
    assert finding.total.shape == tuple(side.stop - side.start for side in finding.box)
    before = case.findings[0].total.sum() * np.prod(case.spacing)
    assert finding.total.sum() * np.prod(changed.spacing) == pytest.approx(before, rel=1e-3)
    assert np.array_equal(changed.hu, case.hu) == (name == AS_SCANNED)


def test_a_scan_of_thick_slices_is_made_thicker_but_not_thinner(case: Case) -> None:
    thick = conditions()["3 mm slices"](case)
    assert thick is not None
    assert conditions()["2.5 mm slices"](thick) is None
    thicker = conditions()["5 mm slices"](thick)
    assert thicker is not None
    assert thicker.spacing == (5.0, 0.7, 0.7)
