"""The stage: VolumeReady in, NodulesDetected out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from lungmesh.detection import kind, lineup, measure, region
from lungmesh.detection.compare import Comparisons, agreement, reading
from lungmesh.detection.find import Limits, Lineup, find_nodules
from lungmesh.detection.finding import Finding
from lungmesh.detection.message import nodule_message
from lungmesh.detection.metrics import NoduleMetrics
from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.triton import Triton, connected
from lungmesh.mesh import Context, Stage
from lungmesh.mesh.arrays import read_array, write_array
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.headers import read_headers
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import nodule_pb2, volume_pb2

log = logging.getLogger(__name__)

_RULES = (
    (region.NAME, region.VERSION),
    (measure.NAME, measure.VERSION),
    (kind.NAME, kind.VERSION),
)
Voxels = npt.NDArray[np.int16]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Scan:
    """A CT as the event refers to it."""

    event: volume_pb2.VolumeReady
    hu: Voxels
    lobes: Labels
    grid: Grid

    @property
    def spacing(self) -> tuple[float, float, float]:
        x, y, z = self.grid.spacing
        return z, y, x

    @property
    def prefix(self) -> str:
        study = self.event.study
        return f"{study.tenant}/{study.study_id}/r{study.revision}/detection"


class DetectionStage(Stage):
    """Finds, segments, measures and types nodules; the networks run on Triton and nowhere else."""

    name = "detection"
    consumes = (volume_pb2.VolumeReady,)
    produces = (nodule_pb2.NodulesDetected,)

    def __init__(
        self, settings: DetectionSettings, registry: CollectorRegistry | None = None
    ) -> None:
        """Take the settings, and where nodules and second readings are counted."""
        self._settings = settings
        registry = registry or CollectorRegistry()
        self._comparisons = Comparisons(registry)
        self._metrics = NoduleMetrics(registry)
        self._in_service = lineup.in_service(settings)
        self._limits = Limits(
            candidates=settings.most_candidates,
            score=settings.least_score,
            diameter_mm=settings.least_diameter_mm,
            nodules=settings.most_nodules,
        )
        self.version = "+".join(
            (
                *(f"{one.name}-{one.version}" for one in self._models(self._in_service)),
                f"{settings.canary_version or ''}@{settings.canary_share:g}",
                f"{settings.most_candidates}/{settings.least_score:g}",
                f"{settings.least_diameter_mm:g}/{settings.most_nodules}",
            )
        )
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds

    async def handle(self, event: volume_pb2.VolumeReady, ctx: Context) -> Sequence[Message]:
        """Return the NodulesDetected of a volume; possibly without nodules.

        Raises Unavailable when Triton is away.
        """
        ctx.progress(0.02, "reading the volume")
        scan = await asyncio.to_thread(_read, event, ctx)
        settings = self._settings
        chosen, others = self._readers(event.study.study_id)
        async with connected(
            settings.triton,
            settings.in_flight,
            settings.request_seconds,
            settings.shared_memory == "auto",
        ) as triton:
            findings = await self._find(
                triton,
                chosen,
                scan,
                lambda share, doing: ctx.progress(0.05 + 0.9 * share, doing),
            )
            ctx.progress(0.96, "keeping masks")
            nodules = await asyncio.to_thread(self._nodules, ctx, scan, chosen, findings)
            for role, other in others:
                await self._read_again(triton, role, other, scan, nodules, ctx)
        self._metrics.found(event.study.tenant, nodules)
        return [
            nodule_pb2.NodulesDetected(
                study=event.study, exam=event, nodules=nodules, models=self._models(chosen)
            )
        ]

    def _readers(self, study_id: str) -> tuple[Lineup, list[tuple[str, Lineup]]]:
        """Return who reads a study, and who reads it too, each with its role."""
        settings = self._settings
        chosen, others = self._in_service, []
        if settings.canary_version and lineup.read_by_canary(study_id, settings.canary_share):
            others.append(("in_service", chosen))
            chosen = lineup.with_versions(chosen, settings.canary_version)
        if settings.shadow_version:
            shadow = lineup.with_versions(self._in_service, settings.shadow_version)
            others.append(("shadow", shadow))
        return chosen, others

    async def _find(
        self,
        triton: Triton,
        networks: Lineup,
        scan: _Scan,
        progress: Callable[[float, str], None] = lambda share, doing: None,
    ) -> list[Finding]:
        return await find_nodules(
            triton, networks, scan.hu, scan.lobes, scan.spacing, self._limits, progress
        )

    async def _read_again(
        self,
        triton: Triton,
        role: str,
        networks: Lineup,
        scan: _Scan,
        passed_on: Sequence[nodule_pb2.Nodule],
        ctx: Context,
    ) -> None:
        """Keep what other versions find; what goes wrong there never holds up the study."""
        versions = lineup.label(networks)
        try:
            findings = await self._find(triton, networks, scan)
            nodules = [nodule_message(one, scan.grid, scan.lobes) for one in findings]
            agreed = agreement(passed_on, nodules)
            content = reading(role, self._models(networks), nodules, agreed)
            key = f"{scan.prefix}/{role.replace('_', '-')}-{versions}.json"
            await asyncio.to_thread(ctx.blobs.put, key, content, "application/json")
        except Exception as error:
            log.warning("the %s reading by %s failed: %s", role, versions, type(error).__name__)
            self._comparisons.fail(role, versions)
            return
        self._comparisons.count(role, versions, agreed)

    def _nodules(
        self, ctx: Context, scan: _Scan, networks: Lineup, findings: Sequence[Finding]
    ) -> list[nodule_pb2.Nodule]:
        """Measure the findings, keep their masks, and number them."""
        headers = read_headers(ctx.blobs, scan.event.volume.headers)
        study = scan.event.study
        detector = networks.detector
        nodules = []
        for number, finding in enumerate(findings, start=1):
            nodule = nodule_message(finding, scan.grid, scan.lobes)
            nodule.number = number
            nodule.nodule_id = deterministic_id(
                "nodule",
                study.study_id,
                study.revision,
                detector.name,
                detector.version,
                *(f"{value:.1f}" for value in nodule.center_lps_mm),
            )
            nodule.slice_sop_instance_uid = headers[nodule.slice_index].SOPInstanceUID
            nodule.detector.name, nodule.detector.version = detector.name, detector.version
            nodule.mask.voxels.CopyFrom(
                write_array(ctx.blobs, f"{scan.prefix}/masks/{nodule.nodule_id}", finding.labels)
            )
            nodules.append(nodule)
        return nodules

    def _models(self, networks: Lineup) -> list[volume_pb2.ModelVersion]:
        """Return all that made the figures."""
        pairs = [*((one.name, one.version) for one in networks.networks), *_RULES]
        return [volume_pb2.ModelVersion(name=name, version=version) for name, version in pairs]


def _read(event: volume_pb2.VolumeReady, ctx: Context) -> _Scan:
    return _Scan(
        event=event,
        hu=read_array(ctx.blobs, event.volume.hu),
        lobes=read_array(ctx.blobs, event.volume.lobes),
        grid=Grid.from_proto(event.volume.geometry),
    )
