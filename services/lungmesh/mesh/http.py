"""An HTTP server on the service's own event loop, ended by the service and not by signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from lungmesh.mesh.errors import SettingsError


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield


class HttpServer:
    """Serves an application from `start` to `close`.

    Parameters
    ----------
    setting
        Name of the setting that chose the port, for the error of a taken one.
    drain_seconds
        Longest time for requests in hand at `close`; None waits for them.
    """

    def __init__(self, app: Starlette, setting: str, drain_seconds: int | None = None) -> None:
        self._setting = setting
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=drain_seconds,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Bind and serve; return the port.

        Raises SettingsError when the port is taken.
        """
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"{self._setting}: {host}:{port} cannot be bound: {error.strerror}"
            ) from error
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        bound: int = listener.getsockname()[1]
        return bound

    async def close(self) -> None:
        """Take no new request and let those in hand finish."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
