"""Fitting and judging the readers' score, on made-up answers and on made-up readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lungmesh.malignancy import reader_score, shape
from lungmesh.malignancy.shape import Shape
from lungmesh.v1 import nodule_pb2
from models.training import logistic, malignancy
from models.training.lidc_ratings import Rated, consensus_mask, measured
from models.training.simulation.lidc import RATINGS, Annotation

NAMES = [f"P{number:03}" for number in range(300)]


def answers(seed: int, rows: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, answers drawn from a known logistic model, folds."""
    random = np.random.default_rng(seed)
    inputs = random.normal(3, 2, (rows, 2))
    p = logistic.sigmoid(0.5 + (inputs - 3) @ (1.0, -0.5))
    return inputs, random.random(rows) < p, np.arange(rows) % 10


def test_a_known_model_is_found_again() -> None:
    inputs, yes, _ = answers(0, 20_000)
    found = logistic.fit(inputs, yes)
    assert found.coefficients == pytest.approx([1.0, -0.5], abs=0.06)
    assert found.intercept == pytest.approx(0.5 - 3 * 0.5, abs=0.15)


def test_the_ridge_keeps_an_input_that_answers_alone_in_bounds() -> None:
    yes = np.array([True] * 20 + [False] * 20)
    found = logistic.fit(yes[:, None].astype(float), yes)
    assert 1 < found.coefficients[0] < 20


def test_platt_mends_an_overfit_slope() -> None:
    random = np.random.default_rng(1)
    inputs = random.normal(0, 1, (800, 40))
    yes = random.random(800) < logistic.sigmoid(inputs[:, 0])
    folds = np.arange(800) % 10
    raw, _ = logistic.cross_validate(
        inputs, yes, folds, lambda x, y, _: logistic.fit(x, y, ridge=1e-6)
    )
    mended, _ = logistic.cross_validate(inputs, yes, folds)
    assert logistic.figures(raw, yes).slope < 0.8
    assert logistic.figures(mended, yes).slope == pytest.approx(1, abs=0.15)


def test_a_fold_is_judged_by_a_fit_that_did_not_see_it() -> None:
    inputs, yes, folds = answers(2, 200)
    logits, fits = logistic.cross_validate(inputs, yes, folds)
    out = folds == 4
    alone = logistic.fit_calibrated(inputs[~out], yes[~out], folds[~out])
    assert logits[out] == pytest.approx(alone.logit(inputs[out]))
    assert len(fits) == 10


def test_folds_follow_the_patient() -> None:
    folds = logistic.patient_folds([*NAMES, *NAMES], 10)
    assert (folds[:300] == folds[300:]).all()
    assert set(folds) == set(range(10))


def test_figures_by_hand() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.9])
    yes = np.array([False, True, False, False, True])
    # Pairs: (0.4: 1 + ½ + 0), (0.9: 3) of 6.
    assert logistic.auc(scores, yes) == pytest.approx(4.5 / 6)
    many = np.arange(40.0)
    assert logistic.threshold_at(many, many >= 0) == 2.0  # 38 of 40 reach it


def test_intervals_hold_the_figure_and_repeat() -> None:
    inputs, yes, _ = answers(3, 300)
    logits = 0.5 + (inputs - 3) @ (1.0, -0.5)
    first, again = (logistic.intervals(logits, yes, NAMES, draws=60) for _ in range(2))
    assert first == again
    low, high = first["auc"]
    assert low < logistic.auc(logits, yes) < high


def reader(mask: np.ndarray, origin: tuple[float, int, int], **ratings: int) -> Annotation:
    given = dict.fromkeys(RATINGS, 3) | ratings
    return Annotation("P1", 1, given, (2.0, 0.7, 0.7), origin, mask)


def test_the_consensus_is_what_half_the_readers_drew_each_on_its_own_box() -> None:
    left, right = np.ones((1, 2, 4), bool), np.ones((1, 2, 4), bool)
    group = [
        reader(left, (10.0, 5, 5)),
        reader(right, (10.0, 5, 7)),
        reader(np.ones((1, 2, 2), bool), (12.0, 5, 7)),
    ]
    agreed = consensus_mask(group)
    assert agreed.shape == (2, 2, 6)
    assert agreed[0].tolist() == [[False, False, True, True, False, False]] * 2
    assert not agreed[1].any()


def test_readers_are_counted_and_their_median_taken() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(9) - 4] * 3, indexing="ij"), axis=-1)
    ball = np.linalg.norm(grid * (2.0, 0.7, 0.7), axis=-1) < 2.8
    group = [
        reader(ball, (0.0, 0, 0), malignancy=m, calcification=c)
        for m, c in ((2, 6), (4, 3), (5, 3))
    ]
    rated = measured([group])
    assert rated.readers.tolist() == [3]
    assert rated.median("malignancy").tolist() == [4]
    assert rated.mean("malignancy") == pytest.approx([11 / 3])
    assert rated.share("calcification", 1, 2, 3, 5) == pytest.approx([2 / 3])
    assert rated.shapes[0] == pytest.approx(rated.one_reader[0])
    # Coarser voxels: another number, the same nodule.
    assert rated.other_grid[0, 0] == pytest.approx(rated.shapes[0, 0], rel=0.25)


