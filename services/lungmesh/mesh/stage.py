"""The one verb of the mesh: a stage handles an event and returns events."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.contract import validate
from lungmesh.mesh.errors import Unavailable

StateWrite = Callable[[AsyncSession], Awaitable[None]]
ProgressSink = Callable[[float, str], None]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long apart a failing event is tried again.

    Attributes
    ----------
    unavailable_delays
        Seconds before each retry after `Unavailable`.
    defect_delays
        Seconds before each retry after any other unexpected error: our bug, so few.
    """

    unavailable_delays: tuple[float, ...] = (1.0, 5.0, 30.0, 120.0)
    defect_delays: tuple[float, ...] = (1.0,)


@dataclass
class Context:
    """What a handler may use beside its event. One a call; never shared between events.

    Attributes
    ----------
    event_id
        Deterministic id of the event being handled.
    blobs
        The object store.
    deadline
        `time.monotonic()` value after which the work is given up.
    """

    event_id: str
    blobs: BlobStore
    deadline: float = float("inf")
    _progress: ProgressSink | None = None
    _thread: threading.Thread | None = None
    _writes: list[StateWrite] = field(default_factory=list)

    def progress(self, fraction: float, detail: str = "") -> None:
        """Tell watchers how far the work is, 0 … 1; may be called from any thread.

        Raises Unavailable when the event's deadline has passed, so long loops stop by themselves.
        """
        if time.monotonic() > self.deadline:
            raise Unavailable("the stage's deadline passed before its work was done")
        if self._progress is not None:
            self._progress(fraction, detail)

    def on_commit(self, write: StateWrite) -> None:
        """Write state in the same database transaction as the outgoing events (outbox).

        Only stages of a service with a database may call it. `write` runs after `handle` returned.
        """
        self._writes.append(write)


class Stage(ABC):
    """One step of a study's way through the mesh.

    Subclasses set the class attributes and write `handle`, async or plain; a plain one runs in a
    worker thread, so it may block and compute.
    """

    # Stable name: topics, metrics, traces and progress carry it.
    name: ClassVar[str]
    # Event types taken in and given out.
    consumes: ClassVar[tuple[type[Message], ...]]
    produces: ClassVar[tuple[type[Message], ...]] = ()
    # Versions of the rules and models inside; part of every outgoing event's id.
    version: str = "1"
    # Events handled at once in one process.
    concurrency: int = 1
    # True where one patient's events must be handled in order: a failing one parks its key.
    ordered: ClassVar[bool] = False
    # True where handling shows as progress of the study.
    visible: ClassVar[bool] = True
    deadline_seconds: float = 600.0
    retry: RetryPolicy = RetryPolicy()

    @abstractmethod
    def handle(self, event: Any, ctx: Context) -> Sequence[Message] | Awaitable[Sequence[Message]]:
        """Handle one event and return the events that follow from it.

        Must be idempotent: the same event gives the same events and the same blob keys.
        """

    async def open(self) -> None:  # noqa: B027
        """Acquire what lives as long as the process (clients, pools)."""

    async def close(self) -> None:  # noqa: B027
        """Release it."""


async def run_stage(stage: Stage, event: Message, ctx: Context) -> list[Message]:
    """Run a stage's handler as every door does: bus, gRPC and tests.

    Checks the event and what the handler returns against their field rules, runs a plain handler
    off the event loop, and holds the deadline: a handler that is given up has its next
    `ctx.progress` raise Unavailable.

    Raises BadInput for an event that breaks its rules, Unavailable past the deadline, and what the
    handler raises.
    """
    validate(event)
    ctx.deadline = min(ctx.deadline, time.monotonic() + stage.deadline_seconds)
    if inspect.iscoroutinefunction(stage.handle):
        work: Awaitable[Sequence[Message]] = stage.handle(event, ctx)
    else:
        work = _on_own_thread(stage, event, ctx)
    limit = ctx.deadline
    try:
        async with asyncio.timeout(max(0.0, limit - time.monotonic())) as waited:
            outputs = await work
    except BaseException as error:
        ctx.deadline = 0.0
        if not (isinstance(error, TimeoutError) and waited.expired()):
            raise
        raise Unavailable(
            f"{stage.name} did not finish within its deadline of {stage.deadline_seconds:g} s"
        ) from error
    for output in outputs:
        if not isinstance(output, stage.produces):
            raise TypeError(f"{stage.name} returned {type(output).__name__}, not in its produces")
        try:
            validate(output)
        except Exception as error:
            # An output that breaks the contract is our bug, not the sender's.
            raise AssertionError(str(error)) from error
    return list(outputs)


async def _on_own_thread(stage: Stage, event: Message, ctx: Context) -> Sequence[Message]:
    """Run a plain handler on a daemon thread of its own.

    Python cannot stop a thread: one that runs on past its deadline must neither use up a pool that
    others need nor keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Sequence[Message]] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Sequence[Message], error: BaseException | None) -> None:
        if done.done():
            return  # given up in the meantime
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    handle = cast(Callable[[Message, Context], Sequence[Message]], stage.handle)

    def run() -> None:
        result: Sequence[Message] = ()
        error: BaseException | None = None
        try:
            result = context.run(handle, event, ctx)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    ctx._thread = threading.Thread(target=run, name=f"handler-{stage.name}", daemon=True)
    ctx._thread.start()
    return await done
