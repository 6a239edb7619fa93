"""The stage: NodulesDetected in, NodulesAssessed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Histogram

from lungmesh.malignancy import reader_score, risk_models, signs
from lungmesh.malignancy.density import density_probabilities
from lungmesh.malignancy.patch import Finding, Mask, Patch, cubic, found
from lungmesh.malignancy.reader_score import ReaderModel
from lungmesh.malignancy.risk_models import Covariates
from lungmesh.malignancy.settings import MalignancySettings
from lungmesh.malignancy.shape import measure_shape
from lungmesh.mesh import Context, Stage
from lungmesh.mesh.arrays import open_array, read_array
from lungmesh.v1 import nodule_pb2, study_pb2
from lungmesh.v1.nodule_pb2 import (
    Assessment,
    Contribution,
    Nodule,
    NodulesAssessed,
    NodulesDetected,
    ReaderScore,
    RiskScore,
    Sign,
    TypeProbability,
)
from lungmesh.v1.study_pb2 import ClinicalContext
from lungmesh.v1.volume_pb2 import ModelVersion, Volume

_UPPER = (nodule_pb2.LOBE_RIGHT_UPPER, nodule_pb2.LOBE_LEFT_UPPER)
_SIGNS = ModelVersion(name=signs.NAME, version=signs.VERSION)
_READERS = reader_score.read_model()
# The one sign that has no measure of its own beside the readers' map.
_ROUND = "round_shape"
# Both sexes that Brock knows; for another the score is a range over both.
_FEMALE = {study_pb2.SEX_FEMALE: 1.0, study_pb2.SEX_MALE: 0.0}


class MalignancyStage(Stage):
    """Measures each nodule's signs, computes the published risk models and the readers' score."""

    name = "malignancy"
    consumes = (NodulesDetected,)
    produces = (NodulesAssessed,)
    version = "+".join(
        (
            f"{signs.NAME}-{signs.VERSION}",
            f"{_READERS.name}-{_READERS.version}",
            *(f"{model.name}-{model.version}" for model in risk_models.MODELS),
        )
    )

    def __init__(
        self, settings: MalignancySettings, registry: CollectorRegistry | None = None
    ) -> None:
        """Take the settings, and where scores are counted."""
        self._scores = Histogram(
            "lungmesh_nodule_reader_score",
            "Readers' score of a nodule: probability that readers call it suspicious",
            ("tenant",),
            buckets=(0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
            registry=registry or CollectorRegistry(),
        )
        self._counted_from = settings.counted_from_score
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds

    def handle(self, event: NodulesDetected, ctx: Context) -> Sequence[Message]:
        """Return the NodulesAssessed of an exam."""
        counted = sum(nodule.detection_score >= self._counted_from for nodule in event.nodules)
        technique = event.exam.volume.acquisition
        # A header that does not say so does not rule it out.
        contrast = technique.contrast or not technique.HasField("contrast")
        assessed = NodulesAssessed(
            study=event.study,
            exam=event.exam,
            models=[
                *event.models,
                _SIGNS,
                _version(_READERS),
                *(_version(model) for model in risk_models.MODELS),
            ],
        )
        volume = event.exam.volume
        hu, lobes = open_array(ctx.blobs, volume.hu), open_array(ctx.blobs, volume.lobes)
        for number, nodule in enumerate(event.nodules):
            ctx.progress(number / len(event.nodules), "measuring signs")
            mask = read_array(ctx.blobs, nodule.mask.voxels) > 0
            patch = _patch(volume, hu, lobes, nodule, mask)
            readers = _READERS.score(measure_shape(patch.nodule, patch.spacing), nodule.type)
            measured = [
                *signs.measure_signs(patch, contrast),
                found(_ROUND, readers.signs[_ROUND]),
                _lobe(nodule),
            ]
            # At least itself, also where its own score is too low to be counted.
            known = covariates(event.exam.clinical, nodule, measured, max(counted, 1))
            self._scores.labels(event.study.tenant).observe(readers.probability)
            assessed.nodules.add().CopyFrom(nodule)
            assessed.nodules[-1].assessment.CopyFrom(
                Assessment(
                    signs=[sign_message(sign, readers) for sign in measured],
                    risks=[risk_message(model, known) for model in risk_models.MODELS],
                    reader_score=reader_message(readers),
                    densities=[
                        TypeProbability(type=kind, probability=probability)
                        for kind, probability in density_probabilities(cubic(patch)).items()
                    ],
                )
            )
        return [assessed]


def covariates(
    clinical: ClinicalContext, nodule: Nodule, measured: Sequence[Finding], count: int
) -> Covariates:
    """Return what the models ask; what nobody said stays unknown.

    Parameters
    ----------
    count
        Nodules of the exam.
    """
    present = {sign.name: float(sign.present) for sign in measured}

    def said(name: str) -> float | None:
        return float(getattr(clinical, name)) if clinical.HasField(name) else None  # type: ignore[arg-type]

    return Covariates(
        age_years=said("age_years"),
        sex=_FEMALE.get(clinical.sex),
        ever_smoker=said("ever_smoker"),
        years_since_quitting=_quit_years(clinical),
        family_history_of_lung_cancer=said("family_history_of_lung_cancer"),
        family_history_of_cancer=said("family_history_of_cancer"),
        emphysema=said("emphysema"),
        extrathoracic_cancer=said("extrathoracic_cancer"),
        fdg_uptake=risk_models.uptake_weight(clinical.fdg_uptake),
        nodule_type=risk_models.density_type(nodule.type),
        diameter_mm=nodule.measurement.mean_diameter_mm,
        nodule_count=float(count),
        upper_lobe=present["upper_lobe"],
        spiculation=present["spiculation"],
        calcification=present["calcification"],
        clear_border=present["clear_border"],
    )


def risk_message(model: risk_models.RiskModel, known: Covariates) -> RiskScore:
    """Return a model's score as it travels."""
    score = model.score(known)
    return RiskScore(
        model=_version(model),
        source=model.source,
        probability=score.probability,
        low=score.low,
        high=score.high,
        missing=score.missing,
        outside_intended_use=score.outside_intended_use,
    )


