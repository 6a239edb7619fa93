"""Fits and judges the readers' score: `python -m models.training.malignancy` prints every figure.

Truth is the median of LIDC-IDRI's readers: 4 or 5 (suspicious) against 1 or 2 (unlikely), of the
nodules that three readers or more drew; a median of 3 is left out. All figures come from ten folds
of patients; ridge, calibration and fits see only the other nine. With `--write` the parameters of
the service, the card's figures and the reliability plot are written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lungmesh.malignancy import reader_score, shape
from models.training import logistic
from models.training.lidc_ratings import LEAST_READERS, Rated, rated_nodules
from models.training.logistic import Bools, Figures, Floats, Linear

NAME, VERSION = "malignancy_lidc", "1"
SOURCE = "LungMesh, fitted on LIDC-IDRI (Armato et al., Med Phys 2011;38:915)"
BASIS = "trained on readers' opinions, not on pathology"
CARD = Path(__file__).resolve().parents[1] / NAME
FOLDS = 10
SIZES_MM = ((0, 6), (6, 8), (8, 12), (12, 20), (20, 99))
# Of texture (1 non-solid … 5 solid), and the benign patterns of calcification: popcorn, laminated,
# solid, central; 4 is non-central, 6 none.
_NON_SOLID, _SOLID, _BENIGN_CALCIUM = 2.0, 4.0, (1, 2, 3, 5)
# Which rating of LIDC answers for a sign, and from which median on it counts as yes.
SIGNS = {
    "lobulation": ("lobulation", 3.0),
    "spiculation": ("spiculation", 3.0),
    "round_shape": ("sphericity", 4.0),
    "clear_border": ("margin", 4.0),
}
# Beside the others these two only say how coarse the voxels of a small nodule are.
_LEFT_OUT = ("outline_fill", "outline_spikes")
_TAKEN = [index for index, name in enumerate(reader_score.FEATURES) if name not in _LEFT_OUT]
_TAKEN_SHAPES = [index for index in _TAKEN if index < len(shape.NAMES)]
_READERS_SIGNS = ("subtlety", "sphericity", "margin", "lobulation", "spiculation", "texture")
# Inputs are kept within these percentiles of the training data.
_RANGE = (0.5, 99.5)
_BINS = 10


def types(rated: Rated) -> Floats:
    """Return the density of each nodule by its readers, as `reader_score.DENSITIES`, (n, 3)."""
    texture = rated.median("texture")
    calcified = rated.share("calcification", *_BENIGN_CALCIUM) > 0.5
    part = (texture > _NON_SOLID) & (texture < _SOLID) & ~calcified
    return np.column_stack([part, (texture <= _NON_SOLID) & ~calcified, calcified]).astype(float)


def features(rated: Rated, shapes: Floats | None = None) -> Floats:
    """Return all inputs, (n, features) in the order of `reader_score.FEATURES`.

    Parameters
    ----------
    shapes
        Another measurement of the same nodules; None takes the consensus.
    """
    measured = rated.shapes if shapes is None else shapes
    return reader_score.inputs(np.column_stack([measured, types(rated)]))


def feature_sets(rated: Rated) -> dict[str, Floats]:
    """Return what the score could be made from, by name."""
    every = features(rated)
    calcified = types(rated)[:, -1:]
    ratings = np.column_stack([*(rated.median(name) for name in _READERS_SIGNS), calcified])
    return {
        "diameter alone": every[:, :1],
        "shape alone": every[:, _TAKEN_SHAPES],
        "shape + type (shipped)": every[:, _TAKEN],
        "readers' ratings": ratings,
        "readers' ratings + shape": np.column_stack([ratings, every[:, _TAKEN_SHAPES]]),
    }


def definite(
    rated: Rated, average: Callable[[Rated], Floats], least_readers: int
) -> tuple[Bools, Bools]:
    """Return which nodules take part, (n,), and of those which are suspicious."""
    malignancy = average(rated)
    rows = (rated.readers >= least_readers) & ((malignancy <= 2) | (malignancy >= 4))
    return rows, malignancy[rows] >= 4


def _median(rated: Rated) -> Floats:
    return rated.median("malignancy")


def _mean(rated: Rated) -> Floats:
    return rated.mean("malignancy")


class Study:
    """The nodules of the main definition, and their cross-validated log-odds.

    Attributes
    ----------
    rated, yes
        The nodules, and which are suspicious.
    logits, fits
        Of the shipped inputs: log-odds by the fit that did not see the patient, and the fits.
    """

    def __init__(self, every: Rated) -> None:
        rows, self.yes = definite(every, _median, LEAST_READERS)
        self.rated = every.chosen(rows)
        self.folds = logistic.patient_folds(self.rated.patients.tolist(), FOLDS)
        self.logits, self.fits = logistic.cross_validate(
            features(self.rated)[:, _TAKEN], self.yes, self.folds
        )

    def again(self, inputs: Floats) -> Floats:
        """Return log-odds of other measurements of the nodules, by the same fits."""
        out = np.zeros(len(self.yes))
        for fold, fit in zip(np.unique(self.folds), self.fits, strict=True):
            rows = self.folds == fold
            out[rows] = fit.logit(inputs[rows][:, _TAKEN])
        return out

    def at_training_threshold(self) -> tuple[float, float]:
        """Return sensitivity and specificity where each fold's threshold comes from the others."""
        reached = np.zeros(len(self.yes), bool)
        for fold in np.unique(self.folds):
            out = self.folds == fold
            reached[out] = self.logits[out] >= logistic.threshold_at(
                self.logits[~out], self.yes[~out]
            )
        return float(reached[self.yes].mean()), float((~reached[~self.yes]).mean())


