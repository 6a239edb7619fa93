"""The stage: VolumeReady in, NodulesDetected out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from lungmesh.detection import kind, measure, score, segment
from lungmesh.detection.candidates import Response
from lungmesh.detection.detect import Finding, find_nodules
from lungmesh.detection.message import nodule_message
from lungmesh.detection.network import connected
from lungmesh.detection.settings import DetectionSettings
from lungmesh.detection.working import WorkingGrid, working_grids
from lungmesh.mesh import Context, Stage
from lungmesh.mesh.arrays import read_array, write_array
from lungmesh.mesh.geometry import Grid
from lungmesh.mesh.headers import read_headers
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import nodule_pb2, volume_pb2

_RULES = (
    (segment.NAME, segment.VERSION),
    (score.NAME, score.VERSION),
    (measure.NAME, measure.VERSION),
    (kind.NAME, kind.VERSION),
)
Voxels = npt.NDArray[np.int16]
Labels = npt.NDArray[np.uint8]


class DetectionStage(Stage):
    """Finds, segments, measures and types nodules; the network runs on Triton and nowhere else."""

    name = "detection"
    consumes = (volume_pb2.VolumeReady,)
    produces = (nodule_pb2.NodulesDetected,)

    def __init__(self, settings: DetectionSettings) -> None:
        self._settings = settings
        self._detector = volume_pb2.ModelVersion(
            name=settings.network, version=settings.network_version
        )
        self.version = "+".join(
            (
                f"{settings.network}-{settings.network_version}",
                *(f"{name}-{version}" for name, version in _RULES),
                f"{settings.least_score:g}/{settings.most_nodules}/{settings.solid_above_hu:g}",
            )
        )
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds

    async def handle(self, event: volume_pb2.VolumeReady, ctx: Context) -> Sequence[Message]:
        """Return the NodulesDetected of a volume; possibly without nodules.

        Raises Unavailable when Triton is away.
        """
        ctx.progress(0.02, "reading the volume")
        hu, lobes = await asyncio.to_thread(_read, event, ctx)
        grid = Grid.from_proto(event.volume.geometry)
        spacing = (grid.spacing[2], grid.spacing[1], grid.spacing[0])
        settings = self._settings
        async with connected(
            settings.triton, settings.network, settings.network_version, settings.request_seconds
        ) as network:
            plan = await network.plan()
            grids: list[WorkingGrid] = await asyncio.to_thread(
                working_grids, hu, lobes > 0, spacing, plan.grid_mm
            )
            responses: list[Response] = await network.respond(
                plan,
                grids,
                settings.in_flight,
                lambda share: ctx.progress(0.1 + 0.4 * share, "looking for candidates"),
            )
        findings = await asyncio.to_thread(
            find_nodules,
            hu,
            lobes,
            spacing,
            responses,
            settings.solid_above_hu,
            settings.least_score,
            settings.most_nodules,
            lambda share: ctx.progress(0.5 + 0.45 * share, "measuring candidates"),
        )
        nodules = await asyncio.to_thread(self._nodules, event, ctx, findings, grid, lobes)
        return [
            nodule_pb2.NodulesDetected(
                study=event.study,
                exam=event,
                nodules=nodules,
                models=[
                    self._detector,
                    *(volume_pb2.ModelVersion(name=name, version=ver) for name, ver in _RULES),
                ],
            )
        ]

    def _nodules(
        self,
        event: volume_pb2.VolumeReady,
        ctx: Context,
        findings: Sequence[Finding],
        grid: Grid,
        lobes: Labels,
    ) -> list[nodule_pb2.Nodule]:
        """Measure the findings, keep their masks, and number them."""
        ctx.progress(0.96, "keeping masks")
        headers = read_headers(ctx.blobs, event.volume.headers)
        study = event.study
        prefix = f"{study.tenant}/{study.study_id}/r{study.revision}/{self.name}"
        nodules = []
        for number, finding in enumerate(findings, start=1):
            nodule, mask = nodule_message(finding, grid, lobes, self._settings.solid_above_hu)
            nodule.number = number
            nodule.nodule_id = deterministic_id(
                "nodule",
                study.study_id,
                study.revision,
                self._detector.name,
                self._detector.version,
                *(f"{value:.1f}" for value in nodule.center_lps_mm),
            )
            nodule.slice_sop_instance_uid = headers[nodule.slice_index].SOPInstanceUID
            nodule.detector.CopyFrom(self._detector)
            nodule.mask.voxels.CopyFrom(
                write_array(ctx.blobs, f"{prefix}/masks/{nodule.nodule_id}", mask)
            )
            nodules.append(nodule)
        return nodules


def _read(event: volume_pb2.VolumeReady, ctx: Context) -> tuple[Voxels, Labels]:
    return (
        read_array(ctx.blobs, event.volume.hu),
        read_array(ctx.blobs, event.volume.lobes),
    )
