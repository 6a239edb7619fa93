"""The five published models: their vectors, and what a missing covariate does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungmesh.malignancy.risk_models import (
    BROCK,
    COVARIATES,
    HERDER,
    MAYO,
    MODELS,
    PEKING,
    VA,
    Covariates,
    RiskModel,
    density_type,
    uptake_weight,
)
from lungmesh.v1 import nodule_pb2, study_pb2

SOLID = density_type(nodule_pb2.NODULE_TYPE_SOLID)
PART_SOLID = density_type(nodule_pb2.NODULE_TYPE_PART_SOLID)
NON_SOLID = density_type(nodule_pb2.NODULE_TYPE_NON_SOLID)

# age, female, family, emphysema, type, upper, count, spiculated, size -> p
BROCK_VECTORS = [
    ((62, 0, 0, 0, SOLID, 0, 4, 0, 10), 0.025098),
    ((62, 1, 1, 1, PART_SOLID, 1, 1, 1, 15), 0.640240),
    ((55, 0, 0, 0, NON_SOLID, 1, 2, 0, 8), 0.021864),
]
BROCK_NAMES = (
    "age_years",
    "sex",
    "family_history_of_lung_cancer",
    "emphysema",
    "nodule_type",
    "upper_lobe",
    "nodule_count",
    "spiculation",
    "diameter_mm",
)
# age, smoker, cancer, diameter, spiculation, upper -> p
MAYO_VECTORS = [
    ((60, 1, 0, 12, 0, 1), 0.201507),
    ((72, 1, 1, 20, 1, 1), 0.923508),
    ((45, 0, 0, 6, 0, 0), 0.013343),
]
MAYO_NAMES = (
    "age_years",
    "ever_smoker",
    "extrathoracic_cancer",
    "diameter_mm",
    "spiculation",
    "upper_lobe",
)
# age, smoker, diameter, years since quitting -> p
VA_VECTORS = [((65, 1, 15, 5), 0.529217), ((50, 0, 9, 0), 0.029284)]
VA_NAMES = ("age_years", "ever_smoker", "diameter_mm", "years_since_quitting")
# age, diameter, spiculation, family, calcification, clear border -> p
PEKING_VECTORS = [((58, 18, 1, 0, 0, 0), 0.820067), ((40, 10, 0, 0, 1, 1), 0.017242)]
PEKING_NAMES = (
    "age_years",
    "diameter_mm",
    "spiculation",
    "family_history_of_cancer",
    "calcification",
    "clear_border",
)
CASES = [
    (model, dict(zip(names, values, strict=True)), p)
    for model, names, vectors in (
        (BROCK, BROCK_NAMES, BROCK_VECTORS),
        (MAYO, MAYO_NAMES, MAYO_VECTORS),
        (VA, VA_NAMES, VA_VECTORS),
        (PEKING, PEKING_NAMES, PEKING_VECTORS),
    )
    for values, p in vectors
]


@pytest.mark.parametrize(("model", "known", "p"), CASES)
def test_the_published_vectors_hold(model: RiskModel, known: dict[str, float], p: float) -> None:
    score = model.score(Covariates(**known))
    assert score.probability == pytest.approx(p, abs=1e-6)
    assert (score.low, score.high) == (score.probability, score.probability)
    assert score.missing == ()


# Covariates of the Mayo model that give the p which the Herder vector starts from.
@pytest.mark.parametrize(
    ("mayo_p", "uptake", "p"),
    [
        (0.30, study_pb2.FDG_UPTAKE_NONE, 0.025788),
        (0.30, study_pb2.FDG_UPTAKE_FAINT, 0.212537),
        (0.10, study_pb2.FDG_UPTAKE_INTENSE, 0.598952),
    ],
)
def test_herder_takes_the_mayo_probability(mayo_p: float, uptake: int, p: float) -> None:
    known = Covariates(
        age_years=60,
        ever_smoker=0,
        extrathoracic_cancer=0,
        spiculation=0,
        upper_lobe=0,
        fdg_uptake=uptake_weight(uptake),
    )
    low, high = 0.1, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        found = MAYO.score(replace(known, diameter_mm=middle)).probability
        assert found is not None
        low, high = (middle, high) if found < mayo_p else (low, middle)
    assert HERDER.score(replace(known, diameter_mm=low)).probability == pytest.approx(p, abs=1e-6)


def test_a_missing_covariate_is_named_and_gives_a_range_but_no_probability() -> None:
    score = VA.score(Covariates(age_years=65, ever_smoker=1, diameter_mm=15))
    assert score.probability is None
    assert score.missing == ("years_since_quitting",)
    assert score.low < 0.529217 < score.high


def test_who_never_smoked_has_no_years_since_quitting_to_miss() -> None:
    never = VA.score(Covariates(age_years=50, ever_smoker=0, diameter_mm=9))
    assert never.low == never.high == pytest.approx(0.029284, abs=1e-6)


def test_the_nodules_own_size_is_never_missing() -> None:
    with pytest.raises(ValueError, match="Mayo needs the nodule's diameter_mm"):
        MAYO.score(Covariates(age_years=60))


def test_beyond_its_intended_use_a_model_says_why() -> None:
    known = Covariates(age_years=30, diameter_mm=35, nodule_type=SOLID, nodule_count=3)
    assert BROCK.score(known).outside_intended_use == (
        "the model was made on people of 50 to 75 years",
        "larger than 30 mm: a mass, not a nodule",
    )
    assert "the model was made for a solitary nodule" in MAYO.score(known).outside_intended_use


FULL = st.fixed_dictionaries(
    {
        **{name: st.sampled_from([0.0, 1.0]) for name in COVARIATES},
        "age_years": st.floats(40, 85),
        "years_since_quitting": st.floats(0, 50),
        "diameter_mm": st.floats(3, 40),
        "nodule_count": st.integers(1, 12).map(float),
        "nodule_type": st.sampled_from([SOLID, PART_SOLID, NON_SOLID]),
        "fdg_uptake": st.sampled_from([0.0, 2.322, 4.617, 4.771]),
    }
)


@given(full=FULL, hidden=st.sets(st.sampled_from(COVARIATES)))
def test_the_range_holds_the_probability_whatever_is_hidden(
    full: dict[str, float], hidden: set[str]
) -> None:
    if not full["ever_smoker"]:
        full["years_since_quitting"] = 0.0
    known = {
        name: value for name, value in full.items() if name not in hidden or name == "diameter_mm"
    }
    for model in MODELS:
        whole = model.score(Covariates(**full))
        part = model.score(Covariates(**known))
        assert whole.probability is not None
        assert part.low - 1e-12 <= whole.probability <= part.high + 1e-12
        assert bool(part.missing) == (part.probability is None)
