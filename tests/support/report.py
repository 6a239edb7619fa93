"""A FollowupUpdated with its arrays in a blob store: on the demo CT, or on a small made-up one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from lungmesh.demo.case import write_small_case
from lungmesh.mesh import Context, ids
from lungmesh.mesh.arrays import read_array, write_array
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.headers import read_headers, write_headers
from lungmesh.mesh.ids import deterministic_id, dicom_uid
from lungmesh.mesh.stage import run_stage
from lungmesh.preprocess.identity import without_identity
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stage import PreprocessStage
from lungmesh.v1 import followup_pb2, nodule_pb2, study_pb2, volume_pb2
from tests.support.preprocess import PSEUDONYM, TENANT, receive

CENTER = (56.2, 86.2, -115.9)
RADIUS_MM = 14.8
# A second, smaller place in the right upper lobe.
SECOND_CENTER = (-70.0, 20.0, -60.0)
SECOND_RADIUS_MM = 4.0
DETECTOR = volume_pb2.ModelVersion(name="log-bank", version="1")
BROCK = volume_pb2.ModelVersion(name="brock", version="2013-full")
LUNG_RADS = volume_pb2.ModelVersion(name="Lung-RADS", version="v2022")
C_LUNG_RADS = volume_pb2.ModelVersion(name="C-Lung-RADS", version="2024")


CLINICAL = study_pb2.ClinicalContext(age_years=66, sex=study_pb2.SEX_FEMALE, ever_smoker=True)


@dataclass(frozen=True)
class Case:
    """A read CT in a blob store."""

    blobs: BlobStore
    ready: volume_pb2.VolumeReady


def read_case(root: Path, seed: str = "report-test", keep_every: int = 2) -> Case:
    """Write the small demo CT below a folder and have the real preprocess stage read it."""
    write_small_case(root / f"dicom-{seed}", "PAT-1", seed, keep_every)
    files = sorted((root / f"dicom-{seed}").iterdir())
    blobs = BlobStore(f"file://{root}/blobs")
    event = receive(blobs, files)
    outputs = asyncio.run(
        run_stage(PreprocessStage(PreprocessSettings()), event, Context("event", blobs))
    )
    ready = outputs[0]
    assert isinstance(ready, volume_pb2.VolumeReady)
    ready.clinical.CopyFrom(CLINICAL)
    return Case(blobs, ready)


def made_up_case(root: Path, seed: str = "made-up", patient: str = PSEUDONYM) -> Case:
    """Keep a made-up volume of 96 x 96 x 50 voxels: lung density with two dense spheres in it."""
    blobs = BlobStore(f"file://{root}/blobs")
    identity = np.eye(3)
    grid = Grid(
        size=(96, 96, 50),
        spacing=(2.0, 2.0, 2.5),
        origin=(-100.0, -20.0, -150.0),
        direction=tuple((row[0], row[1], row[2]) for row in identity.tolist()),
    )
    hu = np.full(grid.shape, -850, np.int16)
    axes = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    places = grid.to_lps(np.stack(axes[::-1], axis=-1))
    for center, radius in ((CENTER, RADIUS_MM), (SECOND_CENTER, SECOND_RADIUS_MM)):
        hu[np.linalg.norm(places - center, axis=-1) <= radius] = 30
    study_uid, series_uid, frame_uid = (dicom_uid(seed, kind) for kind in ("st", "se", "fr"))
    study_id = ids.study_id(TENANT, study_uid)
    prefix = f"{TENANT}/{study_id}/r1/preprocess"
    headers = [
        _header(grid, z, seed, study_uid, series_uid, frame_uid, patient)
        for z in range(grid.size[2])
    ]
    ready = volume_pb2.VolumeReady(
        study=study_pb2.StudyRef(
            tenant=TENANT,
            patient=patient,
            study_id=study_id,
            revision=1,
            priority=study_pb2.PRIORITY_ROUTINE,
        ),
        study_instance_uid=study_uid,
        clinical=CLINICAL,
        series_choice=volume_pb2.SeriesChoice(
            chosen=volume_pb2.SeriesVerdict(series_instance_uid=series_uid, reason="the only one")
        ),
        volume=volume_pb2.Volume(
            series_instance_uid=series_uid,
            frame_of_reference_uid=frame_uid,
            geometry=grid.to_proto(),
            hu=write_array(blobs, f"{prefix}/hu", hu),
            lobes=write_array(blobs, f"{prefix}/lobes", np.ones(grid.shape, np.uint8)),
            headers=write_headers(blobs, f"{prefix}/headers.zip", headers),
            acquisition=volume_pb2.Acquisition(
                study_date="20000101", manufacturer="Maker", kvp=120, slice_thickness_mm=2.5
            ),
        ),
        qc_findings=[
            volume_pb2.QcFinding(
                code="slice_thickness",
                severity=volume_pb2.SEVERITY_NOTE,
                message_en="Slices of 2.5 mm are thicker than 1.25 mm.",
                message_zh="层厚 2.5 mm，超过 1.25 mm。",
            )
        ],
        lung_volume_ml=4321.4,
        models=[volume_pb2.ModelVersion(name="lung-mask", version="1")],
    )
    return Case(blobs, ready)


def _header(
    grid: Grid, z: int, seed: str, study_uid: str, series_uid: str, frame_uid: str, patient: str
) -> Dataset:
    """Return a slice's header as preprocess keeps it."""
    header = Dataset()
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = dicom_uid(seed, "instance", z)
    header.StudyInstanceUID, header.SeriesInstanceUID = study_uid, series_uid
    header.FrameOfReferenceUID = frame_uid
    header.Modality = "CT"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.StudyDate, header.StudyTime = "20000101", "103000"
    header.SeriesNumber, header.InstanceNumber = 1, grid.size[2] - z
    header.ImagePositionPatient = grid.to_lps((0, 0, z)).tolist()
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [grid.spacing[1], grid.spacing[0]]
    header.SliceThickness = grid.spacing[2]
    header.Rows, header.Columns, header.SamplesPerPixel = grid.size[1], grid.size[0], 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 1
    return without_identity(header, patient)


