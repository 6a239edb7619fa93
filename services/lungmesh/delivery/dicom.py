"""C-STORE to a PACS, and the question whether it commits what it stored."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydicom import dcmread

from lungmesh.delivery.identity import with_identity
from lungmesh.delivery.parcel import Parcel, objects_of
from lungmesh.delivery.settings import DicomDestination
from lungmesh.mesh.dicom_commitment import Instance, request_commitment
from lungmesh.mesh.dicom_scu import Peer, send_files
from lungmesh.v1.report_pb2 import Artefact, ReportReady


class DicomSender:
    """Sends the chosen objects over one association; each must be confirmed."""

    def __init__(self, destination: DicomDestination) -> None:
        self._kinds = destination.objects
        self._peer = Peer(
            host=destination.host,
            port=destination.port,
            ae_title=destination.ae_title,
            calling_ae_title=destination.calling_ae_title,
            connect_seconds=destination.connect_seconds,
            answer_seconds=destination.answer_seconds,
            tls=destination.tls.context() if destination.tls else None,
        )
        # A thread of its own: a peer that holds up its sender holds up no other's.
        self._thread = ThreadPoolExecutor(1, f"dicom-{destination.name}")

    def wanted(self, report: ReportReady) -> int:
        """Return how many objects go."""
        return len(self.chosen(report))

    async def send(self, parcel: Parcel) -> None:
        """Return once the PACS has answered 0x0000 for each object."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._send, parcel)

    def _send(self, parcel: Parcel) -> None:
        datasets = [
            with_identity(parcel.read(one.content), parcel.identity)
            for one in self.chosen(parcel.report)
        ]
        send_files(datasets, self._peer).require_all_sent()

    async def ask_commitment(self, objects: Sequence[bytes], transaction_uid: str) -> None:
        """Ask the PACS to commit objects (DICOM files); it answers later, to our listener.

        Raises Refused when it offers no commitment, Unavailable when it may take the request later.
        """
        instances = [_instance(data) for data in objects]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            self._thread, request_commitment, instances, transaction_uid, self._peer
        )

    def chosen(self, report: ReportReady) -> list[Artefact]:
        """Return the objects that go, which a commitment is about too."""
        return objects_of(report, self._kinds)


def _instance(data: bytes) -> Instance:
    read = dcmread(io.BytesIO(data), specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return Instance(str(read.SOPClassUID), str(read.SOPInstanceUID))
