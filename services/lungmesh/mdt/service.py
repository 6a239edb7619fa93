"""The mdt service: its stage on the bus, and recommendations by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
from google.protobuf.message import Message

from lungmesh.mdt import bts, recommend, staging
from lungmesh.mdt.settings import MdtSettings
from lungmesh.mesh import Context, Mesh, Service, Stage
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.revisions import read_revision, revision_key
from lungmesh.mesh.settings import load
from lungmesh.v1 import mdt_pb2, mdt_pb2_grpc
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.mdt_pb2 import MdtRecommended

_MEDIA_TYPE = "application/x-protobuf"


class MdtStage(Stage):
    """Writes what the team needs to decide, and keeps it."""

    name = "mdt"
    consumes = (FollowupUpdated,)
    produces = (MdtRecommended,)
    version = "+".join("-".join(rules) for rules in (recommend.RULES, staging.EDITION, bts.RULES))

    def __init__(self, settings: MdtSettings) -> None:
        self.concurrency = settings.concurrency
        self.deadline_seconds = settings.deadline_seconds

    def handle(self, event: FollowupUpdated, ctx: Context) -> Sequence[Message]:
        """Return the MdtRecommended of an exam."""
        recommendation = recommend.recommend(event)
        study = event.study
        ctx.blobs.put(
            revision_key(study.tenant, study.study_id, self.name, study.revision, event.edition),
            recommendation.SerializeToString(deterministic=True),
            _MEDIA_TYPE,
        )
        return [recommendation]


def read_recommendation(
    blobs: BlobStore, tenant: str, study_id: str, revision: int
) -> MdtRecommended:
    """Return the newest edition of a kept recommendation; revision 0 means the newest.

    Raises BlobMissing when none is kept.
    """
    missing = "no recommendation is kept for this study"
    kept = read_revision(blobs, tenant, study_id, MdtStage.name, revision, missing)
    return MdtRecommended.FromString(kept)


class MdtServicer(mdt_pb2_grpc.MdtServiceServicer):
    """Answers with the stage's own handler, and from what it kept."""

    def __init__(self, mesh: Mesh, stage: MdtStage) -> None:
        self._mesh, self._stage = mesh, stage

    async def Recommend(
        self, request: mdt_pb2.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> mdt_pb2.RecommendResponse:
        """Recommend for a given exam; nothing goes to the bus."""
        event = await self._mesh.call(self._stage, request.event, MdtRecommended)
        return mdt_pb2.RecommendResponse(event=event)

    async def GetRecommendation(
        self, request: mdt_pb2.GetRecommendationRequest, context: grpc.aio.ServicerContext
    ) -> mdt_pb2.GetRecommendationResponse:
        """Return a kept recommendation; NOT_FOUND when there is none."""
        event = await asyncio.to_thread(
            read_recommendation,
            self._mesh.blobs,
            request.tenant,
            request.study_id,
            request.revision,
        )
        return mdt_pb2.GetRecommendationResponse(event=event)


def build(mesh: Mesh) -> Service:
    """Return the service.

    Raises SettingsError when a LUNGMESH_MDT__ setting is wrong.
    """
    stage = MdtStage(load(MdtSettings))

    def register(server: grpc.aio.Server) -> Sequence[str]:
        mdt_pb2_grpc.add_MdtServiceServicer_to_server(MdtServicer(mesh, stage), server)
        return [mdt_pb2.DESCRIPTOR.services_by_name["MdtService"].full_name]

    return Service(name="mdt", stages=[stage], register=register)
