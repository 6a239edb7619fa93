"""Ends the mesh's processes when the supervisor dies, even by SIGKILL.

Runs as a process of its own, with the standard library alone, and reads the supervisor's pipe:
``+<pid>`` names a process group that was started, ``-<pid>`` one that has ended. When the pipe
closes, the supervisor is gone, and every group that is left is told to stop and then killed.

A death signal of the kernel (PR_SET_PDEATHSIG) would follow the thread that forked, not the
process, and does not reach grandchildren such as Triton's Python backends.
"""

from __future__ import annotations

import os
import signal
import sys
import time

GRACE_SECONDS = 5.0


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; return whether it still exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Read until the pipe closes, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        signal_group(group, signal.SIGTERM)
    limit = time.monotonic() + GRACE_SECONDS
    while groups and time.monotonic() < limit:
        time.sleep(0.05)
        groups = {group for group in groups if signal_group(group, 0)}
    for group in groups:
        signal_group(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
