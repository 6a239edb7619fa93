"""DICOM storage commitment: ask a peer to take responsibility, and hear what it says (PS3.4 J).

The peer answers on an association of its own, so whoever asks runs a `CommitmentListener`, and the
peer knows its address.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from pynetdicom.transport import ThreadedAssociationServer

from lungmesh.mesh.dicom_scu import SUCCESS, Peer, Sender
from lungmesh.mesh.errors import Refused, SettingsError, Unavailable

log = logging.getLogger(__name__)

_REQUEST = 1
# N-ACTION statuses that do not change by asking again (PS3.7 annex C): no such action, class,
# instance, argument; not authorized.
_LASTING = {0x0112, 0x0114, 0x0118, 0x0119, 0x0122, 0x0123, 0x0124, 0x0211}
_PROCESSING_FAILURE = 0x0110


@dataclass(frozen=True)
class Instance:
    """An object that is to be committed."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Commitment:
    """What a peer says of a transaction.

    Attributes
    ----------
    committed
        SOP Instance UIDs that it takes responsibility for.
    failed
        Failure Reason (PS3.3 C.14.1.1) by the SOP Instance UIDs that it does not.
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: dict[str, int]


def request_commitment(instances: Sequence[Instance], transaction_uid: str, peer: Peer) -> None:
    """Ask a peer to commit objects that it stored.

    Raises Refused when it does not offer that, Unavailable when it may take the request later.
    """
    request = Dataset()
    request.TransactionUID = transaction_uid
    items = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.sop_class_uid
        item.ReferencedSOPInstanceUID = instance.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = Items(items)
    with Sender(peer, {(StorageCommitmentPushModel, ImplicitVRLittleEndian)}) as sender:
        status = sender.act(
            request, _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    if status == SUCCESS:
        return
    text = f"the peer {sender.name} answered 0x{status:04X} when asked for storage commitment"
    raise Refused(text) if status in _LASTING else Unavailable(text)


class CommitmentListener:
    """Takes what peers say of storage commitments.

    Parameters
    ----------
    keep
        Called in a thread of its own with each report; returns once it is kept, and whether the
        transaction is known.
    """

    def __init__(self, keep: Callable[[Commitment], bool]) -> None:
        self._keep = keep
        self._server: ThreadedAssociationServer | None = None

    def start(self, host: str, port: int, calling: Sequence[str]) -> int:
        """Listen for peers of these AE titles alone; return the port.

        Raises SettingsError when the port is taken.
        """
        entity = AE()
        entity.require_calling_aet = list(calling)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        try:
            server = entity.start_server(
                (host, port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._told)]
            )
        except OSError as error:
            raise SettingsError(f"{host}:{port} cannot be bound: {error.strerror}") from error
        if server is None:
            raise SettingsError(f"{host}:{port} cannot be bound")
        self._server = server
        bound: int = server.server_address[1]
        return bound

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()

    def _told(self, event: evt.Event) -> tuple[int, None]:
        said = event.event_information
        commitment = Commitment(
            str(said.get("TransactionUID", "")),
            frozenset(
                str(x.ReferencedSOPInstanceUID) for x in said.get("ReferencedSOPSequence", ())
            ),
            {
                str(x.ReferencedSOPInstanceUID): int(x.get("FailureReason", _PROCESSING_FAILURE))
                for x in said.get("FailedSOPSequence", ())
            },
        )
        try:
            if not self._keep(commitment):
                log.warning("a storage commitment that was not asked for was reported")
        except Exception as error:
            log.warning("a storage commitment could not be kept: %s", type(error).__name__)
            return _PROCESSING_FAILURE, None
        return SUCCESS, None
