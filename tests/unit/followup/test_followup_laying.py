"""What tracking keeps of two exams: places, what each exam shows, what makes them unlike."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from lungmesh.followup.laying import Laying, Limits, lay, unlike
from lungmesh.followup.registration import Exam
from lungmesh.mesh.geometry import Grid
from lungmesh.v1 import followup_pb2
from lungmesh.v1.volume_pb2 import Acquisition, Volume, VolumeReady

AXES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SHIFT = (12.0, -6.0, 30.0)
# In the right lung; near its base; in the left lung.
PLACES = {"a": (-80.0, 0.0, 20.0), "base": (-80.0, 5.0, -75.0), "c": (85.0, -10.0, 0.0)}


def lungs(shift: tuple[float, float, float] = (0.0, 0.0, 0.0), first: int = 0) -> Exam:
    """Two lungs with an upper and a lower lobe each on voxels of 3 mm, from slice `first` on."""
    shape = (80, 70, 110)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    lobes = np.zeros(shape, np.uint8)
    for at, upper, lower in ((28, 1, 3), (82, 4, 5)):
        inside = ((z - 40) / 33) ** 2 + ((y - 35) / 25) ** 2 + ((x - at) / 19) ** 2 < 1
        lobes[inside & (z >= 38)], lobes[inside & (z < 38)] = upper, lower
    lobes = lobes[first:]
    dx, dy, dz = shift
    origin = (-165.0 + dx, -105.0 + dy, -120.0 + 3 * first + dz)
    return Exam(None, lobes, Grid(lobes.shape[::-1], (3.0, 3.0, 3.0), origin, AXES))


def test_places_move_with_the_patient_and_back() -> None:
    moved = {name: tuple(np.add(at, SHIFT).tolist()) for name, at in PLACES.items()}
    laid = lay(lungs(), lungs(SHIFT), PLACES, moved, Limits(), ["kernel"])
    assert laid.method == followup_pb2.REGISTRATION_METHOD_AFFINE
    assert laid.dice > 0.97
    for name, at in laid.earlier_places.items():
        assert np.linalg.norm(np.subtract(at, moved[name])) < 1.5
    assert all(laid.earlier_visible.values())
    assert all(laid.current_visible.values())
    assert laid.warnings == ("kernel",)


def test_what_lies_below_a_scan_that_ends_in_the_lungs_is_not_visible_there() -> None:
    cut = lungs(first=30)
    forward = lay(lungs(), cut, PLACES, {"c": PLACES["c"]}, Limits())
    assert forward.earlier_visible == {"a": True, "base": False, "c": True}
    assert forward.current_visible == {"c": True}
    backward = lay(cut, lungs(), {}, PLACES, Limits())
    assert backward.current_visible == {"a": True, "base": False, "c": True}
    assert not backward.earlier_places


def test_a_refused_registration_leaves_the_place_in_the_lobe() -> None:
    squeezed = lungs(SHIFT)
    grid = squeezed.grid
    squeezed = Exam(None, squeezed.lobes, Grid(grid.size, (3.0, 3.0, 2.4), grid.origin, AXES))
    laid = lay(lungs(), squeezed, PLACES, {}, Limits(least_dice=1.0))
    assert laid.method == followup_pb2.REGISTRATION_METHOD_LOBES
    assert 0.9 < laid.dice < 1.0
    for name, at in laid.earlier_places.items():
        index = lungs().grid.to_index(PLACES[name])
        assert np.linalg.norm(np.subtract(at, squeezed.grid.to_lps(index))) < 0.01


def test_what_the_other_exam_shows_is_told_of_both_exams() -> None:
    here, gone = {"a": PLACES["a"]}, {"c": PLACES["c"]}
    then = filled(lungs(), [*here.values(), *gone.values()])
    moved = {"new": tuple(np.add(PLACES["a"], SHIFT).tolist())}
    now = filled(lungs(SHIFT), moved.values())
    sizes = {"a": 10.0, "c": 10.0, "new": 10.0}
    laid = lay(then, now, here | gone, moved, Limits(), (), sizes)
    assert laid.shown == {"a", "new"}
    assert Laying.from_json(laid.to_json()) == laid


def filled(exam: Exam, balls: Iterable[tuple[float, ...]]) -> Exam:
    """Give an exam voxels: aerated lungs with balls of 10 mm of soft tissue in them."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in exam.grid.size), indexing="ij"), axis=-1)
    places = exam.grid.to_lps(index).transpose(2, 1, 0, 3)
    hu = np.where(exam.lobes > 0, -870, 40)
    for ball in balls:
        hu[np.linalg.norm(places - np.asarray(ball), axis=-1) < 5] = 30
    return Exam(hu.astype(np.int16), exam.lobes, exam.grid)


def test_a_laying_is_the_same_after_json() -> None:
    laid = lay(lungs(), lungs(SHIFT), PLACES, {"n": (1.0, 2.0, 3.0)}, Limits(), ["contrast"])
    assert Laying.from_json(laid.to_json()) == laid
    assert Laying.from_json(laid.to_json()).to_json() == laid.to_json()


def test_an_exam_without_lungs_cannot_be_laid() -> None:
    empty = lungs()
    empty = Exam(None, np.zeros_like(empty.lobes), empty.grid)
    with pytest.raises(ValueError, match="no lung"):
        lay(empty, lungs(), {}, {}, Limits())


def ready(kernel: str, thick: float, contrast: bool | None, ml: float) -> VolumeReady:
    """An exam's technique."""
    acquisition = Acquisition(convolution_kernel=kernel, slice_thickness_mm=thick)
    if contrast is not None:
        acquisition.contrast = contrast
    return VolumeReady(volume=Volume(acquisition=acquisition), lung_volume_ml=ml)


@pytest.mark.parametrize(
    ("other", "codes"),
    [
        (ready("B30f", 1.0, False, 5000), ()),
        (ready("B60f", 1.0, False, 5000), ("kernel",)),
        (ready("B30f", 2.5, False, 5000), ("slice_thickness",)),
        (ready("B30f", 1.25, False, 5000), ()),
        (ready("B30f", 1.0, True, 5000), ("contrast",)),
        (ready("B30f", 1.0, False, 4100), ("lung_volume",)),
        # What a header does not state is not compared.
        (ready("", 0.0, None, 5000), ()),
        (
            ready("B60f", 5.0, True, 3000),
            ("kernel", "slice_thickness", "contrast", "lung_volume"),
        ),
    ],
)
def test_what_makes_two_exams_unlike(other: VolumeReady, codes: tuple[str, ...]) -> None:
    exam = ready("B30f", 1.0, False, 5000)
    assert unlike(exam, other) == codes
    assert unlike(other, exam) == codes