def followup(case: Case, nodules: int = 2, prior: bool = True) -> followup_pb2.FollowupUpdated:
    """Return what follow-up says of the case with 0, 1 or 2 nodules in it."""
    made = [
        nodule_at(case, 1, CENTER, RADIUS_MM),
        nodule_at(case, 2, SECOND_CENTER, SECOND_RADIUS_MM),
    ]
    found = made[:nodules]
    if prior and nodules:
        _grown(found[0])
    return followup_pb2.FollowupUpdated(
        study=case.ready.study,
        exam=case.ready,
        nodules=found,
        exam_categories=_exam_categories(nodules),
        priors=[
            followup_pb2.PriorExam(
                study_id=deterministic_id("prior"),
                study_date="19990101",
                interval_days=365,
                registration_dice=0.95,
                registered=True,
                resolved_nodule_ids=[deterministic_id("gone")],
            )
        ]
        if prior
        else [],
        models=[
            volume_pb2.ModelVersion(name="registration", version="1"),
            volume_pb2.ModelVersion(name="matching", version="1"),
        ],
    )


def nodule_at(
    case: Case, number: int, center: tuple[float, float, float], radius: float
) -> nodule_pb2.Nodule:
    volume = case.ready.volume
    grid = Grid.from_proto(volume.geometry)
    index = grid.to_index(center)
    reach = radius / np.asarray(grid.spacing) + 1
    low = np.maximum(np.floor(index - reach).astype(int), 0)
    high = np.minimum(np.ceil(index + reach).astype(int) + 1, grid.size)
    axes = np.meshgrid(*(np.arange(low[k], high[k]) for k in (2, 1, 0)), indexing="ij")
    places = grid.to_lps(np.stack(axes[::-1], axis=-1))
    mask = (np.linalg.norm(places - center, axis=-1) <= radius).astype(np.uint8)
    z = round(float(index[2]))
    header = read_headers(case.blobs, volume.headers)[z]
    hu = read_array(case.blobs, volume.hu)[low[2] : high[2], low[1] : high[1], low[0] : high[0]][
        mask > 0
    ]
    study = case.ready.study
    nodule_id = deterministic_id("nodule", study.study_id, number)
    key = f"{study.tenant}/{study.study_id}/r{study.revision}/detection/mask_{number}"
    x, y, _ = center
    edge = grid.to_lps((index[0], index[1], z))[2]
    return nodule_pb2.Nodule(
        nodule_id=nodule_id,
        number=number,
        center_lps_mm=center,
        bbox_lps_mm=[c - radius for c in center] + [c + radius for c in center],
        slice_sop_instance_uid=header.SOPInstanceUID,
        slice_index=z,
        mask=nodule_pb2.MaskRef(
            voxels=write_array(case.blobs, key, mask),
            offset=low.tolist(),
            size=(high - low).tolist(),
        ),
        measurement=nodule_pb2.Measurement(
            long_axis_mm=2 * radius,
            short_axis_mm=2 * radius - 1,
            mean_diameter_mm=2 * radius - 0.5,
            volume_mm3=float(mask.sum()) * grid.voxel_volume_mm3,
            mean_hu=float(hu.mean()),
            hu_percentiles=np.percentile(hu, (5, 25, 50, 75, 95)).tolist(),
            mass_mg=100.0 * radius,
            solid_mean_diameter_mm=2 * radius - 1,
            solid_long_axis_mm=2 * radius - 1,
            solid_volume_mm3=100.0,
            consolidation_to_tumour_ratio=0.9,
            long_axis_lps_mm=(x - radius, y, edge, x + radius, y, edge),
            short_axis_lps_mm=(x, y - radius + 0.5, edge, x, y + radius - 0.5, edge),
            sphericity=0.9,
        ),
        type=nodule_pb2.NODULE_TYPE_SOLID if number == 1 else nodule_pb2.NODULE_TYPE_PART_SOLID,
        lobe=nodule_pb2.LOBE_LEFT_LOWER if number == 1 else nodule_pb2.LOBE_RIGHT_UPPER,
        detection_score=0.97 if number == 1 else 0.41,
        detector=DETECTOR,
        assessment=_assessment(number),
        tracking=nodule_pb2.Tracking(
            tracking_uid=dicom_uid("tracking", nodule_id),
            growth=nodule_pb2.GROWTH_CLASS_BASELINE,
        ),
        categories=[
            _category(LUNG_RADS, "4B" if number == 1 else "3"),
            _category(C_LUNG_RADS, "4" if number == 1 else "2"),
        ],
    )


