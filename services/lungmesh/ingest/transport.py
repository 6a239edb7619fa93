"""What makes an association quick: whole reads, and answers that do not wait."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any


def tune(event: Any, idle_seconds: float) -> None:
    """Tune a connection that was just opened (pynetdicom's EVT_CONN_OPEN).

    A peer that stops inside a PDU for `idle_seconds` is given up: pynetdicom would wait for ever.
    Nagle's algorithm would hold an answer back until the peer acknowledges the one before, which
    it may put off for 40 ms; a sender that has Nagle's algorithm on waits in the same way for us,
    so we acknowledge at once. And pynetdicom reads 4 KiB at a time, each a turn of the
    interpreter's lock; one read of the whole PDU lets the other associations work meanwhile.
    """
    transport = event.assoc.dul.socket
    connection: socket.socket | None = transport.socket if transport is not None else None
    if connection is None:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    limit = struct.pack("@ll", int(idle_seconds), int(idle_seconds % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    quick = getattr(socket, "TCP_QUICKACK", None)
    # TLS gives one of its records at a time, and takes no flags.
    flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL

    def recv(nr_bytes: int) -> bytearray:
        data = bytearray(nr_bytes)
        view = memoryview(data)
        got = 0
        while got < nr_bytes:
            count = connection.recv_into(view[got:], nr_bytes - got, flags)
            if not count:
                break
            got += count
            if quick is not None:
                # The kernel forgets it after a while, so it is said at every read.
                connection.setsockopt(socket.IPPROTO_TCP, quick, 1)
        view.release()
        del data[got:]
        return data

    transport.recv = recv
