"""DICOM SR: the measurements by TID 1500, a volumetric group (TID 1411) a nodule (PS3.16)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import highdicom as hd
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr import DeviceObserverIdentifyingAttributes as Device
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from lungmesh.mesh.ids import dicom_uid
from lungmesh.report import coding
from lungmesh.report.content import Category, Content, Nodule, PriorMatch
from lungmesh.report.objects import (
    DEVICE,
    MANUFACTURER,
    SERIAL,
    SR_SERIES_NUMBER,
    VERSION,
    edition_before,
    finish,
    identity,
    made_by_us,
    series_description,
    study_datetime,
)
from lungmesh.report.terms import SIGNS, named

Group = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


def structured_report(content: Content, seg: Dataset | None, headers: Sequence[Dataset]) -> Dataset:
    """Return the SR of an exam.

    Parameters
    ----------
    seg
        The exam's SEG; None when there is no nodule, and the SR says that none was found.
    headers
        The source slices' headers in z order.
    """
    names = identity(content, "sr")
    when = study_datetime(headers[0])
    groups: list[Group]
    if seg is None:
        groups = [_none_found(content, headers)]
    else:
        groups = [_group(number, nodule, seg) for number, nodule in enumerate(content.nodules, 1)]
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer()),
        procedure_reported=coding.CT_CHEST,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    evidence = list(headers) if seg is None else [*headers, seg]
    replaced = edition_before(content, "sr", Comprehensive3DSRStorage, headers[0])
    dataset = Comprehensive3DSR(
        evidence=evidence,
        content=report,
        **made_by_us(names),
        series_number=SR_SERIES_NUMBER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=[replaced] if replaced else None,
        series_description=series_description(content, "LungMesh nodule report"),
    )
    finish(dataset, content, when)
    return dataset


def observer() -> ObserverContext:
    """Return the mesh as the device that observed (TID 1002)."""
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=Device(
            uid=dicom_uid("report", "device", VERSION),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=DEVICE,
            serial_number=SERIAL,
        ),
    )


def _group(
    number: int, nodule: Nodule, seg: Dataset
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    lobe, side = coding.LOBES[nodule.lobe]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=nodule.ids["tracking_uid"], identifier=f"Nodule {nodule.number}"
        ),
        referenced_segment=ReferencedSegment.from_segmentation(
            segmentation=seg, segment_number=number
        ),
        finding_category=coding.MORPHOLOGY,
        finding_type=coding.NODULE,
        algorithm_id=AlgorithmIdentification(
            name=nodule.detector.name, version=nodule.detector.version
        ),
        finding_sites=[FindingSite(anatomic_location=lobe, laterality=side)],
        measurements=list(_measurements(nodule)),
        qualitative_evaluations=list(_evaluations(nodule)),
    )


def _measurements(nodule: Nodule) -> Iterator[Measurement]:
    mm, mm3, mean = codes.UCUM.Millimeter, codes.UCUM.CubicMillimeter, codes.SCT.Mean
    hu = codes.UCUM.HounsfieldUnit
    yield Measurement(codes.SCT.LongAxis, nodule.long_axis_mm, mm)
    yield Measurement(codes.SCT.ShortAxis, nodule.short_axis_mm, mm)
    yield Measurement(codes.SCT.Diameter, nodule.mean_diameter_mm, mm, derivation=mean)
    yield Measurement(codes.SCT.Volume, nodule.volume_mm3, mm3)
    yield Measurement(codes.DCM.AttenuationCoefficient, nodule.mean_hu, hu, derivation=mean)
    if nodule.type in ("part_solid", "non_solid"):
        yield Measurement(coding.SOLID_DIAMETER, nodule.solid_mean_diameter_mm, mm)
    # Most recent first: its figures can stand alone, those of all exams are in the summary.
    for prior in nodule.priors[:1]:
        yield from _since(prior)
    yield Measurement(coding.DETECTION_SCORE, nodule.detection_score, coding.ONE)
    for risk in nodule.risks:
        # A range has no place in a measurement: where inputs are missing the texts hold it.
        if risk.probability is not None:
            yield Measurement(
                codes.DCM.ProbabilityOfCancer,
                round(risk.probability * 100, 1),
                codes.UCUM.Percent,
                algorithm_id=AlgorithmIdentification(
                    name=risk.model.name, version=risk.model.version
                ),
            )


def _since(prior: PriorMatch) -> Iterator[Measurement]:
    percent = codes.UCUM.Percent
    yield Measurement(coding.DAYS_SINCE_PRIOR, prior.interval_days, coding.DAYS)
    yield Measurement(coding.VOLUME_CHANGE, prior.volume_change_percent, percent)
    for code, bound in (
        (coding.DOUBLING_TIME, prior.volume_doubling_time_days),
        (coding.DOUBLING_TIME_LOW, prior.volume_doubling_time_low_days),
        (coding.DOUBLING_TIME_HIGH, prior.volume_doubling_time_high_days),
    ):
        if bound is not None:
            yield Measurement(code, bound, coding.DAYS)
    if prior.growth_probability is not None:
        chance = round(prior.growth_probability * 100, 1)
        yield Measurement(coding.GROWTH_PROBABILITY, chance, percent)


def _evaluations(nodule: Nodule) -> Iterator[QualitativeEvaluation]:
    yield QualitativeEvaluation(name=coding.NODULE_TYPE, value=coding.nodule_type(nodule))
    yield QualitativeEvaluation(name=coding.GROWTH_CLASS, value=coding.growth(nodule))
    if nodule.outcome:
        yield QualitativeEvaluation(name=coding.MATCH_OUTCOME, value=coding.outcome(nodule))
    if nodule.review:
        if nodule.review.status == "confirmed":
            yield QualitativeEvaluation(name=coding.REVIEW, value=coding.CONFIRMED)
        if nodule.review.changed:
            yield QualitativeEvaluation(name=coding.REVIEW, value=coding.CHANGED)
    yield from _categories(nodule.categories)
    for sign in nodule.signs:
        yield QualitativeEvaluation(
            name=coding.sign(sign.name, named(SIGNS, sign.name).en),
            value=coding.yes_no(sign.present),
        )


def _categories(categories: Sequence[Category]) -> Iterator[QualitativeEvaluation]:
    for category in categories:
        if category.category:
            yield QualitativeEvaluation(
                name=coding.guideline(category), value=coding.category(category)
            )


def _none_found(
    content: Content, headers: Sequence[Dataset]
) -> MeasurementsAndQualitativeEvaluations:
    """Return a group that says that the exam was read and no nodule found."""
    ids = content.ids
    evaluations = [
        QualitativeEvaluation(name=coding.AUTOMATIC_FINDING, value=coding.NO_NODULE),
        *_categories(content.categories),
    ]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=dicom_uid("report", ids["tenant"], ids["study_id"], ids["revision"], "exam"),
            identifier="Exam",
        ),
        finding_type=codes.SCT.Lung,
        qualitative_evaluations=evaluations,
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(headers[0])],
    )
