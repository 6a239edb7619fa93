"""A followed-up exam with nodules of chosen size, type, category and risk."""

from __future__ import annotations

from lungmesh.v1 import nodule_pb2, study_pb2, volume_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import Category, Nodule, NoduleType, RiskScore
from lungmesh.v1.volume_pb2 import ModelVersion

STUDY_ID = "aaaaaaaa-2222-4333-8444-555555555555"
_SHA = "0" * 64


def study(revision: int = 1) -> study_pb2.StudyRef:
    """Return whose exam it is."""
    return study_pb2.StudyRef(
        tenant="hospital",
        patient="11111111-2222-4333-8444-555555555555",
        study_id=STUDY_ID,
        revision=revision,
        priority=study_pb2.PRIORITY_ROUTINE,
    )


def category(guideline: str, name: str, needs: tuple[str, ...] = ()) -> Category:
    """Return a guideline's word."""
    return Category(
        guideline=ModelVersion(name=guideline, version="v0"),
        source=f"{guideline} paper",
        category=name,
        management_en=f"manage {name}",
        management_zh=f"处理 {name}",
        needs=needs,
    )


def risk(
    model: str, low: float, high: float | None = None, missing: tuple[str, ...] = ()
) -> RiskScore:
    """Return a score: known when `high` is left out, else a range."""
    score = RiskScore(
        model=ModelVersion(name=model, version="1"),
        source=f"{model} paper",
        low=low,
        high=low if high is None else high,
        missing=missing,
    )
    if high is None:
        score.probability = low
    return score


def nodule(
    number: int = 1,
    kind: NoduleType.ValueType = nodule_pb2.NODULE_TYPE_SOLID,
    long_axis_mm: float = 20.0,
    solid_long_axis_mm: float = 0.0,
    lung_rads: str = "4B",
    risks: tuple[RiskScore, ...] = (),
) -> Nodule:
    """Return a nodule that keeps the contract."""
    blob = study_pb2.BlobRef(key="hospital/mask", sha256=_SHA)
    return Nodule(
        nodule_id=f"00000000-0000-4000-8000-{number:012d}",
        number=number,
        center_lps_mm=[1, 2, 3],
        bbox_lps_mm=[0, 0, 0, 2, 4, 6],
        slice_sop_instance_uid="1.2.3",
        mask=nodule_pb2.MaskRef(voxels=blob, offset=[0, 0, 0], size=[1, 1, 1]),
        measurement=nodule_pb2.Measurement(
            long_axis_mm=long_axis_mm,
            short_axis_mm=long_axis_mm,
            mean_diameter_mm=long_axis_mm,
            volume_mm3=0.5236 * long_axis_mm**3,
            solid_long_axis_mm=solid_long_axis_mm,
        ),
        type=kind,
        lobe=nodule_pb2.LOBE_LEFT_LOWER,
        detector=ModelVersion(name="detector", version="1"),
        assessment=nodule_pb2.Assessment(risks=risks),
        categories=[category("Lung-RADS", lung_rads)],
    )


def followed_up(
    *nodules: Nodule,
    exam: tuple[Category, ...] | None = None,
    clinical: study_pb2.ClinicalContext | None = None,
    revision: int = 1,
) -> FollowupUpdated:
    """Return the event; the exam's category is that of its first nodule, else 1."""
    blob = study_pb2.BlobRef(key="hospital/volume", sha256=_SHA)
    first = nodules[0].categories[0].category if nodules else "1"
    models = [ModelVersion(name="rules", version="1")]
    verdict = volume_pb2.SeriesVerdict(series_instance_uid="1.2", reason="the only one")
    return FollowupUpdated(
        study=study(revision),
        exam=volume_pb2.VolumeReady(
            study=study(revision),
            study_instance_uid="1.2",
            clinical=clinical,
            series_choice=volume_pb2.SeriesChoice(chosen=verdict),
            volume=volume_pb2.Volume(
                series_instance_uid="1.2",
                geometry=volume_pb2.Geometry(
                    size=[1, 1, 1],
                    spacing_mm=[1, 1, 1],
                    origin_lps_mm=[0, 0, 0],
                    direction=[1, 0, 0, 0, 1, 0, 0, 0, 1],
                ),
                hu=blob,
                lobes=blob,
                headers=blob,
                acquisition=volume_pb2.Acquisition(study_date="20200101"),
            ),
            lung_volume_ml=4000,
            models=models,
        ),
        nodules=nodules,
        exam_categories=exam or (category("Lung-RADS", first),),
        models=models,
    )
