"""Five published models of a nodule's probability of malignancy, as data and their formulas.

A covariate that is not known is never guessed: the score then has no probability, names what is
missing, and gives the range of p over every value that the missing covariates may have. All models
are monotone in each number, so the ends of its range suffice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product

from lungmesh.v1 import nodule_pb2, study_pb2

_YES_NO = (0.0, 1.0)
# Values that a missing number may have: the ages that lung screening and the models' own cohorts
# span, and a lifetime's range of years since quitting.
_AGES = (40.0, 85.0)
_QUIT_YEARS = (0.0, 50.0)
_UPTAKE = {
    study_pb2.FDG_UPTAKE_NONE: 0.0,
    study_pb2.FDG_UPTAKE_FAINT: 2.322,
    study_pb2.FDG_UPTAKE_MODERATE: 4.617,
    study_pb2.FDG_UPTAKE_INTENSE: 4.771,
}
_SOLID, _PART_SOLID, _NON_SOLID, _CALCIFIED, _FAT = (
    float(kind)
    for kind in (
        nodule_pb2.NODULE_TYPE_SOLID,
        nodule_pb2.NODULE_TYPE_PART_SOLID,
        nodule_pb2.NODULE_TYPE_NON_SOLID,
        nodule_pb2.NODULE_TYPE_CALCIFIED,
        nodule_pb2.NODULE_TYPE_FAT_CONTAINING,
    )
)
# Brock's weight of a nodule's density; calcified and fatty ones are solid by density.
_BROCK_TYPE = {
    _SOLID: 0.0,
    _CALCIFIED: 0.0,
    _FAT: 0.0,
    _PART_SOLID: 0.3770,
    _NON_SOLID: -0.1276,
}

Values = Mapping[str, float]


@dataclass(frozen=True)
class Covariates:
    """What is known of patient and nodule; None is unknown. Yes is 1, no is 0.

    Attributes
    ----------
    age_years, years_since_quitting
        Years; the latter is 0 for a smoker and for someone who never smoked.
    sex
        1 for female, 0 for male.
    fdg_uptake
        The Herder model's weight of the uptake, see `uptake_weight`.
    nodule_type
        Number of the NoduleType, see `density_type`.
    diameter_mm
        The nodule's mean diameter.
    """

    age_years: float | None = None
    sex: float | None = None
    ever_smoker: float | None = None
    years_since_quitting: float | None = None
    family_history_of_lung_cancer: float | None = None
    family_history_of_cancer: float | None = None
    emphysema: float | None = None
    extrathoracic_cancer: float | None = None
    fdg_uptake: float | None = None
    nodule_type: float | None = None
    diameter_mm: float | None = None
    nodule_count: float | None = None
    upper_lobe: float | None = None
    spiculation: float | None = None
    calcification: float | None = None
    clear_border: float | None = None


@dataclass(frozen=True)
class Limit:
    """A bound of a model's intended use.

    Attributes
    ----------
    covariate
        What is judged; not when it is not known.
    inside
        First and last value inside, or the set of them.
    sentence
        Why a case beyond it is outside; from the model's own paper unless it names another source.
    """

    covariate: str
    inside: tuple[float, float] | frozenset[float]
    sentence: str

    def holds(self, value: float) -> bool:
        """Return whether a value lies inside."""
        if isinstance(self.inside, frozenset):
            return value in self.inside
        return self.inside[0] <= value <= self.inside[1]


@dataclass(frozen=True)
class Score:
    """A model's word on a nodule.

    Attributes
    ----------
    probability
        None while a covariate is missing.
    low, high
        Range of p over the values of what is missing; equal when nothing is.
    outside_intended_use
        Why patient or nodule lie outside what the model was made for.
    """

    probability: float | None
    low: float
    high: float
    missing: tuple[str, ...]
    outside_intended_use: tuple[str, ...]


@dataclass(frozen=True)
class RiskModel:
    """A published model.

    Attributes
    ----------
    ranges
        Each covariate that the model takes, with the values that stand in for a missing one: the
        ends of a number's range, or every value of a choice.
    x
        The linear predictor; p = 1 / (1 + e^−x).
    """

    name: str
    version: str
    source: str
    ranges: Mapping[str, tuple[float, ...]]
    x: Callable[[Values], float]
    limits: tuple[Limit, ...]

    def score(self, known: Covariates) -> Score:
        """Return the probability of malignancy, or its range.

        Raises ValueError when the nodule's own size is not known.
        """
        values = {
            name: value for name in self.ranges if (value := getattr(known, name)) is not None
        }
        missing = tuple(name for name in self.ranges if name not in values)
        if "diameter_mm" in missing:
            raise ValueError(f"{self.name} needs the nodule's diameter_mm")
        found = [_logistic(self.x(case)) for case in self._cases(values, missing)]
        return Score(
            probability=None if missing else found[0],
            low=min(found),
            high=max(found),
            missing=missing,
            outside_intended_use=tuple(
                limit.sentence
                for limit in self.limits
                if (value := getattr(known, limit.covariate)) is not None and not limit.holds(value)
            ),
        )

    def _cases(self, values: Values, missing: tuple[str, ...]) -> Iterator[dict[str, float]]:
        for ends in product(*(self.ranges[name] for name in missing)):
            case = {**values, **dict(zip(missing, ends, strict=True))}
            if not case.get("ever_smoker", 1.0) and "years_since_quitting" in case:
                # Who never smoked has not quit.
                case["years_since_quitting"] = 0.0
            yield case


def uptake_weight(uptake: int) -> float | None:
    """Return Herder's weight of an FdgUptake; None when there is no PET."""
    return _UPTAKE.get(uptake)  # type: ignore[call-overload, no-any-return]


