"""The ingest service: three doors into one core, put together."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pydicom.config
from sqlalchemy import select

from lungmesh.ingest.assembly import Patience
from lungmesh.ingest.counting import count_unfinished
from lungmesh.ingest.find import Finder
from lungmesh.ingest.identity import Vault
from lungmesh.ingest.index import Index
from lungmesh.ingest.intake import Inbox, Intake
from lungmesh.ingest.keeper import Keeper
from lungmesh.ingest.loader import Loader
from lungmesh.ingest.metrics import IngestMetrics
from lungmesh.ingest.scp import Scp
from lungmesh.ingest.servicer import IngestServicer
from lungmesh.ingest.settings import IngestSettings
from lungmesh.ingest.shelf import Shelf
from lungmesh.ingest.spool import Spool
from lungmesh.ingest.stage import OutcomeStage
from lungmesh.ingest.store import StudyRow
from lungmesh.ingest.stow import StowServer
from lungmesh.mesh import Mesh, Service
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.settings import load
from lungmesh.mesh.tasks import finish
from lungmesh.mesh.tls import not_after
from lungmesh.v1 import ingest_pb2, ingest_pb2_grpc
from lungmesh.v1.ingest_pb2 import STUDY_STATE_PROCESSING

MIGRATIONS = Path(__file__).parent / "migrations"
_ASSOCIATIONS_END_SECONDS = 10.0


def build(mesh: Mesh) -> Service:
    """Hand ingest to the chassis.

    Raises SettingsError when a LUNGMESH_INGEST__ setting is wrong.
    """
    _quiet_pydicom()
    settings = load(IngestSettings)
    vault = Vault(settings.identity_key.get_secret_value())
    loader = Loader(mesh.sessions)
    metrics = IngestMetrics(mesh.metrics.registry)
    metrics.least_free_bytes.set(settings.min_free_bytes)
    metrics.expect(settings.tenant_names())
    intake = Intake(
        spool=Spool(settings.spool, settings.fsync),
        blobs=mesh.blobs,
        index=Index(loader.study),
        inbox=Inbox(),
        lookup=vault.lookup,
        metrics=metrics,
        max_object_bytes=settings.max_object_bytes,
        min_free_bytes=settings.min_free_bytes,
    )
    shelf = Shelf(mesh.sessions, mesh.blobs, vault)
    keeper = Keeper(mesh, intake, shelf, _patience(settings))
    scp = Scp(settings, intake, Finder(loader, vault, keeper.settle))
    stow = StowServer(settings, intake)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(
            IngestServicer(mesh, settings, intake, keeper, vault), server
        )
        return [ingest_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name]

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[dict[str, int]]:
        loader.attach()
        await keeper.start()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(keeper.close)
            dicom_port = scp.start()
            if settings.dicom_tls:
                ends = not_after(settings.dicom_tls.certificate)
                mesh.metrics.certificate.labels("dicom").set(ends)
            stack.push_async_callback(asyncio.to_thread, scp.stop, _ASSOCIATIONS_END_SECONDS)
            stow_port = await stow.start()
            stack.push_async_callback(stow.stop)
            counting = asyncio.create_task(count_unfinished(mesh, metrics, intake.spool))
            stack.push_async_callback(finish, {counting}, 0.0)
            yield {"dicom": dicom_port, "stow": stow_port}

    async def send_unfinished_again() -> None:
        async with mesh.sessions() as session, session.begin():
            unfinished = (
                await session.scalars(
                    select(StudyRow.event_id).where(StudyRow.state == STUDY_STATE_PROCESSING)
                )
            ).all()
            progress = [deterministic_id(event_id, "progress") for event_id in unfinished]
            await mesh.emit_again(session, [*unfinished, *progress])

    mesh.on_broker_reset(send_unfinished_again)
    return Service(
        name="ingest",
        stages=[OutcomeStage(metrics)],
        register=register,
        lifespan=lifespan,
        migrations=MIGRATIONS,
    )


def _patience(settings: IngestSettings) -> Patience:
    return Patience(
        quiet=settings.quiet_seconds,
        grace=settings.release_grace_seconds if settings.close_on_release else None,
        hold=settings.hold_seconds,
        expiry=settings.expiry_seconds,
    )


def _quiet_pydicom() -> None:
    """Keep pydicom from writing elements' values, which may name a patient, into the log."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module=r"pydicom\..*")
