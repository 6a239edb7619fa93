"""How malignant a nodule would look to LIDC-IDRI's readers, and how they would rate its signs.

Logistic models on the nodule's shape and density type. `models/training/malignancy.py` fits them
and writes the parameters that lie beside this file; their card is
`models/malignancy_lidc/README.md`. They learnt readers' opinions, not pathology.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lungmesh.malignancy import shape
from lungmesh.malignancy.shape import Shape
from lungmesh.v1 import nodule_pb2

PARAMETERS = Path(__file__).with_name("malignancy_lidc.json")
MALIGNANCY = "malignancy"
# The signs whose rating a map was fitted to, as the service names them.
SIGNS = ("lobulation", "spiculation", "round_shape", "clear_border")
# Beside the shape: yes or no for each density; solid is neither of them.
DENSITIES = {
    "part_solid": nodule_pb2.NODULE_TYPE_PART_SOLID,
    "non_solid": nodule_pb2.NODULE_TYPE_NON_SOLID,
    "calcified": nodule_pb2.NODULE_TYPE_CALCIFIED,
}
FEATURES = (*shape.NAMES, *DENSITIES)
# What is felt as a ratio enters by its logarithm, shares near 0 by their root.
_LOGARITHM = ("diameter_mm",)
_ROOT = ("notches", "protrusions", "outline_lobes", "outline_spikes")
_TYPES = frozenset({nodule_pb2.NODULE_TYPE_SOLID, *DENSITIES.values()})
_DIAMETERS_MM = (3.0, 30.0)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contribution:
    """What one input added to the log-odds, against the average nodule of the training data.

    `nodule_type` has the number of the NoduleType as its value.
    """

    feature: str
    value: float
    logit: float


@dataclass(frozen=True)
class ReaderScore:
    """The score of one nodule.

    Attributes
    ----------
    probability
        That the readers' median is 4 or 5, where it is 4, 5, 1 or 2.
    contributions
        The largest first.
    signs
        Probability of each of `SIGNS`.
    outside_intended_use
        Why the nodule lies outside what the score was made for.
    """

    probability: float
    contributions: tuple[Contribution, ...]
    signs: Mapping[str, float]
    outside_intended_use: tuple[str, ...]


@dataclass(frozen=True)
class ReaderModel:
    """The fitted models.

    Attributes
    ----------
    average, low, high
        (features,) Average of the training data, and the range that inputs are kept within; all of
        inputs as `inputs` gives them.
    intercepts, coefficients
        By model, `MALIGNANCY` and `SIGNS`: log-odds of the average nodule, and (features,) of the
        difference from it.
    """

    name: str
    version: str
    source: str
    basis: str
    average: Floats
    low: Floats
    high: Floats
    intercepts: Mapping[str, float]
    coefficients: Mapping[str, Floats]

    def score(self, measured: Shape, kind: int) -> ReaderScore:
        """Return the score of a nodule.

        Parameters
        ----------
        kind
            Number of its NoduleType.
        """
        raw = [*measured.as_tuple(), *densities(kind)]
        row = inputs(np.array([raw]))[0]
        away = np.clip(row, self.low, self.high) - self.average
        parts = self.coefficients[MALIGNANCY] * away
        first_density = len(shape.NAMES)
        contributions = [
            *(
                Contribution(name, float(value), float(part))
                for name, value, part in zip(shape.NAMES, raw, parts, strict=False)
                if part
            ),
            Contribution("nodule_type", float(kind), float(parts[first_density:].sum())),
        ]
        return ReaderScore(
            probability=_probability(self.intercepts[MALIGNANCY] + float(parts.sum())),
            contributions=tuple(sorted(contributions, key=lambda part: -abs(part.logit))),
            signs={
                sign: _probability(self.intercepts[sign] + float(self.coefficients[sign] @ away))
                for sign in SIGNS
            },
            outside_intended_use=tuple(_outside(measured, kind)),
        )


def inputs(raw: Floats) -> Floats:
    """Return features as the models take them, (n, features) in the order of `FEATURES`."""
    out = raw.astype(np.float64)
    for name in _LOGARITHM:
        out[:, FEATURES.index(name)] = np.log(out[:, FEATURES.index(name)])
    for name in _ROOT:
        out[:, FEATURES.index(name)] = np.sqrt(np.maximum(out[:, FEATURES.index(name)], 0))
    return out


def densities(kind: int) -> list[float]:
    """Return the yes or no of each of `DENSITIES` for a NoduleType."""
    return [float(kind == density) for density in DENSITIES.values()]


@cache
def read_model(path: Path = PARAMETERS) -> ReaderModel:
    """Return the model in a file of parameters.

    Raises ValueError when it was made for other features.
    """
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    features = facts["features"]
    if tuple(feature["name"] for feature in features) != FEATURES:
        raise ValueError(f"{path} is for other features than {', '.join(FEATURES)}")
    models = {name: facts["models"][name] for name in (MALIGNANCY, *SIGNS)}
    return ReaderModel(
        name=facts["name"],
        version=facts["version"],
        source=facts["source"],
        basis=facts["basis"],
        average=np.array([feature["average"] for feature in features]),
        low=np.array([feature["low"] for feature in features]),
        high=np.array([feature["high"] for feature in features]),
        intercepts={name: float(model["intercept"]) for name, model in models.items()},
        coefficients={name: np.array(model["coefficients"]) for name, model in models.items()},
    )


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _outside(measured: Shape, kind: int) -> list[str]:
    low, high = _DIAMETERS_MM
    out = []
    if not low <= measured.diameter_mm <= high:
        out.append(f"the score was made on nodules of {low:g} to {high:g} mm")
    if kind not in _TYPES:
        out.append("the score knows solid, part-solid, non-solid and calcified nodules only")
    return out
