"""What a destination is given: one edition of a report, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from lungmesh.delivery.identity import PatientIdentity
from lungmesh.v1.report_pb2 import Artefact, ReportReady
from lungmesh.v1.study_pb2 import BlobRef


class Standing(Enum):
    """What a radiologist has said of an edition."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"
    # Signed, and an earlier edition was signed before it.
    CORRECTED = "corrected"


@dataclass(frozen=True)
class Parcel:
    """A report to send.

    Attributes
    ----------
    made_at
        When it was set on its way, seconds since 1970; a repeat has the same.
    read
        Returns the bytes behind a reference; blocks.
    """

    report: ReportReady
    identity: PatientIdentity = field(repr=False)
    standing: Standing
    made_at: float
    read: Callable[[BlobRef], bytes] = field(repr=False)

    def file(self, name: str) -> bytes | None:
        """Return a file of the report; None when the report has none of this name."""
        found = [one for one in self.report.artefacts if one.name == name]
        return self.read(found[0].content) if found else None


class Sender(Protocol):
    """One way to a destination."""

    def wanted(self, report: ReportReady) -> int:
        """Return how many objects of a report the destination takes; 0: nothing is sent."""

    async def send(self, parcel: Parcel) -> None:
        """Return once the destination has confirmed everything.

        Repeated with the same parcel it sends the same ids, so that the receiver has it once.

        Raises Refused when it refuses for good, Unavailable when a later try may succeed.
        """


def objects_of(report: ReportReady, kinds: Collection[str]) -> list[Artefact]:
    """Return a report's DICOM objects of some kinds: `sr.dcm`, `key_3.dcm`."""
    return [
        one
        for one in report.artefacts
        if one.name.endswith(".dcm") and one.name.removesuffix(".dcm").partition("_")[0] in kinds
    ]
