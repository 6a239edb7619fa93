"""What is recommended to the team, and what is asked."""

from __future__ import annotations

import pytest

from lungmesh.mdt.recommend import recommend
from lungmesh.v1 import nodule_pb2, study_pb2
from lungmesh.v1.mdt_pb2 import MdtRecommended
from lungmesh.v1.nodule_pb2 import Nodule, PriorMatch, RiskScore
from tests.support.mdt import category, followed_up, nodule, risk

BTS = "BTS 2015 (Callister MEJ et al. Thorax 2015;70 Suppl 2:ii1)"


def bts_texts(recommended: MdtRecommended) -> list[str]:
    return [option.text_en for option in recommended.options if option.source == BTS]


def asked(recommended: MdtRecommended) -> list[str]:
    return [question.code for question in recommended.open_questions]


def grown(days: float | None, change_percent: float) -> Nodule:
    one = nodule()
    match = PriorMatch(
        study_id="p",
        nodule_id="n",
        study_date="20190101",
        mean_diameter_mm=10,
        volume_mm3=500,
        volume_change_percent=change_percent,
    )
    if days is not None:
        match.volume_doubling_time_days = days
    one.tracking.priors.append(match)
    return one


@pytest.mark.parametrize(
    ("guideline", "name", "needed"),
    [("Lung-RADS", "3", False), ("Lung-RADS", "4A", True), ("Lung-RADS", "4B", True),
     ("Lung-RADS", "4X", True), ("Lung-RADS", "4AS", True), ("Lung-RADS", "2S", False),
     ("Lung-RADS", "0", False), ("C-Lung-RADS", "2", False), ("C-Lung-RADS", "3", True),
     ("C-Lung-RADS", "4", True), ("Fleischner", "4", False)],
)  # fmt: skip
def test_the_exams_category_decides_whether_the_team_is_needed(
    guideline: str, name: str, needed: bool
) -> None:
    event = followed_up(exam=(category(guideline, name),))
    assert recommend(event).discussion_needed is needed


def test_each_guidelines_management_is_an_option_with_edition_and_source() -> None:
    event = followed_up(exam=(category("Lung-RADS", "4A"), category("C-Lung-RADS", "3")))
    options = recommend(event).options
    assert [(option.text_en, option.text_zh, option.source) for option in options] == [
        ("Lung-RADS v0 4A: manage 4A", "Lung-RADS v0 4A：处理 4A", "Lung-RADS paper"),
        ("C-Lung-RADS v0 3: manage 3", "C-Lung-RADS v0 3：处理 3", "C-Lung-RADS paper"),
    ]


def test_a_guideline_without_a_category_says_and_asks_what_it_needs() -> None:
    event = followed_up(exam=(category("Lung-RADS", "", needs=("cyst_wall",)),))
    recommended = recommend(event)
    (option,) = recommended.options
    assert option.text_en == "Lung-RADS v0: no category yet; it needs cyst wall"
    assert asked(recommended) == ["prior_ct", "cyst_wall"]


def test_only_nodules_that_ask_for_the_team_are_staged() -> None:
    event = followed_up(nodule(1, long_axis_mm=25), nodule(2, long_axis_mm=7, lung_rads="3"))
    (stage,) = recommend(event).staging
    assert stage.nodule_id == event.nodules[0].nodule_id
    assert (stage.t_category, stage.stage_if_n0_m0) == ("cT1c", "IA3")


@pytest.mark.parametrize(
    ("score", "text"),
    [(risk("brock", 0.0999), "CT surveillance (nodule 1: Brock 10.0 %)"),
     (risk("brock", 0.10), "PET/CT, then the Herder model (nodule 1: Brock 10.0 %)"),
     (risk("brock", 0.42), "PET/CT, then the Herder model (nodule 1: Brock 42.0 %)")],
)  # fmt: skip
def test_brock_from_10_percent_on_asks_for_pet(score: RiskScore, text: str) -> None:
    assert bts_texts(recommend(followed_up(nodule(risks=(score,))))) == [text]


def test_a_risk_range_across_the_threshold_names_both_ways() -> None:
    score = risk("brock", 0.04, 0.31, missing=("sex", "emphysema"))
    recommended = recommend(followed_up(nodule(risks=(score,))))
    assert bts_texts(recommended) == [
        "PET/CT, then the Herder model, if what is missing settles the risk so "
        "(nodule 1: Brock 4.0–31.0 %)",
        "CT surveillance, if what is missing settles the risk so (nodule 1: Brock 4.0–31.0 %)",
    ]
    assert {"sex", "emphysema"} <= set(asked(recommended))


