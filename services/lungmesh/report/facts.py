"""Read the report's facts from the event, rounded once to what a report states.

Sizes to 0.1 mm, volumes to 1 mm³, HU to 1, probabilities to 0.1 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset

from lungmesh.mesh.contract import name_of
from lungmesh.report.content import (
    Alternative,
    Category,
    Content,
    Contribution,
    Exam,
    Fact,
    Model,
    Nodule,
    QcFinding,
    ReaderScore,
    Risk,
    Sign,
)
from lungmesh.report.past import (
    NODULE_TYPES,
    Corrections,
    earlier_selves,
    next_exam,
    outcome_of,
    prior_exam,
    prior_match,
)
from lungmesh.report.rounding import each, optional, rounded
from lungmesh.v1 import followup_pb2, nodule_pb2, study_pb2, volume_pb2

_LOBES = {
    nodule_pb2.LOBE_RIGHT_UPPER: "right_upper",
    nodule_pb2.LOBE_RIGHT_MIDDLE: "right_middle",
    nodule_pb2.LOBE_RIGHT_LOWER: "right_lower",
    nodule_pb2.LOBE_LEFT_UPPER: "left_upper",
    nodule_pb2.LOBE_LEFT_LOWER: "left_lower",
}
_GROWTH = {
    nodule_pb2.GROWTH_CLASS_BASELINE: "baseline",
    nodule_pb2.GROWTH_CLASS_NEW: "new",
    nodule_pb2.GROWTH_CLASS_STABLE: "stable",
    nodule_pb2.GROWTH_CLASS_GROWING: "growing",
    nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING: "slowly_growing",
    nodule_pb2.GROWTH_CLASS_SHRINKING: "shrinking",
    nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE: "not_evaluable",
}
_SEVERITIES = {
    volume_pb2.SEVERITY_NOTE: "note",
    volume_pb2.SEVERITY_WARN: "warn",
    volume_pb2.SEVERITY_REFUSE: "refuse",
}
_SEXES = {
    study_pb2.SEX_FEMALE: "female",
    study_pb2.SEX_MALE: "male",
    study_pb2.SEX_OTHER: "other",
}


def from_event(event: followup_pb2.FollowupUpdated, headers: Sequence[Dataset]) -> Content:
    """Read the facts of an event.

    Parameters
    ----------
    headers
        The slices' headers in z order, as `lungmesh.mesh.headers` keeps them.
    """
    exam, volume = event.exam, event.exam.volume
    acquisition, geometry = volume.acquisition, volume.geometry
    corrections = Corrections(event)
    instance_numbers = {
        str(header.SOPInstanceUID): int(header.get("InstanceNumber") or z + 1)
        for z, header in enumerate(headers)
    }
    return Content(
        ids={
            "tenant": event.study.tenant,
            "patient": event.study.patient,
            "study_id": event.study.study_id,
            "revision": event.study.revision,
            "edition": max(1, event.edition),
            "study_instance_uid": exam.study_instance_uid,
            "series_instance_uid": volume.series_instance_uid,
            "frame_of_reference_uid": volume.frame_of_reference_uid,
        },
        exam=Exam(
            study_date=acquisition.study_date,
            manufacturer=acquisition.manufacturer,
            model=acquisition.manufacturer_model_name,
            kernel=acquisition.convolution_kernel,
            kvp=optional(acquisition, "kvp", 1),
            slice_thickness_mm=optional(acquisition, "slice_thickness_mm", 3),
            ctdi_vol_mgy=optional(acquisition, "ctdi_vol_mgy", 2),
            contrast=acquisition.contrast if acquisition.HasField("contrast") else None,
            slice_count=geometry.size[2],
            slice_spacing_mm=rounded(geometry.spacing_mm[2], 3),
            pixel_spacing_mm=(
                rounded(geometry.spacing_mm[0], 3),
                rounded(geometry.spacing_mm[1], 3),
            ),
            lung_volume_ml=round(exam.lung_volume_ml),
        ),
        clinical=_clinical(exam),
        series_choice={
            "ids": {
                "chosen": exam.series_choice.chosen.series_instance_uid,
                "others": [other.series_instance_uid for other in exam.series_choice.others],
            },
            "reason": exam.series_choice.chosen.reason,
            "others": [other.reason for other in exam.series_choice.others],
        },
        qc=tuple(
            QcFinding(f.code, _SEVERITIES[f.severity], f.message_en, f.message_zh)
            for f in exam.qc_findings
        ),
        priors=tuple(prior_exam(prior) for prior in event.priors),
        nodules=_nodules(event.nodules, instance_numbers, corrections),
        categories=tuple(_category(category) for category in event.exam_categories),
        models=_models(event),
        rejected=_nodules(event.rejected, instance_numbers, corrections),
        corrections=corrections.told(),
        next=next_exam(event),
    )


def _clinical(exam: volume_pb2.VolumeReady) -> dict[str, Any]:
    """Return what is known of the patient, by field name; what is unknown is not in it."""
    known: dict[str, Any] = {}
    for field, value in exam.clinical.ListFields():
        if field.name == "sex":
            known["sex"] = _SEXES[value]
        elif field.name == "fdg_uptake":
            known["fdg_uptake"] = name_of(study_pb2.FdgUptake.DESCRIPTOR, value)
        else:
            known[field.name] = value
    return known


def _model(model: volume_pb2.ModelVersion) -> Model:
    return Model(model.name, model.version)


def _models(event: followup_pb2.FollowupUpdated) -> tuple[Model, ...]:
    named = [*event.exam.models, *event.models]
    for nodule in event.nodules:
        named += [nodule.detector, *(sign.model for sign in nodule.assessment.signs)]
        named += [risk.model for risk in nodule.assessment.risks]
        named.append(nodule.assessment.reader_score.model)
    named += [category.guideline for category in event.exam_categories]
    return tuple(dict.fromkeys(_model(model) for model in named if model.name))


def _category(category: nodule_pb2.Category) -> Category:
    months = category.next_exam_months if category.HasField("next_exam_months") else None
    return Category(
        guideline=_model(category.guideline),
        source=category.source,
        category=category.category,
        row=category.row,
        row_zh=category.row_zh or category.row,
        management_en=category.management_en,
        management_zh=category.management_zh,
        next_exam_months=months,
        needs=tuple(category.needs),
        facts=tuple(_fact(fact) for fact in category.facts),
        alternatives=tuple(
            Alternative(other.category, other.row, _fact(other.change))
            for other in category.alternatives
        ),
    )


def _fact(fact: nodule_pb2.Fact) -> Fact:
    return Fact(fact.name, fact.value, fact.unit)


def _sign(sign: nodule_pb2.Sign) -> Sign:
    return Sign(
        sign.name,
        rounded(sign.score, 2),
        sign.present,
        _model(sign.model),
        optional(sign, "probability", 2),
    )


def _risk(risk: nodule_pb2.RiskScore) -> Risk:
    return Risk(
        model=_model(risk.model),
        source=risk.source,
        probability=optional(risk, "probability", 3),
        low=rounded(risk.low, 3),
        high=rounded(risk.high, 3),
        missing=tuple(risk.missing),
        outside_intended_use=tuple(risk.outside_intended_use),
    )


def _reader_score(assessment: nodule_pb2.Assessment) -> ReaderScore | None:
    if not assessment.HasField("reader_score"):
        return None
    score = assessment.reader_score
    return ReaderScore(
        model=_model(score.model),
        source=score.source,
        basis=score.basis,
        probability=rounded(score.probability, 3),
        contributions=tuple(
            Contribution(part.feature, rounded(part.value, 3), rounded(part.logit, 2))
            for part in score.contributions
        ),
        outside_intended_use=tuple(score.outside_intended_use),
    )


def _nodules(
    nodules: Iterable[nodule_pb2.Nodule], instance_numbers: dict[str, int], said: Corrections
) -> tuple[Nodule, ...]:
    return tuple(
        _nodule(nodule, instance_numbers, said)
        for nodule in sorted(nodules, key=lambda nodule: nodule.number)
    )


def _nodule(
    nodule: nodule_pb2.Nodule, instance_numbers: dict[str, int], said: Corrections
) -> Nodule:
    m = nodule.measurement
    return Nodule(
        ids={
            "nodule_id": nodule.nodule_id,
            "tracking_uid": nodule.tracking.tracking_uid,
            "slice_sop_instance_uid": nodule.slice_sop_instance_uid,
            "related_uids": list(nodule.tracking.related_uids),
        },
        number=nodule.number,
        type=NODULE_TYPES[nodule.type],
        lobe=_LOBES[nodule.lobe],
        slice_number=instance_numbers[nodule.slice_sop_instance_uid],
        center_lps_mm=each(nodule.center_lps_mm),
        bbox_lps_mm=each(nodule.bbox_lps_mm),
        long_axis_mm=rounded(m.long_axis_mm, 1),
        short_axis_mm=rounded(m.short_axis_mm, 1),
        mean_diameter_mm=rounded(m.mean_diameter_mm, 1),
        volume_mm3=round(m.volume_mm3),
        mean_hu=round(m.mean_hu),
        mass_mg=round(m.mass_mg),
        solid_long_axis_mm=rounded(m.solid_long_axis_mm, 1),
        solid_mean_diameter_mm=rounded(m.solid_mean_diameter_mm, 1),
        solid_volume_mm3=round(m.solid_volume_mm3),
        consolidation_to_tumour_ratio=rounded(m.consolidation_to_tumour_ratio, 2),
        long_axis_lps_mm=each(m.long_axis_lps_mm),
        short_axis_lps_mm=each(m.short_axis_lps_mm),
        detection_score=rounded(nodule.detection_score, 3),
        detector=_model(nodule.detector),
        signs=tuple(_sign(sign) for sign in nodule.assessment.signs),
        risks=tuple(_risk(risk) for risk in nodule.assessment.risks),
        reader_score=_reader_score(nodule.assessment),
        growth=_GROWTH.get(nodule.tracking.growth, "not_evaluable"),
        outcome=outcome_of(nodule.tracking),
        shown_earlier=nodule.tracking.shown_earlier,
        priors=tuple(prior_match(prior) for prior in nodule.tracking.priors),
        history=earlier_selves(nodule),
        review=said.review_of(nodule),
        categories=tuple(_category(category) for category in nodule.categories),
    )
