"""Toy services on the real chassis: run as `python -m tests.integration.mesh.toy NAME`.

Their stages take StudyReceived and give it back as ReportDelivered; what a handler does is chosen
by the study's `study_instance_uid`-free part: its manifest's media type.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lungmesh.mesh import Context, Mesh, RetryPolicy, Service, Stage, Unavailable
from lungmesh.mesh.bus.kafka import KafkaBus
from lungmesh.mesh.results import BlobResults, DatabaseResults
from lungmesh.mesh.serve import run
from lungmesh.v1.report_pb2 import ReportDelivered
from lungmesh.v1.study_pb2 import StudyReceived

DIARY = Path(os.environ.get("TOY_DIARY", os.devnull))


def note(word: str) -> None:
    """Append a line to the diary that tests read; one write, so lines stay whole."""
    with DIARY.open("a") as diary:
        diary.write(f"{time.time():.3f} {word}\n")


class Base(DeclarativeBase):
    """The toy's own tables."""


class Seen(Base):
    """One row a study."""

    __tablename__ = "seen"
    study_id: Mapped[str] = mapped_column(primary_key=True)
    times: Mapped[int]


class ToyStage(Stage):
    """Sleeps as long as the manifest's media type says, or fails in the way it says."""

    name = "toy"
    consumes = (StudyReceived,)
    produces = (ReportDelivered,)
    retry = RetryPolicy(unavailable_delays=(0.2, 0.2), defect_delays=(0.2,))
    concurrency = 4

    def handle(self, event: StudyReceived, ctx: Context) -> Sequence[Message]:
        """Do what the event says."""
        order = event.manifest.media_type
        note(f"start {event.study.study_id}")
        if order.startswith("sleep "):
            until = time.monotonic() + float(order.removeprefix("sleep "))
            while (left := until - time.monotonic()) > 0:
                ctx.progress(0.5, "sleeping")
                time.sleep(min(0.05, left))
        if order == "away":
            raise Unavailable("the toy is away")
        if order == "broken" and not Path(f"{DIARY}.mended").exists():
            raise ValueError("a bug")
        if isinstance(self, LedgerStage):
            ctx.on_commit(lambda session: _write(session, event.study.study_id))
        note(f"end {event.study.study_id}")
        return [ReportDelivered(study=event.study, destination="toy", object_count=1)]


class LedgerStage(ToyStage):
    """The same with state and order."""

    name = "ledger"
    ordered = True


class QuietStage(ToyStage):
    """Does nothing, unseen, many at once: for the speed of the chassis alone."""

    name = "quiet"
    visible = False
    concurrency = 32

    async def handle(  # type: ignore[override]
        self, event: StudyReceived, ctx: Context
    ) -> Sequence[Message]:
        """Give the event on."""
        return [ReportDelivered(study=event.study, destination="toy", object_count=1)]


class SilentStage(QuietStage):
    """The same through the outbox."""

    name = "silent"


class EchoStage(Stage):
    """Takes what the toy gave: the second link of a chain."""

    name = "echo"
    consumes = (ReportDelivered,)

    def handle(self, event: ReportDelivered, ctx: Context) -> Sequence[Message]:
        """Note it."""
        note(f"echo {event.study.study_id}")
        return []


class SlowestStage(ToyStage):
    """One event at a time, so that the order of the lanes shows."""

    name = "single"
    concurrency = 1


def crash_at_points() -> None:
    """Have the process die as by SIGKILL, once at each point between an event's steps."""

    def die_once(point: str) -> None:
        mark = Path(f"{DIARY}.{point}")
        if not mark.exists():
            mark.touch()
            note(f"died {point}")
            os.kill(os.getpid(), signal.SIGKILL)

    def before(kind: type, name: str, point: str) -> None:
        original = getattr(kind, name)

        async def wrapped(self: Any, *args: Any) -> Any:
            die_once(point)
            return await original(self, *args)

        setattr(kind, name, wrapped)

    def after(kind: type, name: str, point: str) -> None:
        original = getattr(kind, name)

        async def wrapped(self: Any, *args: Any) -> Any:
            answer = await original(self, *args)
            die_once(point)
            return answer

        setattr(kind, name, wrapped)

    for kind in (BlobResults, DatabaseResults):
        before(kind, "keep", "handled-not-kept")
    # Stateless: kept, and not yet published. Stateful: committed, and the relay has not looked yet.
    before(BlobResults, "send_again", "kept-not-published")
    after(DatabaseResults, "_commit", "kept-not-published")
    # Acknowledged by the broker; neither the outbox nor the offset knows.
    after(KafkaBus, "publish", "published-not-committed")


async def _write(session: AsyncSession, study_id: str) -> None:
    row = await session.get(Seen, study_id)
    if row is None:
        session.add(Seen(study_id=study_id, times=1))
    else:
        row.times += 1


def build_toy(mesh: Mesh) -> Service:
    """A stateless service."""
    return Service("toy", [ToyStage()])


def build_quiet(mesh: Mesh) -> Service:
    """A stateless service with a stage that does nothing."""
    return Service("quiet", [QuietStage()])


def build_silent(mesh: Mesh) -> Service:
    """A stateful service with a stage that does nothing."""
    migrations = Path(__file__).parent / "toy_migrations"
    return Service("silent", [SilentStage()], migrations=migrations)


def build_chain(mesh: Mesh) -> Service:
    """A stateful stage and one that takes what it gives."""
    return Service(
        "chain",
        [LedgerStage(), EchoStage()],
        migrations=Path(__file__).parent / "toy_migrations",
    )


def build_single(mesh: Mesh) -> Service:
    """A stateless service that does one thing at a time."""
    return Service("single", [SlowestStage()])


def build_ledger(mesh: Mesh) -> Service:
    """A stateful service."""

    async def again() -> None:
        note("reset")

    mesh.on_broker_reset(again)
    return Service("ledger", [LedgerStage()], migrations=Path(__file__).parent / "toy_migrations")


if __name__ == "__main__":
    name = sys.argv[1]
    if os.environ.get("TOY_CRASHES"):
        crash_at_points()
    builders = {
        "toy": build_toy,
        "quiet": build_quiet,
        "silent": build_silent,
        "ledger": build_ledger,
        "chain": build_chain,
        "single": build_single,
    }
    run(builders[name], name)