def density_type(nodule_type: int) -> float | None:
    """Return a NoduleType as the covariate; None for one that is no density, such as airway."""
    return float(nodule_type) if nodule_type in _BROCK_TYPE else None


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _brock(v: Values) -> float:
    return (
        -6.7892
        + 0.0287 * (v["age_years"] - 62)
        + 0.6011 * v["sex"]
        + 0.2961 * v["family_history_of_lung_cancer"]
        + 0.2953 * v["emphysema"]
        + _BROCK_TYPE[v["nodule_type"]]
        + 0.6581 * v["upper_lobe"]
        - 0.0824 * (v["nodule_count"] - 4)
        + 0.7729 * v["spiculation"]
        - 5.3854 * (math.sqrt(10 / v["diameter_mm"]) - 1.58113883)
    )


def _mayo(v: Values) -> float:
    return (
        -6.8272
        + 0.0391 * v["age_years"]
        + 0.7917 * v["ever_smoker"]
        + 1.3388 * v["extrathoracic_cancer"]
        + 0.1274 * v["diameter_mm"]
        + 1.0407 * v["spiculation"]
        + 0.7838 * v["upper_lobe"]
    )


def _va(v: Values) -> float:
    return (
        -8.404
        + 2.061 * v["ever_smoker"]
        + 0.779 * v["age_years"] / 10
        + 0.112 * v["diameter_mm"]
        - 0.567 * v["years_since_quitting"] / 10
    )


def _peking(v: Values) -> float:
    return (
        -4.496
        + 0.07 * v["age_years"]
        + 0.676 * v["diameter_mm"] / 10
        + 0.736 * v["spiculation"]
        + 1.267 * v["family_history_of_cancer"]
        - 1.615 * v["calcification"]
        - 1.408 * v["clear_border"]
    )


def _herder(v: Values) -> float:
    return -4.739 + 3.691 * _logistic(_mayo(v)) + v["fdg_uptake"]


