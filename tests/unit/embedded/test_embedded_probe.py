"""The phantom and the figures by which a network is known again."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lungmesh.embedded import probe


def test_the_phantom_is_the_same_bytes_on_every_machine() -> None:
    content = probe.phantom((16, 20, 24), seed=3, ball_voxels=8).astype("<i2").tobytes()
    assert hashlib.sha256(content).hexdigest() == (
        "4e19f192f89ebb653903c2297fc7526853fd2ace6e21608418bf6e6db12eaa59"
    )


def test_the_phantom_is_lung_with_a_vessel_and_a_ball_in_the_middle() -> None:
    hu = probe.phantom((40, 40, 40), ball_voxels=10).astype(float)
    z, y, x = np.indices(hu.shape)
    away = np.sqrt((z - 19.5) ** 2 + (y - 19.5) ** 2 + (x - 19.5) ** 2)
    assert hu[away < 4.4].mean() == pytest.approx(probe.SOFT_HU, abs=5)
    axis = np.hypot(z - 9.5, y - 9.5)
    assert hu[(axis < 1.4)].mean() == pytest.approx(probe.SOFT_HU, abs=5)
    lung = hu[(away > 5.6) & (axis > 2.6)]
    assert lung.mean() == pytest.approx(probe.LUNG_HU, abs=1)
    assert lung.std() == pytest.approx(probe.NOISE_HU, rel=0.02)


def test_the_volume_of_the_phantoms_ball_is_a_balls() -> None:
    with_ball, without = (
        probe.phantom((64, 64, 64), ball_voxels=diameter).astype(float) for diameter in (25, -1)
    )
    share = (with_ball - without).sum() / (probe.SOFT_HU - probe.LUNG_HU)
    assert share == pytest.approx(np.pi / 6 * 25**3, rel=0.01)


def test_neither_voxels_nor_seeds_share_their_noise() -> None:
    # Behind the vessel, without the ball, there is noise alone.
    first, second = (probe.phantom((24, 24, 24), seed, -1)[:, 12:] for seed in (0, 1))
    pairs = [(first, second), (first[1:], first[:-1]), (first[:, 1:], first[:, :-1])]
    pairs.append((first[:, :, 1:], first[:, :, :-1]))
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_a_channel_axis_gets_the_same_volume_in_the_inputs_type() -> None:
    asked = probe.Probe({"image": (2, 8, 8, 8)}, seed=5)
    (array,) = probe.feed([{"name": "image", "type": "FP32", "dims": [2, 8, 8, 8]}], asked).values()
    assert array.shape == (1, 2, 8, 8, 8)
    assert array.dtype == np.float32
    assert np.array_equal(array[0, 0], array[0, 1])
    assert np.array_equal(array[0, 0], probe.phantom((8, 8, 8), 5))


def test_an_input_that_is_no_volume_cannot_be_probed() -> None:
    with pytest.raises(probe.ProbeFailed, match=r"input age .* is no volume"):
        probe.feed([{"name": "age", "type": "FP32", "dims": [1]}], probe.Probe({"age": (1,)}))


def test_an_answer_without_a_number_fails_the_probe() -> None:
    with pytest.raises(probe.ProbeFailed, match="output heat is empty or not finite"):
        probe.figures({"heat": np.array([0.0, np.nan])})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (0.0, ""),
        # Tolerance 1 % of the largest magnitude, 2.
        (0.019, ""),
        (0.021, "largest of heat is 2.021, not 2.0"),
    ],
)
def test_figures_may_differ_by_the_tolerance(change: float, told: str) -> None:
    answer = np.linspace(-1, 2, 31)
    asked = probe.Probe({"hu": (8, 8, 8)}, tolerance=0.01)
    card = {"probe": probe.to_card(asked, probe.figures({"heat": answer}))}
    now = answer.copy()
    now[-1] += change
    assert probe.from_card(card) == asked
    difference = probe.difference(card, {"heat": now})
    assert told in difference
    assert bool(difference) == bool(told)
