"""Exams of one patient at different dates, as malignancy leaves them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.followup.laying import Laying
from lungmesh.followup.timeline import compared
from lungmesh.mesh.ids import deterministic_id, dicom_uid
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import Correction, CorrectionKind, NoduleRef, Outcome, OutcomeKind
from lungmesh.v1.nodule_pb2 import Nodule, NodulesAssessed
from lungmesh.v1.study_pb2 import BlobRef, StudyRef
from lungmesh.v1.volume_pb2 import (
    Acquisition,
    Geometry,
    ModelVersion,
    SeriesChoice,
    SeriesVerdict,
    Volume,
    VolumeReady,
)
from tests.support.nodules import an_assessed_exam
from tests.support.report import followup, made_up_case


def assessed(
    root: Path,
    patient: str,
    name: str,
    date: str,
    grown_mm: float = 0.0,
    nodules: int = 2,
    tenant: str | None = None,
    revision: int = 1,
) -> NodulesAssessed:
    """Return a made-up exam with two nodules, the second `grown_mm` larger than usual.

    The arrays are kept below `root`/blobs, where a service process looks for them.
    """
    made = followup(made_up_case(root, name, patient), nodules, prior=False)
    event = NodulesAssessed(
        study=made.study, exam=made.exam, nodules=made.nodules, models=made.models
    )
    event.exam.volume.acquisition.study_date = date
    event.study.revision = event.exam.study.revision = revision
    if tenant is not None:
        event.study.tenant = event.exam.study.tenant = tenant
    for nodule in event.nodules:
        nodule.ClearField("tracking")
        nodule.ClearField("categories")
    if nodules > 1 and grown_mm:
        measured = event.nodules[1].measurement
        before = measured.mean_diameter_mm
        measured.mean_diameter_mm = before + grown_mm
        measured.volume_mm3 *= (measured.mean_diameter_mm / before) ** 3
    return event


def unread_exam(study: StudyRef, date: str, nodules: Sequence[Nodule]) -> NodulesAssessed:
    """Return a whole event of an exam whose voxels nobody reads: they are not there."""

    def blob(name: str) -> BlobRef:
        sha256 = hashlib.sha256(f"{study.study_id}/{name}".encode()).hexdigest()
        return BlobRef(key=f"{study.tenant}/{study.study_id}/{name}", sha256=sha256)

    series = dicom_uid(study.study_id, "series")
    ready = VolumeReady(
        study=study,
        study_instance_uid=dicom_uid(study.study_id),
        series_choice=SeriesChoice(
            chosen=SeriesVerdict(series_instance_uid=series, reason="the only one")
        ),
        volume=Volume(
            series_instance_uid=series,
            geometry=Geometry(
                size=[512, 512, 300],
                spacing_mm=[0.7, 0.7, 1.0],
                origin_lps_mm=[-180.0, -180.0, -300.0],
                direction=[1, 0, 0, 0, 1, 0, 0, 0, 1],
            ),
            hu=blob("hu"),
            lobes=blob("lobes"),
            headers=blob("headers"),
            acquisition=Acquisition(study_date=date, slice_thickness_mm=1.0),
        ),
        lung_volume_ml=5000,
        models=[ModelVersion(name="lung-mask", version="1")],
    )
    return an_assessed_exam(study, nodules, ready)


def a_correction(
    name: str, kind: str, at: int, study_id: str, nodule: Nodule, **fields: object
) -> Correction:
    """Return what a person said of a nodule at a second since 1970; `kind` such as CONFIRM."""
    return Correction(
        correction_id=deterministic_id("correction", name),
        author="reader-1",
        at=Timestamp(seconds=at),
        kind=CorrectionKind.Value(f"CORRECTION_KIND_{kind}"),
        nodule=NoduleRef(
            study_id=study_id, nodule_id=nodule.nodule_id, center_lps_mm=nodule.center_lps_mm
        ),
        **fields,  # type: ignore[arg-type]
    )


def laid(
    then: NodulesAssessed, now: NodulesAssessed, *unseen: str, warnings: Sequence[str] = ()
) -> Laying:
    """Return a laying of two exams of a patient who never moves: every place stays where it is.

    `unseen` are ids of nodules whose place the other exam does not show.
    """
    return Laying(
        method=followup_pb2.REGISTRATION_METHOD_DEFORMABLE,
        dice=0.97,
        inverse_error_mm=0.5,
        earlier_places={n.nodule_id: _place(n) for n in then.nodules},
        earlier_visible={n.nodule_id: n.nodule_id not in unseen for n in then.nodules},
        current_visible={n.nodule_id: n.nodule_id not in unseen for n in now.nodules},
        warnings=tuple(warnings),
    )


def layings(exams: Sequence[NodulesAssessed], priors: int = 2) -> dict[tuple[str, str], Laying]:
    """Return the layings that the fold of these exams takes."""
    known = {exam.study.study_id: exam for exam in exams}
    return {(then, now): laid(known[then], known[now]) for then, now in compared(exams, priors)}


def _place(nodule: Nodule) -> tuple[float, float, float]:
    x, y, z = nodule.center_lps_mm
    return x, y, z


def an_outcome(kind: str, date: str, stage: str = "") -> Outcome:
    """Return what became of a patient; `kind` such as LUNG_CANCER."""
    return Outcome(
        outcome_id=deterministic_id("outcome", kind, date),
        author="doctor-1",
        at=Timestamp(seconds=1),
        kind=OutcomeKind.Value(f"OUTCOME_KIND_{kind}"),
        date=date,
        stage=stage,
    )
