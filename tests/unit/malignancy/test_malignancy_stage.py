"""The stage on a made-up exam: what it adds to each nodule, and what it leaves alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from lungmesh.malignancy.settings import MalignancySettings
from lungmesh.malignancy.stage import MalignancyStage
from lungmesh.mesh import Context, SettingsError
from lungmesh.mesh.arrays import write_array
from lungmesh.mesh.settings import load
from lungmesh.mesh.stage import run_stage
from lungmesh.v1 import nodule_pb2, study_pb2
from lungmesh.v1.nodule_pb2 import Nodule, NodulesAssessed, NodulesDetected, RiskScore
from lungmesh.v1.study_pb2 import ClinicalContext
from tests.support.report import Case, followup, made_up_case

SIGNS = {
    "spiculation",
    "lobulation",
    "smooth_margin",
    "clear_border",
    "calcification",
    "fat",
    "juxtapleural",
    "pleural_retraction",
    "vacuole",
    "air_bronchogram",
    "round_shape",
    "upper_lobe",
}
# Those that a map to readers' ratings was fitted for.
RATED = {"spiculation", "lobulation", "clear_border", "round_shape"}
KNOWN = ClinicalContext(
    age_years=62,
    sex=study_pb2.SEX_FEMALE,
    ever_smoker=True,
    years_since_quitting=0,
    family_history_of_lung_cancer=False,
    family_history_of_cancer=False,
    emphysema=False,
    extrathoracic_cancer=False,
    fdg_uptake=study_pb2.FDG_UPTAKE_FAINT,
)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made_up_case(tmp_path_factory.mktemp("malignancy"))


@pytest.fixture
def detected(case: Case) -> NodulesDetected:
    """Two nodules with scores 0.97 and 0.41, of a patient of whom everything is known."""
    made = followup(case, prior=False)
    event = NodulesDetected(study=made.study, exam=made.exam, models=made.models)
    for nodule in made.nodules:
        for later in ("assessment", "tracking", "categories"):
            nodule.ClearField(later)
        event.nodules.append(nodule)
    event.exam.clinical.CopyFrom(KNOWN)
    return event


def assess(case: Case, event: NodulesDetected, counted_from_score: float = 0.5) -> NodulesAssessed:
    stage = MalignancyStage(MalignancySettings(counted_from_score=counted_from_score))
    (output,) = asyncio.run(run_stage(stage, event, Context("event", case.blobs)))
    assert isinstance(output, NodulesAssessed)
    return output


def risk(nodule: Nodule, name: str) -> RiskScore:
    return next(score for score in nodule.assessment.risks if score.model.name == name)


def present(nodule: Nodule) -> set[str]:
    return {sign.name for sign in nodule.assessment.signs if sign.present}


def test_each_nodule_gets_every_sign_and_all_five_models(
    case: Case, detected: NodulesDetected
) -> None:
    assessed = assess(case, detected)
    for nodule in assessed.nodules:
        assert {sign.name for sign in nodule.assessment.signs} == SIGNS
        assert [score.model.name for score in nodule.assessment.risks] == [
            "Brock",
            "Mayo",
            "VA",
            "Peking University",
            "Herder",
        ]
        for score in nodule.assessment.risks:
            assert score.HasField("probability")
            assert score.low == score.high == score.probability
    named = {model.name for model in assessed.models}
    assert named >= {
        "signs-geometric",
        "malignancy_lidc",
        "Brock",
        *(model.name for model in detected.models),
    }


def test_a_dense_ball_in_lung_is_smooth_and_clear(case: Case, detected: NodulesDetected) -> None:
    lower, upper = assess(case, detected).nodules
    assert present(lower) == {"smooth_margin", "clear_border", "round_shape"}
    assert "upper_lobe" in present(upper)


def test_each_nodule_gets_the_readers_score_and_what_drove_it(
    case: Case, detected: NodulesDetected
) -> None:
    large, small = assess(case, detected).nodules
    for nodule in (large, small):
        score = nodule.assessment.reader_score
        assert score.model.name == "malignancy_lidc"
        assert "not on pathology" in score.basis
        features = [part.feature for part in score.contributions]
        assert {"diameter_mm", "nodule_type"} < set(features)
        assert len(features) == len(set(features))
        rated = {sign.name for sign in nodule.assessment.signs if sign.HasField("probability")}
        assert rated == RATED
    assert large.measurement.volume_mm3 > small.measurement.volume_mm3
    assert large.assessment.reader_score.probability > small.assessment.reader_score.probability


def test_a_calcified_nodule_looks_less_malignant(case: Case, detected: NodulesDetected) -> None:
    solid = assess(case, detected).nodules[0].assessment.reader_score.probability
    detected.nodules[0].type = nodule_pb2.NODULE_TYPE_CALCIFIED
    calcified = assess(case, detected).nodules[0].assessment.reader_score.probability
    assert calcified < solid


def test_densities_are_told_apart_by_their_probabilities(
    case: Case, detected: NodulesDetected
) -> None:
    for nodule in assess(case, detected).nodules:
        found = {each.type: each.probability for each in nodule.assessment.densities}
        assert set(found) == {
            nodule_pb2.NODULE_TYPE_SOLID,
            nodule_pb2.NODULE_TYPE_PART_SOLID,
            nodule_pb2.NODULE_TYPE_NON_SOLID,
        }
        assert sum(found.values()) == pytest.approx(1)


def test_what_detection_said_is_left_alone(case: Case, detected: NodulesDetected) -> None:
    assessed = assess(case, detected)
    for nodule in assessed.nodules:
        nodule.ClearField("assessment")
    assert list(assessed.nodules) == list(detected.nodules)
    assert (assessed.study, assessed.exam) == (detected.study, detected.exam)


def test_a_repeat_gives_the_same_bytes(case: Case, detected: NodulesDetected) -> None:
    first, again = (assess(case, detected).SerializeToString(deterministic=True) for _ in range(2))
    assert first == again


def test_an_exam_without_nodules_is_assessed_too(case: Case, detected: NodulesDetected) -> None:
    del detected.nodules[:]
    assert list(assess(case, detected).nodules) == []


def test_a_candidate_of_low_score_is_not_counted_as_a_nodule(
    case: Case, detected: NodulesDetected
) -> None:
    solitary = "the model was made for a solitary nodule"
    alone = assess(case, detected).nodules[0]
    assert solitary not in risk(alone, "VA").outside_intended_use
    both = assess(case, detected, counted_from_score=0.4).nodules[0]
    assert solitary in risk(both, "VA").outside_intended_use
    # Brock: more nodules, less risk each.
    assert risk(both, "Brock").probability < risk(alone, "Brock").probability


def test_what_nobody_said_of_the_patient_is_named(case: Case, detected: NodulesDetected) -> None:
    detected.exam.clinical.Clear()
    nodule = assess(case, detected).nodules[0]
    missing = {score.model.name: set(score.missing) for score in nodule.assessment.risks}
    assert missing == {
        "Brock": {"age_years", "sex", "family_history_of_lung_cancer", "emphysema"},
        "Mayo": {"age_years", "ever_smoker", "extrathoracic_cancer"},
        "VA": {"age_years", "ever_smoker", "years_since_quitting"},
        "Peking University": {"age_years", "family_history_of_cancer"},
        "Herder": {"age_years", "ever_smoker", "extrathoracic_cancer", "fdg_uptake"},
    }
    for score in nodule.assessment.risks:
        assert not score.HasField("probability")
        assert score.low < score.high


def test_brock_gives_both_sexes_range_for_another(case: Case, detected: NodulesDetected) -> None:
    scores = {}
    for sex in (study_pb2.SEX_MALE, study_pb2.SEX_FEMALE, study_pb2.SEX_OTHER):
        detected.exam.clinical.sex = sex
        scores[sex] = risk(assess(case, detected).nodules[0], "Brock")
    other = scores[study_pb2.SEX_OTHER]
    assert list(other.missing) == ["sex"]
    assert other.low == scores[study_pb2.SEX_MALE].probability
    assert other.high == scores[study_pb2.SEX_FEMALE].probability


def test_a_type_that_brock_does_not_know_gives_the_range_over_those_it_does(
    case: Case, detected: NodulesDetected
) -> None:
    scores = {}
    for kind in (
        nodule_pb2.NODULE_TYPE_NON_SOLID,
        nodule_pb2.NODULE_TYPE_PART_SOLID,
        nodule_pb2.NODULE_TYPE_AIRWAY,
    ):
        detected.nodules[0].type = kind
        scores[kind] = risk(assess(case, detected).nodules[0], "Brock")
    airway = scores[nodule_pb2.NODULE_TYPE_AIRWAY]
    assert list(airway.missing) == ["nodule_type"]
    assert airway.low == scores[nodule_pb2.NODULE_TYPE_NON_SOLID].probability
    assert airway.high == scores[nodule_pb2.NODULE_TYPE_PART_SOLID].probability


def test_a_subsolid_nodule_is_outside_what_radiograph_models_were_made_for(
    case: Case, detected: NodulesDetected
) -> None:
    detected.nodules[0].type = nodule_pb2.NODULE_TYPE_NON_SOLID
    nodule = assess(case, detected).nodules[0]
    for name in ("Mayo", "VA", "Herder"):
        assert any("radiograph" in why for why in risk(nodule, name).outside_intended_use)
    assert list(risk(nodule, "Brock").outside_intended_use) == []


def test_a_nodule_in_the_corner_of_the_volume_is_measured(
    case: Case, detected: NodulesDetected
) -> None:
    mask = nodule_pb2.MaskRef(
        voxels=write_array(case.blobs, "hospital/corner", np.ones((3, 4, 4), np.uint8)),
        offset=[0, 0, 0],
        size=[4, 4, 3],
    )
    detected.nodules[0].mask.CopyFrom(mask)
    assert {sign.name for sign in assess(case, detected).nodules[0].assessment.signs} == SIGNS


def test_a_wrong_setting_stops_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGMESH_MALIGNANCY__COUNTED_FROM_SCORE", "2")
    with pytest.raises(SettingsError, match="LUNGMESH_MALIGNANCY__COUNTED_FROM_SCORE"):
        load(MalignancySettings)
