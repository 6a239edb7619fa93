"""The stage: StudyReceived in, VolumeReady out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry
from pydicom.dataset import Dataset

from lungmesh.mesh import Context, Stage
from lungmesh.mesh.arrays import write_array
from lungmesh.mesh.errors import BadInput
from lungmesh.mesh.headers import write_headers
from lungmesh.preprocess import lobes, lungs
from lungmesh.preprocess.coarse import Coarse, coarsen
from lungmesh.preprocess.findings import Finding, refuse_if_any
from lungmesh.preprocess.identity import without_identity
from lungmesh.preprocess.instances import Instances
from lungmesh.preprocess.metrics import ScanMetrics
from lungmesh.preprocess.noise import tissue_noise_hu
from lungmesh.preprocess.quality import LungFacts, judge_headers, judge_lungs, judge_noise, number
from lungmesh.preprocess.series import Choice, choose_series, kernel_name
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stack import Stack, stack_slices
from lungmesh.preprocess.volume import read_volume
from lungmesh.v1 import study_pb2, volume_pb2

SERIES_CHOICE = ("series-choice", "1")
QUALITY_RULES = ("screening-ct-quality", "2")
# ContrastBolusAgent values that say there was none.
_CONTRAST_DENIED = {"", "NO", "NONE", "N", "W/O", "WITHOUT", "NATIVE"}


class PreprocessStage(Stage):
    """Chooses the series, judges it, puts it on a grid and finds lungs and lobes."""

    name = "preprocess"
    consumes = (study_pb2.StudyReceived,)
    produces = (volume_pb2.VolumeReady,)
    version = "+".join((*SERIES_CHOICE, *QUALITY_RULES, lungs.VERSION, lobes.VERSION))

    def __init__(
        self, settings: PreprocessSettings, registry: CollectorRegistry | None = None
    ) -> None:
        """Take the settings, and where scans are counted."""
        self._metrics = ScanMetrics(registry or CollectorRegistry())
        self._workers = settings.workers
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds

    def handle(self, event: study_pb2.StudyReceived, ctx: Context) -> Sequence[Message]:
        """Return the VolumeReady of a study.

        Raises BadInput when no series fits or a finding refuses the scan.
        """
        manifest = study_pb2.StudyManifest.FromString(ctx.blobs.get(event.manifest))
        instances = Instances(ctx.blobs, manifest, self._workers)
        ctx.progress(0.02, "reading headers")
        choice = choose_series(list(instances.series()))
        headers = choice.headers
        stack, findings = stack_slices(headers)
        findings += judge_headers(headers, stack.grid)
        self._refuse(event.study, findings)

        def decoded(fraction: float) -> None:
            ctx.progress(0.1 + 0.3 * fraction, "decoding slices")

        hu, found = read_volume(
            stack, lambda index: instances.whole(headers[index]), self._workers, decoded
        )
        findings += found
        noise_hu = tissue_noise_hu(hu, min(stack.grid.spacing[:2]))
        findings += judge_noise(noise_hu)
        ctx.progress(0.45, "finding lungs")
        coarse = coarsen(hu, stack.grid)
        lung_labels = lungs.find_lungs(coarse)
        facts = lung_facts(lung_labels, coarse)
        findings += judge_lungs(facts)
        self._refuse(event.study, findings)
        ctx.progress(0.65, "finding lobes")
        lobe_labels, fissures = lobes.find_lobes(coarse, lung_labels)
        findings += lobes.judge_fissures(fissures)
        full_lobes = coarse.to_full(lobe_labels)

        ctx.progress(0.75, "keeping the volume")
        study = event.study
        lung_hu = float(np.median(coarse.hu[lung_labels > 0]))
        self._metrics.measured(study.tenant, lung_hu, noise_hu, stack.grid.spacing[2])
        self._metrics.found(study.tenant, findings)
        prefix = f"{study.tenant}/{study.study_id}/r{study.revision}/{self.name}"
        volume = volume_pb2.Volume(
            series_instance_uid=choice.chosen.series_instance_uid,
            frame_of_reference_uid=str(headers[0].get("FrameOfReferenceUID") or ""),
            geometry=stack.grid.to_proto(),
            hu=write_array(ctx.blobs, f"{prefix}/hu", hu),
            lobes=write_array(ctx.blobs, f"{prefix}/lobes", full_lobes),
            headers=write_headers(
                ctx.blobs, f"{prefix}/headers.zip", slice_headers(headers, stack, study.patient)
            ),
            acquisition=acquisition(headers[0]),
        )
        return [
            volume_pb2.VolumeReady(
                study=study,
                study_instance_uid=event.study_instance_uid,
                clinical=event.clinical if event.HasField("clinical") else None,
                series_choice=_choice_message(choice),
                volume=volume,
                qc_findings=[_finding_message(finding) for finding in findings],
                lung_volume_ml=round(facts.total_ml, 1),
                models=[
                    volume_pb2.ModelVersion(name=name, version=version)
                    for name, version in (
                        SERIES_CHOICE,
                        QUALITY_RULES,
                        (lungs.NAME, lungs.VERSION),
                        (lobes.NAME, lobes.VERSION),
                    )
                ],
            )
        ]

    def _refuse(self, study: study_pb2.StudyRef, findings: Sequence[Finding]) -> None:
        """Count the findings of a scan that is not read, and raise BadInput."""
        try:
            refuse_if_any(findings)
        except BadInput:
            self._metrics.refused(study.tenant, findings)
            raise


def slice_headers(headers: Sequence[Dataset], stack: Stack, pseudonym: str) -> list[Dataset]:
    """Return one header a z, without identity.

    Where a slice is missing stands the header of the nearest slice, moved to the missing place, so
    that the list keeps step with the volume and every SOPInstanceUID is a real one.
    """
    present = np.array([z for z, here in enumerate(stack.at) if here])
    out = []
    for z in range(len(stack.at)):
        nearest = int(present[np.argmin(np.abs(present - z))])
        header = without_identity(headers[stack.at[nearest][0]], pseudonym)
        if nearest != z:
            place = stack.grid.to_lps((0, 0, z))
            header.ImagePositionPatient = [f"{value:.6g}" for value in place]
        out.append(header)
    return out


def lung_facts(labels: lungs.Labels, coarse: Coarse) -> LungFacts:
    """Return what the quality rules ask of the lungs on the coarse grid."""
    z_mm, y_mm, x_mm = coarse.spacing
    found = labels > 0
    return LungFacts(
        right_ml=float((labels == lungs.RIGHT).sum() * coarse.voxel_ml),
        left_ml=float((labels == lungs.LEFT).sum() * coarse.voxel_ml),
        end_area_mm2=float(max(found[0].sum(), found[-1].sum()) * y_mm * x_mm),
        side_area_mm2=float(
            max(
                max(found[:, 0].sum(), found[:, -1].sum()) * z_mm * x_mm,
                max(found[:, :, 0].sum(), found[:, :, -1].sum()) * z_mm * y_mm,
            )
        ),
    )


def acquisition(header: Dataset) -> volume_pb2.Acquisition:
    """Return the technique that a slice's header states; what it does not state stays unset."""
    date = str(header.get("StudyDate") or "")
    out = volume_pb2.Acquisition(
        study_date=date if re.fullmatch("[0-9]{8}", date) else "",
        manufacturer=str(header.get("Manufacturer") or ""),
        manufacturer_model_name=str(header.get("ManufacturerModelName") or ""),
        convolution_kernel=kernel_name(header),
    )
    for field, keyword in (
        ("kvp", "KVP"),
        ("slice_thickness_mm", "SliceThickness"),
        ("ctdi_vol_mgy", "CTDIvol"),
    ):
        value = number(header, keyword)
        if value is not None and value > 0:
            setattr(out, field, value)
    if "ContrastBolusAgent" in header:
        agent = str(header.ContrastBolusAgent or "").strip().upper()
        out.contrast = agent not in _CONTRAST_DENIED
    return out


def _choice_message(choice: Choice) -> volume_pb2.SeriesChoice:
    def verdict(uid: str, reason: str) -> volume_pb2.SeriesVerdict:
        return volume_pb2.SeriesVerdict(series_instance_uid=uid, reason=reason)

    return volume_pb2.SeriesChoice(
        chosen=verdict(choice.chosen.series_instance_uid, choice.chosen.reason),
        others=[verdict(other.series_instance_uid, other.reason) for other in choice.others],
    )


def _finding_message(finding: Finding) -> volume_pb2.QcFinding:
    return volume_pb2.QcFinding(
        code=finding.code,
        severity=volume_pb2.Severity.ValueType(finding.severity),
        message_en=finding.message_en,
        message_zh=finding.message_zh,
    )