def report(every: Rated) -> dict[str, Any]:
    """Print every figure; return those that the card keeps."""
    study = Study(every)
    rated, yes = study.rated, study.yes
    print(
        f"{len(every.patients)} nodules that {LEAST_READERS} readers or more drew, of "
        f"{len(set(every.patients.tolist()))} patients.\n"
        f"Main set: median of {LEAST_READERS} readers or more, 4-5 ({yes.sum()}) against 1-2 "
        f"({(~yes).sum()}); {len(set(rated.patients.tolist()))} patients, {FOLDS} folds.\n"
    )
    print(f"{'inputs':27} {_HEAD}")
    kept: dict[str, Any] = {}
    for name, inputs in feature_sets(rated).items():
        logits, _ = logistic.cross_validate(inputs, yes, study.folds)
        between = logistic.intervals(logits, yes, rated.patients.tolist())
        kept[name] = _row(name, logistic.figures(logits, yes), between)
    sensitivity, specificity = study.at_training_threshold()
    print(
        f"\nThreshold from the other folds: sensitivity {sensitivity:.3f}, "
        f"specificity {specificity:.3f}\n"
    )
    print("Other definitions of the truth, shape + type (shape alone):")
    for readers in (LEAST_READERS, 4):
        for label, average in (("median", _median), ("mean", _mean)):
            _other_definition(every, readers, label, average)
    print("\nWithin sizes (equal-volume diameter):")
    for low, high in SIZES_MM:
        rows = (rated.shapes[:, 0] >= low) & (rated.shapes[:, 0] < high)
        _subset(f"{low}-{high} mm", study, rows)
    print("\nBy type:")
    for column, name in enumerate(reader_score.DENSITIES):
        _subset(name, study, types(rated)[:, column] > 0)
    _subset("solid", study, types(rated).sum(axis=1) == 0)
    print("\nThe same fits on other masks of the same nodules (shape + type):")
    for name, shapes in (
        ("one reader's contour", rated.one_reader),
        ("voxels 2.5 x 0.9 x 0.9 mm", rated.other_grid),
    ):
        logits = study.again(features(rated, shapes))
        moved = np.median(np.abs(logistic.sigmoid(logits) - logistic.sigmoid(study.logits)))
        _row(name, logistic.figures(logits, yes))
        print(f"{'':27} probability moves by {moved:.3f} in the median")
    _unsure(every)
    return {"score": kept, "signs": _signs(every)}


