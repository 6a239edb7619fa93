"""Logistic regression with a ridge, Platt's calibration, and the figures of a classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]
# On standardised inputs: calcified nodules are all benign, without it their weight has no end.
RIDGE = 0.3
_INNER_FOLDS = 5
_STEPS, _ENOUGH = 100, 1e-9


@dataclass(frozen=True)
class Linear:
    """Log-odds = intercept + coefficients · inputs."""

    intercept: float
    coefficients: Floats

    def logit(self, inputs: Floats) -> Floats:
        """Return the log-odds of each row, (n, k) → (n,)."""
        logits: Floats = self.intercept + inputs @ self.coefficients
        return logits


@dataclass(frozen=True)
class Figures:
    """How well probabilities tell yes from no.

    Attributes
    ----------
    auc
        Area under the ROC curve.
    specificity
        At the threshold that 95 % of the yes reach.
    brier
        Mean squared error of the probabilities.
    slope, intercept
        Of the calibration line on the log-odds: 1 and 0 when calibrated (Cox, Biometrika 1958).
    """

    auc: float
    specificity: float
    brier: float
    slope: float
    intercept: float


def sigmoid(logits: Floats) -> Floats:
    """Return probabilities of log-odds."""
    probabilities: Floats = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return probabilities


def fit(inputs: Floats, yes: Bools, ridge: float = RIDGE) -> Linear:
    """Fit by Newton's method; the ridge acts on standardised inputs, not on the intercept.

    Parameters
    ----------
    inputs
        (n, k).
    yes
        (n,), both values among them.
    """
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    design = np.column_stack([np.ones(len(yes)), (inputs - mean) / spread])
    penalty = np.diag([1e-9, *[ridge] * inputs.shape[1]])
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(design @ weights)
        gradient = design.T @ (p - yes) + penalty @ weights
        step = np.linalg.solve((design.T * (p * (1 - p))) @ design + penalty, gradient)
        # Far from the answer a whole step may overshoot.
        weights = weights - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < _ENOUGH:
            break
    coefficients = weights[1:] / spread
    return Linear(float(weights[0] - coefficients @ mean), coefficients)


def fit_calibrated(inputs: Floats, yes: Bools, folds: Whole, ridge: float = RIDGE) -> Linear:
    """Fit, then stretch the log-odds by Platt's line, learnt on inner folds that were left out.

    Platt, Advances in Large Margin Classifiers 1999:61. The line is folded into the result.

    Parameters
    ----------
    folds
        Of each row; rows of one patient share theirs.
    """
    left_out = np.zeros(len(yes))
    inner = folds % _INNER_FOLDS
    for fold in np.unique(inner):
        out = inner == fold
        left_out[out] = fit(inputs[~out], yes[~out], ridge).logit(inputs[out])
    platt = fit(left_out[:, None], yes, ridge=1e-6)
    whole = fit(inputs, yes, ridge)
    slope = float(platt.coefficients[0])
    return Linear(platt.intercept + slope * whole.intercept, slope * whole.coefficients)


def cross_validate(
    inputs: Floats, yes: Bools, folds: Whole, fitted: Callable[..., Linear] = fit_calibrated
) -> tuple[Floats, list[Linear]]:
    """Return the log-odds of every row from a fit that saw no row of its fold, and the fits.

    Parameters
    ----------
    inputs, yes, folds
        (n, k), (n,), (n,).
    """
    logits = np.zeros(len(yes))
    fits = []
    for fold in np.unique(folds):
        out = folds == fold
        fits.append(fitted(inputs[~out], yes[~out], folds[~out]))
        logits[out] = fits[-1].logit(inputs[out])
    return logits, fits


def patient_folds(patients: Sequence[str], count: int) -> Whole:
    """Return each row's fold, by a hash of the patient's id."""
    return np.array(
        [int(hashlib.sha256(f"fold {name}".encode()).hexdigest(), 16) % count for name in patients]
    )


def auc(scores: Floats, yes: Bools) -> float:
    """Return the share of (yes, no) pairs in the right order; ties count half."""
    _, rank, count = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2
    positives = int(yes.sum())
    total = float(middle[rank][yes].sum()) - positives * (positives + 1) / 2
    return total / (positives * (len(yes) - positives))


def threshold_at(scores: Floats, yes: Bools, sensitivity: float = 0.95) -> float:
    """Return the largest threshold that this share of the yes reaches."""
    ordered = np.sort(scores[yes])
    return float(ordered[int((1 - sensitivity) * len(ordered) + 1e-9)])


def figures(logits: Floats, yes: Bools) -> Figures:
    """Return the figures of log-odds."""
    line = fit(logits[:, None], yes, ridge=1e-6)
    return Figures(
        auc=auc(logits, yes),
        specificity=float(np.mean(logits[~yes] < threshold_at(logits, yes))),
        brier=float(np.mean((sigmoid(logits) - yes) ** 2)),
        slope=float(line.coefficients[0]),
        intercept=line.intercept,
    )


def intervals(
    logits: Floats, yes: Bools, patients: Sequence[str], draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the figures from drawing patients anew with replacement."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    rows = [np.flatnonzero(index == patient) for patient in range(len(names))]
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = np.concatenate([rows[p] for p in random.integers(0, len(rows), len(rows))])
        if 0 < yes[chosen].sum() < len(chosen):
            drawn.append(vars(figures(logits[chosen], yes[chosen])))
    return {
        name: (
            float(np.percentile([draw[name] for draw in drawn], 2.5)),
            float(np.percentile([draw[name] for draw in drawn], 97.5)),
        )
        for name in drawn[0]
    }