def made_up(seed: int = 0, count: int = 300) -> Rated:
    """Readers who go by size, by lobes and by calcium."""
    random = np.random.default_rng(seed)
    shapes = np.column_stack(
        [
            np.exp(random.normal(2.2, 0.5, count)),
            random.uniform(0.5, 1, count),
            random.uniform(0.3, 0.9, count),
            random.exponential(0.01, count),
            random.uniform(0.05, 0.6, count),
            random.uniform(0.85, 0.96, count),
            random.exponential(0.03, count),
            random.exponential(0.012, count),
        ]
    )
    ratings = np.full((count, 6, len(RATINGS)), np.nan)
    ratings[:, :3] = 3
    calcified = random.random(count) < 0.15

    def put(name: str, values: np.ndarray) -> None:
        ratings[:, :3, RATINGS.index(name)] = values[:, None]

    opinion = 4 * (np.log(shapes[:, 0]) - 2.2) - 6 * calcified + random.normal(0, 0.8, count)
    put("malignancy", np.clip(np.round(3 + opinion), 1, 5))
    put("calcification", np.where(calcified, 3, 6))
    put("texture", random.choice([1, 3, 5, 5, 5], count))
    for name, column in (("lobulation", 6), ("spiculation", 7), ("sphericity", 2), ("margin", 5)):
        noisy = shapes[:, column] + random.normal(0, shapes[:, column].std() / 2, count)
        put(name, np.searchsorted(np.quantile(noisy, (0.2, 0.4, 0.6, 0.8)), noisy) + 1.0)
    patients = np.array(NAMES[:count])
    return Rated(patients, np.full(count, 3), ratings, shapes, shapes, shapes)


def test_types_are_one_or_none_and_calcium_comes_first() -> None:
    rated = made_up()
    kinds = malignancy.types(rated)
    assert set(kinds.sum(axis=1)) == {0.0, 1.0}
    calcified = rated.median("calcification") == 3
    assert (kinds[:, 2] > 0).tolist() == calcified.tolist()


def test_only_definite_nodules_of_enough_readers_take_part() -> None:
    rated = made_up()
    rows, yes = malignancy.definite(rated, lambda some: some.median("malignancy"), 3)
    middle = rated.median("malignancy")
    assert (rows == (middle != 3)).all()
    assert (yes == (middle[rows] >= 4)).all()
    none, _ = malignancy.definite(rated, lambda some: some.median("malignancy"), 4)
    assert not none.any()


def test_the_service_answers_as_the_fit_does(tmp_path: Path) -> None:
    rated = made_up()
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(malignancy.parameters(rated)), encoding="utf-8")
    served, fitted = reader_score.read_model(path), malignancy.fit_all(rated)
    solid = np.flatnonzero(malignancy.types(rated).sum(axis=1) == 0)
    inputs = malignancy.features(rated)
    inside = (inputs >= served.low) & (inputs <= served.high)
    rows = [row for row in solid if inside[row].all()][:20]
    assert len(rows) == 20
    for row in rows:
        score = served.score(Shape(*rated.shapes[row]), nodule_pb2.NODULE_TYPE_SOLID)
        expected = {
            name: float(logistic.sigmoid(model.logit(inputs[row : row + 1]))[0])
            for name, model in fitted.items()
        }
        assert score.probability == pytest.approx(expected.pop("malignancy"), abs=1e-4)
        assert score.signs == pytest.approx(expected, abs=1e-4)


def test_size_drives_a_score_that_was_learnt_from_size() -> None:
    rated = made_up()
    weights = malignancy.fit_all(rated)["malignancy"].coefficients
    effect = dict(
        zip(reader_score.FEATURES, weights * malignancy.features(rated).std(axis=0), strict=True)
    )
    assert max(effect, key=lambda name: effect[name]) == "diameter_mm"
    assert effect["calcified"] < -0.5
    study = malignancy.Study(rated)
    assert logistic.figures(study.logits, study.yes).auc > 0.9
    assert study.again(malignancy.features(study.rated)) == pytest.approx(study.logits)


def test_bins_of_the_reliability_plot_hold_every_nodule_once() -> None:
    inputs, yes, _ = answers(4)
    bins = malignancy.reliability(0.5 + (inputs - 3) @ (1.0, -0.5), yes)
    assert sum(count for _, _, count in bins) == len(yes)
    assert [p for p, _, _ in bins] == sorted(p for p, _, _ in bins)
    assert max(abs(p - share) for p, share, _ in bins) < 0.08


def test_every_shape_number_has_its_place() -> None:
    assert reader_score.FEATURES[: len(shape.NAMES)] == shape.NAMES