@pytest.mark.parametrize(
    ("probability", "start"),
    [(0.0999, "CT surveillance ("), (0.10, "Biopsy (or excision, or CT surveillance) ("),
     (0.70, "Biopsy (or excision, or CT surveillance) ("),
     (0.7001, "Excision or non-surgical treatment (")],
)  # fmt: skip
def test_herder_replaces_brock_once_the_pet_is_known(probability: float, start: str) -> None:
    risks = (risk("brock", 0.5), risk("herder", probability))
    (text,) = bts_texts(recommend(followed_up(nodule(risks=risks))))
    assert text.startswith(start)
    assert "Herder" in text


def test_herder_without_a_pet_says_nothing() -> None:
    risks = (risk("brock", 0.5), risk("herder", 0.1, 0.9, missing=("fdg_uptake",)))
    assert bts_texts(recommend(followed_up(nodule(risks=risks)))) == [
        "PET/CT, then the Herder model (nodule 1: Brock 50.0 %)"
    ]


def test_a_risk_outside_the_models_intended_use_is_said_so() -> None:
    score = risk("brock", 0.5)
    score.outside_intended_use.append("age above 75")
    (text,) = bts_texts(recommend(followed_up(nodule(risks=(score,)))))
    assert "outside the model's intended use" in text


def test_nodules_of_the_same_action_share_one_option() -> None:
    event = followed_up(
        nodule(1, risks=(risk("brock", 0.5),)), nodule(2, risks=(risk("brock", 0.2),))
    )
    assert bts_texts(recommend(event)) == [
        "PET/CT, then the Herder model (nodule 1: Brock 50.0 %; nodule 2: Brock 20.0 %)"
    ]


@pytest.mark.parametrize(
    "kind", [nodule_pb2.NODULE_TYPE_PART_SOLID, nodule_pb2.NODULE_TYPE_NON_SOLID]
)
def test_bts_thresholds_are_not_applied_to_subsolid_nodules(
    kind: nodule_pb2.NoduleType.ValueType,
) -> None:
    event = followed_up(nodule(kind=kind, solid_long_axis_mm=9, risks=(risk("brock", 0.5),)))
    assert bts_texts(recommend(event)) == []


@pytest.mark.parametrize(("mm", "said"), [(7.9, False), (8.0, True)])
def test_brock_is_asked_from_8_mm_on(mm: float, said: bool) -> None:
    one = nodule(long_axis_mm=mm, risks=(risk("brock", 0.5),))
    one.measurement.volume_mm3 = 299.9
    assert bool(bts_texts(recommend(followed_up(one)))) is said
    one.measurement.volume_mm3 = 300.0
    assert bts_texts(recommend(followed_up(one)))


@pytest.mark.parametrize(
    ("days", "start"),
    [(400, "Work-up of a growing nodule ("), (401, "Biopsy or CT surveillance ("),
     (600, "Biopsy or CT surveillance ("), (601, "CT surveillance or discharge (")],
)  # fmt: skip
def test_the_volume_doubling_time_names_an_action(days: float, start: str) -> None:
    (text,) = bts_texts(recommend(followed_up(grown(days, change_percent=40))))
    assert text == f"{start}nodule 1: volume doubling time {days} days)"


@pytest.mark.parametrize(("days", "change"), [(300, 24.9), (-300, -40), (None, 0)])
def test_a_change_within_measurement_error_or_a_shrinking_nodule_names_none(
    days: float | None, change: float
) -> None:
    assert bts_texts(recommend(followed_up(grown(days, change)))) == []


def test_the_team_is_asked_for_stage_pet_histology_and_fitness() -> None:
    assert asked(recommend(followed_up(nodule()))) == [
        "prior_ct",
        "tumour_extent",
        "n_category",
        "m_category",
        "fdg_uptake",
        "histology",
        "lung_function",
        "ever_smoker",
    ]


def test_what_is_known_is_not_asked() -> None:
    clinical = study_pb2.ClinicalContext(ever_smoker=False, fdg_uptake=study_pb2.FDG_UPTAKE_NONE)
    codes = asked(recommend(followed_up(nodule(), clinical=clinical)))
    assert not {"ever_smoker", "fdg_uptake"} & set(codes)


def test_an_exam_without_a_suspicious_nodule_asks_only_for_a_prior() -> None:
    quiet = nodule(lung_rads="2", risks=(risk("brock", 0.0, 0.2, missing=("sex",)),))
    recommended = recommend(followed_up(quiet))
    assert not recommended.discussion_needed
    assert asked(recommended) == ["prior_ct"]
    assert not recommended.staging


def test_a_covariate_of_a_later_model_is_asked_by_its_own_name() -> None:
    event = followed_up(nodule(risks=(risk("new", 0, 1, missing=("asbestos_years",)),)))
    question = recommend(event).open_questions[-1]
    assert (question.code, question.text_en) == (
        "asbestos_years",
        "Unknown to a risk model: asbestos years.",
    )
