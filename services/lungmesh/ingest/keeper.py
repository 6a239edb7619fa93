"""The keeper: takes what the doors decided, saves it, and closes studies when they are complete."""

from __future__ import annotations

import asyncio
import logging

from opentelemetry import trace
from sqlalchemy.exc import SQLAlchemyError

from lungmesh.ingest import store
from lungmesh.ingest.assembly import Assembly, Decision, Patience
from lungmesh.ingest.clinical import merged
from lungmesh.ingest.closing import CLOSED_BY_IN_WORDS, Close, close_revision, expire
from lungmesh.ingest.index import StudyKey
from lungmesh.ingest.intake import Accepted, Ended, Intake, Item, Refused, Repeated
from lungmesh.ingest.shelf import Batch, Saved, Shelf
from lungmesh.ingest.store import StudyRow
from lungmesh.mesh import Mesh
from lungmesh.mesh.errors import BadInput, Unavailable
from lungmesh.mesh.ids import study_id
from lungmesh.mesh.tasks import finish
from lungmesh.mesh.telemetry import span, trace_from
from lungmesh.v1.study_pb2 import (
    CLOSED_BY_ASSOCIATION_RELEASE,
    CLOSED_BY_EXPLICIT_CALL,
    CLOSED_BY_QUIET_PERIOD,
    ClinicalContext,
    Priority,
    StudyRef,
)

log = logging.getLogger(__name__)

# Objects are saved together: one transaction for many, and few wake-ups beside the doors' threads.
_GATHER_SECONDS = 0.5
_AT_ONCE = 500
_AGAIN_SECONDS = 1.0
_CLOSE_SECONDS = 10.0
_FORGET_SECONDS = 900.0
_LONGEST_SLEEP_SECONDS = 30.0
_CLOSED_BY = {
    Decision.CLOSE_QUIET: CLOSED_BY_QUIET_PERIOD,
    Decision.CLOSE_RELEASE: CLOSED_BY_ASSOCIATION_RELEASE,
}


class UnknownStudy(BadInput):
    """No object of the study has come."""