# Always measured, never missing.
_SIZE: dict[str, tuple[float, ...]] = {"diameter_mm": ()}
_MAYO_RANGES: dict[str, tuple[float, ...]] = {
    "age_years": _AGES,
    "ever_smoker": _YES_NO,
    "extrathoracic_cancer": _YES_NO,
    **_SIZE,
    "spiculation": _YES_NO,
    "upper_lobe": _YES_NO,
}
_SOLITARY = Limit("nodule_count", (0, 1), "the model was made for a solitary nodule")
_NOT_BENIGN = Limit(
    "nodule_type",
    frozenset({_SOLID, _PART_SOLID, _NON_SOLID}),
    "no model is asked where calcium or fat says benign (BTS 2015)",
)
_RADIOGRAPH = Limit(
    "nodule_type",
    frozenset({_SOLID, _CALCIFIED, _FAT}),
    "the model was made on nodules found on chest radiographs, not on subsolid ones",
)
_NOT_A_MASS = Limit("diameter_mm", (0, 30), "larger than 30 mm: a mass, not a nodule")

BROCK = RiskModel(
    name="Brock",
    version="2013, full with spiculation",
    source="McWilliams et al., N Engl J Med 2013;369:910",
    ranges={
        "age_years": _AGES,
        "sex": _YES_NO,
        "family_history_of_lung_cancer": _YES_NO,
        "emphysema": _YES_NO,
        "nodule_type": (_SOLID, _PART_SOLID, _NON_SOLID),
        "upper_lobe": _YES_NO,
        "nodule_count": (1.0, 12.0),
        "spiculation": _YES_NO,
        **_SIZE,
    },
    x=_brock,
    limits=(
        Limit("age_years", (50, 75), "the model was made on people of 50 to 75 years"),
        Limit("ever_smoker", (1, 1), "the model was made on current and former smokers"),
        _NOT_A_MASS,
        _NOT_BENIGN,
    ),
)
MAYO = RiskModel(
    name="Mayo",
    version="1997",
    source="Swensen et al., Arch Intern Med 1997;157:849",
    ranges=_MAYO_RANGES,
    x=_mayo,
    limits=(
        Limit("diameter_mm", (4, 30), "the model was made on nodules of 4 to 30 mm"),
        _SOLITARY,
        _NOT_BENIGN,
        _RADIOGRAPH,
    ),
)
VA = RiskModel(
    name="VA",
    version="2007",
    source="Gould et al., Chest 2007;131:383",
    ranges={
        "age_years": _AGES,
        "ever_smoker": _YES_NO,
        **_SIZE,
        "years_since_quitting": _QUIT_YEARS,
    },
    x=_va,
    limits=(
        Limit("diameter_mm", (7, 30), "the model was made on nodules of 7 to 30 mm"),
        Limit("sex", (0, 0), "the model was made on veterans, nearly all of them men"),
        _SOLITARY,
        _NOT_BENIGN,
        _RADIOGRAPH,
    ),
)
PEKING = RiskModel(
    name="Peking University",
    version="2011",
    source="Li Y et al., 2011 (Peking University)",
    ranges={
        "age_years": _AGES,
        **_SIZE,
        "spiculation": _YES_NO,
        "family_history_of_cancer": _YES_NO,
        "calcification": _YES_NO,
        "clear_border": _YES_NO,
    },
    x=_peking,
    limits=(_NOT_A_MASS, _SOLITARY),
)
HERDER = RiskModel(
    name="Herder",
    version="2005",
    source="Herder et al., Chest 2005;128:2490, on the Mayo model",
    ranges={**_MAYO_RANGES, "fdg_uptake": tuple(_UPTAKE.values())},
    x=_herder,
    limits=(
        Limit("diameter_mm", (8, 30), "PET/CT is advised from 8 mm on (BTS 2015)"),
        *MAYO.limits[1:],
    ),
)
MODELS = (BROCK, MAYO, VA, PEKING, HERDER)
COVARIATES = tuple(item.name for item in fields(Covariates))