_HEAD = f"{'AUC':22} {'spec. at 95 % sens.':22} {'Brier':22} {'slope':20} intercept"


def _row(
    name: str, found: Figures, between: dict[str, tuple[float, float]] | None = None
) -> dict[str, Any]:
    parts = []
    for figure, value in vars(found).items():
        ends = f" ({between[figure][0]:.3f}-{between[figure][1]:.3f})" if between else ""
        parts.append(f"{value:.3f}{ends}".ljust(22))
    print(f"{name:27} {' '.join(parts).rstrip()}")
    return {
        figure: {
            "value": round(value, 4),
            **({"interval": [round(end, 4) for end in between[figure]]} if between else {}),
        }
        for figure, value in vars(found).items()
    }


def _other_definition(
    every: Rated, readers: int, label: str, average: Callable[[Rated], Floats]
) -> None:
    rows, yes = definite(every, average, readers)
    rated = every.chosen(rows)
    folds = logistic.patient_folds(rated.patients.tolist(), FOLDS)
    whole, alone = (
        logistic.figures(logistic.cross_validate(inputs, yes, folds)[0], yes)
        for inputs in (features(rated)[:, _TAKEN], features(rated)[:, _TAKEN_SHAPES])
    )
    print(
        f"  {label} of >= {readers}: {yes.sum()} against {(~yes).sum()}: "
        f"AUC {whole.auc:.3f} ({alone.auc:.3f}), specificity {whole.specificity:.3f} "
        f"({alone.specificity:.3f}), slope {whole.slope:.2f} ({alone.slope:.2f})"
    )


def _subset(name: str, study: Study, rows: npt.NDArray[np.bool_]) -> None:
    yes = study.yes[rows]
    both = 0 < yes.sum() < len(yes)
    area = f"AUC {logistic.auc(study.logits[rows], yes):.3f}" if both else "one answer only"
    print(f"  {name:12} {yes.sum():4} suspicious, {(~yes).sum():4} not: {area}")


def _unsure(every: Rated) -> None:
    """Print what the score says of the nodules that it was not fitted on."""
    final = fit_all(every)[reader_score.MALIGNANCY]
    scores = logistic.sigmoid(final.logit(features(every)))
    middle = every.median("malignancy")
    print("\nScore by the readers' median (3 took no part in fits):")
    for value in np.unique(middle):
        low, half, high = np.percentile(scores[middle == value], (25, 50, 75))
        print(
            f"  {value:.1f}: {np.sum(middle == value):4} nodules, {low:.2f} {half:.2f} {high:.2f}"
        )


def _signs(every: Rated) -> dict[str, Any]:
    folds = logistic.patient_folds(every.patients.tolist(), FOLDS)
    print(f"\nSigns, all {len(folds)} nodules of >= {LEAST_READERS} readers; yes by the median:")
    print(f"{'':27} {_HEAD}")
    kept = {}
    for sign, (rating, least) in SIGNS.items():
        yes = every.median(rating) >= least
        logits, _ = logistic.cross_validate(features(every), yes, folds)
        between = logistic.intervals(logits, yes, every.patients.tolist())
        kept[sign] = _row(f"{sign} ({yes.sum()} yes)", logistic.figures(logits, yes), between)
    return kept


def fit_all(every: Rated) -> dict[str, Linear]:
    """Return the models that the service gets: the same fits on all nodules."""
    rows, yes = definite(every, _median, LEAST_READERS)
    rated = every.chosen(rows)
    folds = logistic.patient_folds(rated.patients.tolist(), FOLDS)
    fitted = logistic.fit_calibrated(features(rated)[:, _TAKEN], yes, folds)
    weights = np.zeros(len(reader_score.FEATURES))
    weights[_TAKEN] = fitted.coefficients
    models = {reader_score.MALIGNANCY: Linear(fitted.intercept, weights)}
    folds = logistic.patient_folds(every.patients.tolist(), FOLDS)
    for sign, (rating, least) in SIGNS.items():
        answer = every.median(rating) >= least
        models[sign] = logistic.fit_calibrated(features(every), answer, folds)
    return models


