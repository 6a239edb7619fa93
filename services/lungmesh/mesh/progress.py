"""StageProgress: how far a stage is with a study. Best effort; nothing waits for it."""

from __future__ import annotations

import time
import uuid

from google.protobuf.timestamp_pb2 import Timestamp

from lungmesh.mesh import envelope
from lungmesh.mesh.bus.port import Bus
from lungmesh.mesh.envelope import Event
from lungmesh.mesh.stage import Stage
from lungmesh.v1 import events_pb2
from lungmesh.v1.events_pb2 import StageProgress

_RUNNING_EVERY_SECONDS = 0.5


class Progress:
    """Tells of one event's way through a visible stage; callable from any thread."""

    def __init__(self, bus: Bus, stage: Stage, event: Event) -> None:
        self._bus = bus
        self._stage = stage
        self._event = event
        self._told = 0.0
        self.started = time.time()
        self.queue_seconds = max(0.0, self.started - event.made_at) if event.made_at else 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the handler started."""
        return max(0.0, time.time() - self.started)

    def tell(
        self,
        state: events_pb2.StageState.ValueType,
        fraction: float = 0.0,
        detail: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Send one message."""
        if not self._stage.visible:
            return
        at = Timestamp()
        at.GetCurrentTime()
        message = StageProgress(
            study=self._event.study,
            stage=self._stage.name,
            state=state,
            fraction=min(1.0, max(0.0, fraction)),
            detail=detail,
            handler_seconds=seconds,
            queue_seconds=self.queue_seconds,
            at=at,
        )
        self._bus.post(envelope.outgoing(message, str(uuid.uuid4()), self._stage.name))

    def running(self, fraction: float, detail: str) -> None:
        """Send how far the handler is, at most twice a second."""
        now = time.monotonic()
        if now - self._told >= _RUNNING_EVERY_SECONDS:
            self._told = now
            self.tell(events_pb2.STAGE_STATE_RUNNING, fraction, detail)