def _assessment(number: int) -> nodule_pb2.Assessment:
    signs = volume_pb2.ModelVersion(name="signs", version="1")
    return nodule_pb2.Assessment(
        signs=[
            nodule_pb2.Sign(name="spiculation", score=0.81, present=number == 1, model=signs),
            nodule_pb2.Sign(name="lobulation", score=0.24, present=False, model=signs),
        ],
        risks=[
            nodule_pb2.RiskScore(
                model=BROCK,
                source="McWilliams, NEJM 2013;369:910",
                low=0.31,
                high=0.54,
                missing=["family_history_of_lung_cancer", "emphysema"],
            ),
            nodule_pb2.RiskScore(
                model=volume_pb2.ModelVersion(name="va", version="2007"),
                source="Gould, Chest 2007;131:383",
                probability=0.529217,
                low=0.529217,
                high=0.529217,
                outside_intended_use=["the model was made for solitary nodules"]
                if number == 2
                else [],
            ),
        ],
    )


def _grown(nodule: nodule_pb2.Nodule) -> None:
    nodule.tracking.growth = nodule_pb2.GROWTH_CLASS_GROWING
    nodule.tracking.priors.append(
        nodule_pb2.PriorMatch(
            study_id=deterministic_id("prior"),
            nodule_id=deterministic_id("earlier"),
            study_date="19990101",
            interval_days=365,
            mean_diameter_mm=20.04,
            volume_mm3=6000,
            diameter_change_mm=nodule.measurement.mean_diameter_mm - 20.04,
            volume_change_percent=120.3,
            volume_doubling_time_days=321.4,
            distance_mm=2.1,
        )
    )


def _category(guideline: volume_pb2.ModelVersion, category: str) -> nodule_pb2.Category:
    out = nodule_pb2.Category(
        guideline=guideline,
        source="Christensen et al., Chest 2024;165:738",
        category=category,
        row="solid, 15 mm or more at baseline",
        row_zh="实性，基线 15 mm 及以上",
        management_en="Diagnostic CT, PET/CT, tissue sampling, referral.",
        management_zh="诊断性CT、PET/CT、组织活检，转诊。",
    )
    if category in {"1", "2", "3"}:
        out.next_exam_months = 6
    return out


def _exam_categories(nodules: int) -> list[nodule_pb2.Category]:
    if nodules:
        return [_category(LUNG_RADS, "4B"), _category(C_LUNG_RADS, "4")]
    fleischner = nodule_pb2.Category(
        guideline=volume_pb2.ModelVersion(name="Fleischner", version="2017"),
        source="MacMahon et al., Radiology 2017;284:228",
        needs=["ever_smoker"],
    )
    return [_category(LUNG_RADS, "1"), fleischner]
