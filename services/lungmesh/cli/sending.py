"""A folder's study to a DICOM listener by C-STORE."""

from __future__ import annotations

import time
from collections import Counter

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.folder import StudyFolder
from lungmesh.cli.show import Show
from lungmesh.mesh.dicom_scu import Peer, SendReport, send_files
from lungmesh.mesh.errors import Refused, Unavailable

_CALLING = "LUNGMESH-CLI"


def send_folder(
    folder: StudyFolder, address: str, show: Show, called: str = "LUNGMESH"
) -> SendReport:
    """Send every file, and say how many the listener took and why it refused others.

    Parameters
    ----------
    address
        host:port.
    called
        The listener's AE title.

    Raises CommandError: REFUSED when it took none, NO_MESH when it cannot be reached.
    """
    host, port = _split(address)
    started = time.monotonic()
    try:
        report = send_files(
            folder.files,
            Peer(host, port, ae_title=called, calling_ae_title=_CALLING),
            lambda done, total: show.sending(done, total),
        )
    except Refused as error:
        raise CommandError(str(error), Exit.REFUSED) from error
    except Unavailable as error:
        raise CommandError(str(error), Exit.NO_MESH) from error
    seconds = time.monotonic() - started
    megabytes = sum(file.stat().st_size for file in folder.files) / 1e6
    show.note(
        f"sent {report.sent} of {len(report.outcomes)} instances "
        f"({megabytes:.0f} MB) in {seconds:.1f} s",
        sent=report.sent,
        instances=len(report.outcomes),
        seconds=round(seconds, 3),
    )
    refused = Counter(outcome.comment for outcome in report.outcomes if not outcome.sent)
    for comment, count in refused.items():
        show.note(f"{count} not taken: {comment}", refused=count)
    if not report.sent:
        raise CommandError(f"none of the instances was taken: {next(iter(refused))}", Exit.REFUSED)
    return report


def require_all(report: SendReport) -> None:
    """Raise CommandError (REFUSED) unless every instance was taken."""
    missing = len(report.outcomes) - report.sent
    if missing:
        raise CommandError(
            f"{missing} of {len(report.outcomes)} instances were not taken", Exit.REFUSED
        )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(
            f"{address} is no address: give HOST:PORT, such as 127.0.0.1:11112", Exit.USAGE
        )
    return host.strip("[]"), int(port)
