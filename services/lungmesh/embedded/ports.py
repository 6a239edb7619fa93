"""TCP ports of 127.0.0.1 for the processes of a one-machine mesh."""

from __future__ import annotations

import secrets
import socket

from lungmesh.mesh.errors import MeshError

# Below the range that the kernel gives to outgoing connections, so that none takes a port
# between our look and the process's start.
_LOWEST, _HIGHEST = 15000, 32000


class PortTaken(MeshError):
    """The port that was asked for is in use."""


def free_ports(count: int) -> list[int]:
    """Return different ports that are free now.

    Raises MeshError when there are not that many.
    """
    span = _HIGHEST - _LOWEST
    first = secrets.randbelow(span)
    found: list[int] = []
    for step in range(span):
        if len(found) == count:
            return found
        port = _LOWEST + (first + step) % span
        if _is_free("127.0.0.1", port):
            found.append(port)
    raise MeshError(f"fewer than {count} TCP ports are free on this machine")


def require_free(port: int, purpose: str, option: str, host: str = "127.0.0.1") -> None:
    """Check that a chosen port can be bound.

    Raises PortTaken, naming the port and the option that chooses another.
    """
    if not _is_free(host, port):
        raise PortTaken(
            f"port {port} ({purpose}) is taken: stop what listens there, or choose another "
            f"with {option}"
        )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
