"""The readers' score: its parameters, its arithmetic, and the way it goes."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lungmesh.malignancy import reader_score
from lungmesh.malignancy.reader_score import MALIGNANCY, PARAMETERS, SIGNS, read_model
from lungmesh.malignancy.shape import Shape
from lungmesh.v1 import nodule_pb2

SOLID = nodule_pb2.NODULE_TYPE_SOLID
# A middling nodule of 9 mm.
PLAIN = Shape(9.0, 0.8, 0.7, 0.002, 0.2, 0.93, 0.03, 0.012)


def test_contributions_and_the_average_nodule_make_the_score() -> None:
    model = read_model()
    score = model.score(PLAIN, SOLID)
    logit = model.intercepts[MALIGNANCY] + sum(part.logit for part in score.contributions)
    assert score.probability == pytest.approx(1 / (1 + math.exp(-logit)))
    sizes = [abs(part.logit) for part in score.contributions]
    assert sizes == sorted(sizes, reverse=True)


def test_the_arithmetic_by_hand(tmp_path: Path) -> None:
    facts = json.loads(PARAMETERS.read_text(encoding="utf-8"))
    for feature in facts["features"]:
        feature.update(average=0.0, low=-1.0, high=10.0)
    for name, model in facts["models"].items():
        model.update(intercept=-1.0, coefficients=[0.0] * len(reader_score.FEATURES))
        if name == MALIGNANCY:
            model["coefficients"][reader_score.FEATURES.index("diameter_mm")] = 2.0
            model["coefficients"][reader_score.FEATURES.index("notches")] = 10.0
            model["coefficients"][reader_score.FEATURES.index("calcified")] = -3.0
    path = tmp_path / "made_up.json"
    path.write_text(json.dumps(facts), encoding="utf-8")
    score = read_model(path).score(
        replace(PLAIN, diameter_mm=math.e, notches=0.04), nodule_pb2.NODULE_TYPE_CALCIFIED
    )
    # 2 · ln e + 10 · √0.04 − 3 − 1 = 0
    assert score.probability == pytest.approx(0.5)
    assert {part.feature: part.logit for part in score.contributions} == pytest.approx(
        {"nodule_type": -3.0, "diameter_mm": 2.0, "notches": 2.0}
    )
    assert list(score.signs.values()) == pytest.approx([1 / (1 + math.e)] * len(SIGNS))


def test_what_readers_fear_raises_the_score_and_calcium_lowers_it() -> None:
    def probability(shape: Shape, kind: int = SOLID) -> float:
        return read_model().score(shape, kind).probability

    plain = probability(PLAIN)
    assert probability(replace(PLAIN, diameter_mm=18.0)) > plain
    assert probability(replace(PLAIN, diameter_mm=5.0)) < plain
    assert probability(replace(PLAIN, notches=0.05, outline_lobes=0.1)) > plain
    assert probability(PLAIN, nodule_pb2.NODULE_TYPE_CALCIFIED) < plain / 4


def test_signs_follow_their_shapes() -> None:
    def signs(shape: Shape, kind: int = SOLID) -> dict[str, float]:
        return dict(read_model().score(shape, kind).signs)

    plain = signs(PLAIN)
    assert set(plain) == set(SIGNS)
    assert signs(replace(PLAIN, outline_lobes=0.12))["lobulation"] > plain["lobulation"]
    rough = replace(PLAIN, outline_spikes=0.04, protrusions=0.5)
    assert signs(rough)["spiculation"] > plain["spiculation"]
    assert signs(replace(PLAIN, flatness=0.4))["round_shape"] < plain["round_shape"]
    faint = signs(PLAIN, nodule_pb2.NODULE_TYPE_NON_SOLID)
    assert faint["clear_border"] < plain["clear_border"]


def test_inputs_beyond_the_training_data_count_as_its_end() -> None:
    model = read_model()
    far, farther = (
        model.score(replace(PLAIN, diameter_mm=mm), SOLID).probability for mm in (200.0, 400.0)
    )
    assert far == farther


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        (PLAIN, SOLID, []),
        (replace(PLAIN, diameter_mm=34.0), SOLID, ["3 to 30 mm"]),
        (PLAIN, nodule_pb2.NODULE_TYPE_AIRWAY, ["solid, part-solid"]),
    ],
)
def test_a_nodule_outside_the_intended_use_is_told(
    shape: Shape, kind: int, words: list[str]
) -> None:
    outside = read_model().score(shape, kind).outside_intended_use
    assert len(outside) == len(words)
    assert all(word in sentence for word, sentence in zip(words, outside, strict=True))


def test_parameters_for_other_features_are_refused(tmp_path: Path) -> None:
    facts = json.loads(PARAMETERS.read_text(encoding="utf-8"))
    facts["features"].pop()
    path = tmp_path / "short.json"
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ValueError, match="other features"):
        read_model(path)


def test_the_card_is_that_of_the_parameters() -> None:
    card = Path(__file__).parents[3] / "models" / "malignancy_lidc" / "card.json"
    facts = json.loads(card.read_text(encoding="utf-8"))
    assert facts["sha256"] == hashlib.sha256(PARAMETERS.read_bytes()).hexdigest()
    model = read_model()
    assert (facts["name"], facts["version"]) == (model.name, model.version)
    assert "readers' opinions, not on pathology" in model.basis


def test_roots_and_logarithms_stand_where_they_should() -> None:
    row = np.array([[math.e, 0.5, 0.5, 0.04, 0.09, 0.9, 0.01, 0.16, 0, 1, 0]])
    assert reader_score.inputs(row)[0] == pytest.approx(
        [1.0, 0.5, 0.5, 0.2, 0.3, 0.9, 0.1, 0.4, 0, 1, 0]
    )
