"""The console's stage: everything that happens to a study."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from lungmesh.console import results
from lungmesh.console.bell import Bell
from lungmesh.console.worklist import CONSUMED
from lungmesh.mesh import Context, RetryPolicy, Stage
from lungmesh.v1.console_pb2 import StudySigned


class WorklistStage(Stage):
    """Folds every event of the mesh into the study's row and the results beside it."""

    name = "console"
    consumes = CONSUMED
    # Not by this stage but by the service, when a radiologist signs.
    produces = (StudySigned,)
    visible = False
    deadline_seconds = 30
    # Two processes may make a study's row at once; the second then finds it.
    retry = RetryPolicy(defect_delays=(0.2, 1.0, 5.0))

    def __init__(self, bell: Bell) -> None:
        self._bell = bell

    async def handle(self, event: Any, ctx: Context) -> Sequence[Message]:
        """Change the study's row; gives no events."""

        async def write(session: AsyncSession) -> None:
            if await results.fold(session, event, time.time()):
                self._bell.ring_after(session)

        ctx.on_commit(write)
        return []
