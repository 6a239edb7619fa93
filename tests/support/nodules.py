"""Nodules and assessed exams as follow-up takes them: places, sizes, types; it reads no masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import Lobe, Nodule, NodulesAssessed, NoduleType
from lungmesh.v1.study_pb2 import PRIORITY_ROUTINE, BlobRef, StudyRef
from lungmesh.v1.volume_pb2 import ModelVersion, VolumeReady
from tests.support.preprocess import PSEUDONYM, TENANT

_NOBODYS = ModelVersion(name="made-up", version="1")


def a_study(name: str, patient: str = PSEUDONYM, tenant: str = TENANT) -> StudyRef:
    """Return a study that is known by a name."""
    return StudyRef(
        tenant=tenant,
        patient=patient,
        study_id=deterministic_id("study", name),
        revision=1,
        priority=PRIORITY_ROUTINE,
    )


def a_nodule(
    name: str,
    center: Sequence[float],
    mm: float,
    kind: NoduleType.ValueType = nodule_pb2.NODULE_TYPE_SOLID,
    solid_mm: float = 0.0,
    lobe: Lobe.ValueType = nodule_pb2.LOBE_LEFT_LOWER,
    signs: Sequence[str] = (),
    number: int = 1,
) -> Nodule:
    """Return a ball of a mean diameter `mm` at an LPS centre."""
    x, y, z = center
    half = mm / 2
    volume = math.pi * mm**3 / 6
    return Nodule(
        nodule_id=deterministic_id("nodule", name),
        number=number,
        center_lps_mm=center,
        bbox_lps_mm=[x - half, y - half, z - half, x + half, y + half, z + half],
        slice_sop_instance_uid="2.25.1",
        mask=nodule_pb2.MaskRef(
            voxels=BlobRef(key="none", sha256="0" * 64), offset=[0, 0, 0], size=[1, 1, 1]
        ),
        measurement=nodule_pb2.Measurement(
            long_axis_mm=mm,
            short_axis_mm=mm,
            mean_diameter_mm=mm,
            volume_mm3=volume,
            mean_hu=20,
            hu_percentiles=[-100, 0, 20, 30, 60],
            solid_mean_diameter_mm=solid_mm,
            long_axis_lps_mm=[x - half, y, z, x + half, y, z],
            short_axis_lps_mm=[x, y - half, z, x, y + half, z],
            sphericity=1,
        ),
        type=kind,
        lobe=lobe,
        detection_score=0.9,
        detector=_NOBODYS,
        assessment=nodule_pb2.Assessment(
            signs=[
                nodule_pb2.Sign(name=sign, score=1, present=True, model=_NOBODYS) for sign in signs
            ]
        ),
    )


def an_assessed_exam(
    study: StudyRef, nodules: Sequence[Nodule], exam: VolumeReady | None = None, date: str = ""
) -> NodulesAssessed:
    """Return an exam with nodules; without a volume it has only its date."""
    event = NodulesAssessed(study=study, nodules=nodules, models=[_NOBODYS])
    if exam is not None:
        event.exam.CopyFrom(exam)
    if date:
        event.exam.volume.acquisition.study_date = date
    return event
