"""Candidates from heat maps: exact places and sizes, whatever the tiles, one a nodule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungmesh.detection.family import Array, Candidate, Tile, family_of
from lungmesh.detection.grid import WorkingGrid, tiles
from lungmesh.detection.heatmap import Heatmap
from lungmesh.detection.nms import one_each
from lungmesh.mesh.errors import SettingsError

CARD = {
    "family": "heatmap",
    "grid_mm": 1.0,
    "tile": 64,
    "halo": 16,
    "stride": 2,
    "least_heat": 0.2,
}
FAMILY = Heatmap.of(CARD)
SHAPE = (70, 80, 90)
Triple = tuple[float, float, float]


def answers(nodules: Sequence[tuple[Triple, float, float]]) -> list[tuple[Tile, dict[str, Array]]]:
    """Return what a network without fault would answer for nodules (place, diameter, heat)."""
    grid = WorkingGrid(
        np.zeros(SHAPE, np.int16), np.ones(SHAPE, np.uint8), (1, 1, 1), (1, 1, 1), (0, 0, 0)
    )
    out = []
    for tile in tiles(grid, FAMILY):
        size = [n // 2 for n in tile.hu.shape]
        places = np.stack(
            np.meshgrid(
                *(at + 2 * np.arange(n) + 0.5 for at, n in zip(tile.start, size, strict=True)),
                indexing="ij",
            )
        )
        heat, widths = np.zeros(size), np.zeros(size)
        offset = np.zeros((3, *size))
        for place, diameter, value in nodules:
            apart = np.asarray(place)[:, None, None, None] - places
            here = value * np.exp(-(apart**2).sum(axis=0) / 8)
            better = here > heat
            heat[better] = here[better]
            widths[better] = np.log(diameter)
            offset[:, better] = apart[:, better]
        out.append(
            (
                tile,
                {
                    "heat": heat.astype(np.float16),
                    "size": widths.astype(np.float16),
                    "offset": offset.astype(np.float16),
                },
            )
        )
    return out


@settings(max_examples=20, deadline=None)
@given(
    place=st.tuples(st.floats(2, 66), st.floats(2, 76), st.floats(2, 86)),
    diameter=st.floats(3, 40),
)
def test_a_nodule_is_found_once_where_it_lies_and_as_wide_as_it_is(
    place: Triple, diameter: float
) -> None:
    (found,) = FAMILY.candidates(SHAPE, answers([(place, diameter, 0.9)]))
    assert found.place == pytest.approx(place, abs=0.02)
    assert found.diameter_mm == pytest.approx(diameter, rel=0.005)
    assert 0.6 < found.score <= 0.9


def test_candidates_come_in_falling_order_and_none_below_the_least_heat() -> None:
    made = [((20.0, 20.0, 20.0), 6.0, 0.5), ((50.0, 40.0, 60.0), 8.0, 0.9), ((60, 70, 20), 5, 0.15)]
    found = FAMILY.candidates(SHAPE, answers(made))
    assert [round(one.place[0]) for one in found] == [50, 20]


def test_a_wide_false_candidate_does_not_hide_a_nodule_beside_it() -> None:
    made = [((30.0, 40.0, 40.0), 24.0, 0.9), ((30.0, 48.0, 40.0), 6.0, 0.6)]
    assert len(FAMILY.candidates(SHAPE, answers(made))) == 2


def test_what_a_tiles_halo_says_does_not_count() -> None:
    # One tile alone answers for its core only.
    ((tile, answer), *_) = answers([((20.0, 20.0, 20.0), 6.0, 0.9)])
    answer["heat"][:] = 0
    answer["heat"][2, 2, 2] = 1
    assert FAMILY.candidates(SHAPE, [(tile, answer)]) == []


def test_a_network_that_answers_no_number_gives_no_candidate() -> None:
    ((tile, answer), *_) = answers([])
    answer["heat"][:] = np.nan
    assert FAMILY.candidates(SHAPE, [(tile, answer)]) == []


@pytest.mark.parametrize(
    ("apart_mm", "diameters", "expected"),
    [
        (1.9, (3.0, 3.0), 1),
        (2.1, (3.0, 3.0), 2),
        (4.9, (10.0, 4.0), 1),
        (4.9, (4.0, 10.0), 1),
        (5.1, (10.0, 4.0), 2),
    ],
)
def test_two_candidates_are_one_by_millimetres(
    apart_mm: float, diameters: tuple[float, float], expected: int
) -> None:
    spacing = (2.5, 0.7, 0.7)
    one = Candidate((10.0, 10.0, 10.0), diameters[0], 0.9)
    other = Candidate((10.0 + apart_mm / 2.5, 10.0, 10.0), diameters[1], 0.8)
    kept = one_each([other, one], spacing, 10)
    assert kept == [one, other][:expected]
    assert one_each([other, one], spacing, 1) == [one]


def test_a_card_names_a_family_that_is_known() -> None:
    assert family_of("net", CARD) == FAMILY
    with pytest.raises(SettingsError, match="model net is of the family 'magic'"):
        family_of("net", {"family": "magic"})