def sign_message(sign: Finding, readers: reader_score.ReaderScore) -> Sign:
    """Return a sign as it travels, with the readers' probability where a map was fitted."""
    return Sign(
        name=sign.name,
        score=sign.score,
        present=sign.present,
        model=_version(_READERS) if sign.name == _ROUND else _SIGNS,
        probability=readers.signs.get(sign.name),
    )


def reader_message(score: reader_score.ReaderScore) -> ReaderScore:
    """Return the readers' score as it travels."""
    return ReaderScore(
        model=_version(_READERS),
        source=_READERS.source,
        basis=_READERS.basis,
        probability=score.probability,
        contributions=[
            Contribution(feature=part.feature, value=part.value, logit=part.logit)
            for part in score.contributions
        ],
        outside_intended_use=score.outside_intended_use,
    )


def _version(model: risk_models.RiskModel | ReaderModel) -> ModelVersion:
    return ModelVersion(name=model.name, version=model.version)


def _quit_years(clinical: ClinicalContext) -> float | None:
    if clinical.HasField("years_since_quitting"):
        return float(clinical.years_since_quitting)
    # Who never smoked has not quit.
    return 0.0 if clinical.HasField("ever_smoker") and not clinical.ever_smoker else None


def _lobe(nodule: Nodule) -> Finding:
    upper = nodule.lobe in _UPPER
    return Finding("upper_lobe", float(upper), upper)


def _patch(
    volume: Volume, hu: zarr.Array[Any], lobes: zarr.Array[Any], nodule: Nodule, inside: Mask
) -> Patch:
    """Read only the box around the nodule; `inside` is its mask on its own box."""
    spacing = tuple(volume.geometry.spacing_mm)[::-1]
    shape = tuple(volume.geometry.size)[::-1]
    first = tuple(nodule.mask.offset)[::-1]
    size = tuple(nodule.mask.size)[::-1]
    margins = [int(np.ceil(signs.MARGIN_MM / mm)) for mm in spacing]
    low = [max(0, start - margin) for start, margin in zip(first, margins, strict=True)]
    high = [
        min(extent, start + count + margin)
        for extent, start, count, margin in zip(shape, first, size, margins, strict=True)
    ]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    around = np.asarray(hu[box], np.float32)
    mask = np.zeros(around.shape, bool)
    inner = tuple(
        slice(start - a, start - a + count)
        for start, a, count in zip(first, low, size, strict=True)
    )
    mask[inner] = inside
    return Patch(around, mask, np.asarray(lobes[box]) > 0, (spacing[0], spacing[1], spacing[2]))
