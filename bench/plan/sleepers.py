"""Stages on the real chassis that sleep as long as their study says: the mesh without its medicine.

    python -m bench.plan.sleepers sleepers

Sleeping costs no processor, so what is left of a turnaround is what broker and chassis do: lanes,
places, partitions, hops. The seconds ride in the field `manifest.media_type` of the study, and are
handed on in the texts of the events that follow.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from google.protobuf.message import Message

from lungmesh.mesh import Context, Mesh, Service, Stage
from lungmesh.mesh.serve import run
from lungmesh.v1.report_pb2 import ReportDelivered
from lungmesh.v1.study_pb2 import StudyReceived


class First(Stage):
    """Two places, as a stage of quick handlers has."""

    name = "first"
    consumes = (StudyReceived,)
    produces = (ReportDelivered,)
    concurrency = 2

    async def handle(self, event: StudyReceived, ctx: Context) -> Sequence[Message]:
        """Sleep, and hand the other stage's seconds on."""
        own, _, rest = event.manifest.media_type.partition(" ")
        await asyncio.sleep(float(own))
        return [ReportDelivered(study=event.study, destination=rest, object_count=1)]


class Second(Stage):
    """One place: the stage that others wait for."""

    name = "second"
    consumes = (ReportDelivered,)

    async def handle(self, event: ReportDelivered, ctx: Context) -> Sequence[Message]:
        """Sleep."""
        await asyncio.sleep(float(event.destination))
        return []


def build(mesh: Mesh) -> Service:
    """Both stages in one process."""
    return Service("sleepers", [First(), Second()])


if __name__ == "__main__":
    run(build, sys.argv[1])