class Keeper:
    """Owns the open assemblies. One task works through them; CloseStudy waits its turn."""

    def __init__(self, mesh: Mesh, intake: Intake, shelf: Shelf, patience: Patience) -> None:
        self._mesh, self._intake, self._shelf = mesh, intake, shelf
        self._patience = patience
        self._assemblies: dict[StudyKey, Assembly] = {}
        # Taken from the inbox and not saved yet, because the store or the database was away.
        self._unsaved: list[Item] = []
        self._behind = False
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._started = False

    async def start(self) -> None:
        """Take up what an earlier process left, then work."""
        self._loop = asyncio.get_running_loop()
        self._intake.inbox.on_item = self._wake
        await self._recover()
        self._started = True
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Save what the doors handed over; what cannot be saved is found at the next start."""
        self._stopping.set()
        self._woken.set()
        if self._task is not None:
            await finish({self._task}, _CLOSE_SECONDS)

    async def close_study(
        self,
        tenant: str,
        study_instance_uid: str,
        priority: Priority.ValueType,
        clinical: ClinicalContext,
    ) -> StudyRef:
        """Close a study now, with everything that was acknowledged before the call.

        A study that is closed already is closed again, as a new revision, only when the call adds
        something: images that came since, another priority, or clinical context.

        Raises UnknownStudy, BadInput when no usable image came, Unavailable when an acknowledged
        object cannot be saved now or ingest is still starting.
        """
        self._must_have_started()
        key = (tenant, study_instance_uid)
        async with self._turn:
            await self._save()
            if key in self._unsaved_studies():
                raise Unavailable("objects of the study wait for the object store or database")
            row = await self.row(tenant, study_instance_uid)
            if row is None:
                raise UnknownStudy("no object of this study has come: send it first")
            assembly = self._assemblies.get(key)
            stated = merged(row.stated(), clinical)
            if assembly is None or not assembly.usable:
                if row.revision == 0:
                    story = f": {assembly.story()}" if assembly is not None else ""
                    raise BadInput(f"no usable CT image of this study has come{story}", "no_image")
                header = ClinicalContext.FromString(row.header_clinical)
                known = merged(header, row.stated())
                if merged(header, stated) == known and priority in (0, row.priority):
                    return row.reference()
            at = self._intake.clock()
            close = self._closing(assembly, CLOSED_BY_EXPLICIT_CALL, at, priority, stated)
            reference = await self._close_revision(row, close, assembly)
            self._assemblies.pop(key, None)
            return reference

    async def settle(self) -> None:
        """Save what was acknowledged before the call, so that an answer counts it.

        Raises Unavailable while an earlier process's objects are still being taken up.
        """
        self._must_have_started()
        async with self._turn:
            await self._save()

    async def row(self, tenant: str, study_instance_uid: str) -> StudyRow | None:
        """Return what the database knows of a study."""
        async with self._mesh.sessions() as session:
            return await store.study(session, tenant, study_id(tenant, study_instance_uid))

    def waits_for(self, tenant: str, study_instance_uid: str) -> str:
        """Say in words what has come of an open study and what it waits for."""
        assembly = self._assemblies.get((tenant, study_instance_uid))
        if assembly is None:
            return "its first objects are being saved"
        return f"{assembly.story()}; waits for {assembly.waits_for()}"

    def _must_have_started(self) -> None:
        if not self._started:
            raise Unavailable("ingest is starting: ask again in a moment")

    def _wake(self) -> None:
        """Tell the task that the inbox has something; called on the doors' threads."""
        if not self._waking and self._loop is not None:
            self._waking = True
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _recover(self) -> None:
        """Open the assemblies that were open, and read the spool again.

        Their associations broke with the earlier process, so each waits a whole quiet period.
        """
        now = self._intake.clock()
        async with self._mesh.sessions() as session:
            for row in await store.receiving(session):
                assembly = Assembly(self._patience, first_at=now)
                for one in await store.instances(session, row.tenant, row.study_id):
                    if one.revision == 0:
                        assembly.arrived(now, None, one.usable)
                self._assemblies[row.tenant, row.study_instance_uid] = assembly
        left = list(self._intake.spool.left())
        if left:
            log.info("%d objects that an earlier process took in are taken up again", len(left))
        for file in left:
            data = await asyncio.to_thread(file.read)
            await asyncio.to_thread(self._intake.receive, file, data, None, "spool")

    async def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            self._woken.clear()
            self._waking = False
            try:
                async with self._turn:
                    await self._save()
                    await self._decide()
            except Exception:
                # The keeper must outlive any one study.
                log.exception("a turn of the keeper failed; it goes on")
                self._behind = True
            self._tell()
            if stopping:
                return
            if await self._sleep(self._woken, self._rest()):
                await self._sleep(self._stopping, _GATHER_SECONDS)

    @staticmethod
    async def _sleep(event: asyncio.Event, seconds: float) -> bool:
        """Return True at once when the event is set, else False after the seconds."""
        waiter = asyncio.ensure_future(event.wait())
        try:
            done, _ = await asyncio.wait({waiter}, timeout=seconds)
        finally:
            waiter.cancel()
        return bool(done)

    def _rest(self) -> float:
        if self._behind:
            return _AGAIN_SECONDS
        now = self._intake.clock()
        due = min((one.due for one in self._assemblies.values()), default=float("inf"))
        return min(max(due - now, 0.01), _LONGEST_SLEEP_SECONDS)

    async def _save(self) -> None:
        """Save everything that is in the inbox, study by study, and tell the assemblies."""
        self._behind = False
        waiting, self._unsaved = self._unsaved, []
        while items := waiting + self._intake.inbox.take(_AT_ONCE):
            waiting = []
            saved: dict[StudyKey, Saved] = {}
            for key, batch in _by_study(items).items():
                try:
                    saved[key] = await self._shelf.save(key, batch)
                except (Unavailable, SQLAlchemyError, OSError) as error:
                    log.warning("%d objects wait in the spool: %s", len(batch), _first_line(error))
                except Exception:
                    log.exception("%d objects wait in the spool", len(batch))
            for item in items:
                self._apply(item, saved)

    def _apply(self, item: Item, saved: dict[StudyKey, Saved]) -> None:
        if isinstance(item, Ended):
            for assembly in self._assemblies.values():
                assembly.ended(item.at, item.connection, item.released)
            if self._unsaved:
                # It may concern a study whose objects are not saved yet; told twice is told once.
                self._unsaved.append(item)
            return
        key = _study_of(item)
        open_assembly = self._assemblies.get(key)
        if isinstance(item, Repeated):
            if open_assembly is not None:
                open_assembly.touched(item.at, item.connection)
            return
        if key not in saved:
            self._unsaved.append(item)
            self._behind = True
            return
        if not saved[key].receiving:
            return
        assembly = open_assembly or self._assemblies.setdefault(
            key, Assembly(self._patience, first_at=item.at)
        )
        if isinstance(item, Refused):
            assembly.rejected(item.at, item.connection, item.rejection.code)
        elif item.header.sop_instance_uid in saved[key].new:
            assembly.arrived(item.at, item.connection, item.header.usable, item.sender)
        else:
            assembly.touched(item.at, item.connection)

    async def _decide(self) -> None:
        now = self._intake.clock()
        waiting = self._unsaved_studies()
        for key, assembly in list(self._assemblies.items()):
            decision = assembly.decide(now)
            if decision is None or key in waiting:
                continue
            try:
                row = await self.row(*key)
                if row is None:
                    raise LookupError("an open study has no row")
                if decision is Decision.EXPIRE:
                    await expire(self._mesh, row, now, assembly.story())
                    self._intake.metrics.expired.labels(key[0]).inc()
                    log.warning("study %s was given up: no usable image", row.study_id)
                else:
                    close = self._closing(assembly, _CLOSED_BY[decision], now)
                    await self._close_revision(row, close, assembly)
                del self._assemblies[key]
            except (Unavailable, SQLAlchemyError) as error:
                log.warning("a complete study waits: %s", _first_line(error))
                self._behind = True
            except Exception:
                log.exception("a complete study could not be closed")
                self._behind = True
        self._intake.index.forget(now - _FORGET_SECONDS)

    def _closing(
        self,
        assembly: Assembly | None,
        closed_by: int,
        at: float,
        priority: Priority.ValueType | None = None,
        clinical: ClinicalContext | None = None,
    ) -> Close:
        first = assembly.first_at if assembly is not None else at
        last = assembly.last_at if assembly is not None else at
        return Close(
            closed_by,  # type: ignore[arg-type]
            at,
            priority or None,
            clinical,
            receiving_seconds=last - first,
            waiting_seconds=at - last,
        )

    async def _close_revision(
        self, row: StudyRow, close: Close, assembly: Assembly | None
    ) -> StudyRef:
        words = CLOSED_BY_IN_WORDS[close.closed_by]
        # The study's trace goes on from who sent it; a call that closes it is a link.
        caller = trace.get_current_span().get_span_context()
        senders = list(assembly.senders) if assembly is not None else []
        context, links = trace_from([*senders, *([caller] if caller.is_valid else [])])
        with span(
            "close study",
            context=context,
            links=links,
            tenant=row.tenant,
            study_id=row.study_id,
            closed_by=words,
        ):
            reference = await close_revision(self._mesh, row, close)
            self._intake.metrics.closed.labels(row.tenant, words).inc()
            log.info("study %s revision %d closed by %s", row.study_id, reference.revision, words)
        return reference

    def _unsaved_studies(self) -> set[StudyKey]:
        return {_study_of(item) for item in self._unsaved if not isinstance(item, Ended)}

    def _tell(self) -> None:
        metrics, now = self._intake.metrics, self._intake.clock()
        metrics.open_studies.set(len(self._assemblies))
        first = min((one.first_at for one in self._assemblies.values()), default=now)
        metrics.oldest_study_seconds.set(now - first)
        metrics.unsaved.set(len(self._unsaved) + len(self._intake.inbox))


def _study_of(item: Accepted | Refused | Repeated) -> StudyKey:
    if isinstance(item, Accepted):
        return item.file.tenant, item.header.study_instance_uid
    if isinstance(item, Refused):
        return item.file.tenant, item.rejection.study_instance_uid
    return item.tenant, item.study_instance_uid


def _by_study(items: list[Item]) -> dict[StudyKey, Batch]:
    batches: dict[StudyKey, Batch] = {}
    for item in items:
        if isinstance(item, Accepted):
            batches.setdefault(_study_of(item), Batch()).accepted.append(item)
        elif isinstance(item, Refused):
            batches.setdefault(_study_of(item), Batch()).refused.append(item)
    return batches


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