def parameters(every: Rated) -> dict[str, Any]:
    """Return the content of the service's file of parameters, see `reader_score.read_model`."""
    rows, _ = definite(every, _median, LEAST_READERS)
    inputs = features(every.chosen(rows))
    low, high = np.percentile(inputs, _RANGE, axis=0)
    average = inputs.mean(axis=0)
    # A density is yes or no, however rare.
    low[-len(reader_score.DENSITIES) :], high[-len(reader_score.DENSITIES) :] = 0.0, 1.0
    return {
        "name": NAME,
        "version": VERSION,
        "source": SOURCE,
        "basis": BASIS,
        "features": [
            {"name": name, "average": round(a, 6), "low": round(b, 6), "high": round(c, 6)}
            for name, a, b, c in zip(
                reader_score.FEATURES, average.tolist(), low.tolist(), high.tolist(), strict=True
            )
        ],
        "models": {
            name: {
                "intercept": round(float(model.logit(average[None])[0]), 6),
                "coefficients": [round(float(weight), 6) for weight in model.coefficients],
            }
            for name, model in fit_all(every).items()
        },
    }


def reliability(logits: Floats, yes: Bools) -> list[tuple[float, float, int]]:
    """Return mean probability, share of yes and count in bins of equal count."""
    p = logistic.sigmoid(logits)
    return [
        (float(p[rows].mean()), float(yes[rows].mean()), len(rows))
        for rows in np.array_split(np.argsort(p, kind="stable"), _BINS)
    ]


def _plot(path: Path, study: Study) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = reliability(study.logits, study.yes)
    figure, axes = pyplot.subplots(figsize=(3.6, 3.6), dpi=100)
    axes.plot([0, 1], [0, 1], color="0.7")
    axes.plot([p for p, _, _ in points], [share for _, share, _ in points], "o-")
    axes.set(xlabel="predicted", ylabel="readers' median 4-5", title=f"{NAME} {VERSION}")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


def write(every: Rated, kept: dict[str, Any]) -> None:
    """Write the service's parameters, the card and the reliability plot."""
    study = Study(every)
    text = json.dumps(parameters(every), indent=2) + "\n"
    reader_score.PARAMETERS.write_text(text, encoding="utf-8")
    CARD.mkdir(exist_ok=True)
    card = {
        "name": NAME,
        "version": VERSION,
        "title": "How malignant a nodule looks to LIDC-IDRI's readers",
        "description": "Logistic models on shape and density type. " + BASIS.capitalize() + ".",
        "made_by": "python -m models.training.malignancy --write",
        "licence": "Apache-2.0; fitted on LIDC-IDRI, CC BY 3.0",
        "parameters": "services/lungmesh/malignancy/malignancy_lidc.json",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "intended_use": {
            "purpose": "A second opinion on how suspicious a nodule looks; research use",
            "nodule_types": ["solid", "part_solid", "non_solid", "calcified"],
            "nodule_diameter_mm": {"min": 3, "max": 30},
        },
        "figures": kept,
        "reliability": [
            {"predicted": round(p, 4), "observed": round(share, 4), "nodules": count}
            for p, share, count in reliability(study.logits, study.yes)
        ],
    }
    (CARD / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    _plot(CARD / "reliability.png", study)


def main() -> None:
    """Print all figures; with --write, make what the service and the card hold."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--write", action="store_true", help="parameters, card and plot")
    every = rated_nodules()
    kept = report(every)
    if options.parse_args().write:
        write(every, kept)


if __name__ == "__main__":
    main()
