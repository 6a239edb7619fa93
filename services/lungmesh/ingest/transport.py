"""What makes an association quick: whole reads, and answers that do not wait."""

from __future__ import annotations

import socket
from typing import Any


def tune(event: Any) -> None:
    """Tune a connection that was just opened (pynetdicom's EVT_CONN_OPEN).

    Nagle's algorithm would hold an answer back until the peer acknowledges the one before, which
    it may put off for 40 ms. And pynetdicom reads 4 KiB at a time, each a turn of the interpreter's
    lock; one read of the whole PDU lets the other associations work meanwhile.
    """
    transport = event.assoc.dul.socket
    connection: socket.socket | None = transport.socket if transport is not None else None
    if connection is None:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(nr_bytes: int) -> bytearray:
        data = bytearray(nr_bytes)
        view = memoryview(data)
        got = 0
        while got < nr_bytes:
            count = connection.recv_into(view[got:], nr_bytes - got, socket.MSG_WAITALL)
            if not count:
                break
            got += count
        view.release()
        del data[got:]
        return data

    transport.recv = recv
