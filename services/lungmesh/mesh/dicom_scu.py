"""Send DICOM objects to a peer by C-STORE; an object counts as sent when the peer said so."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from lungmesh.mesh.errors import MeshError, Refused, Unavailable

# Files go out as they are on disk, in parts, never decoded or encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

SUCCESS = 0x0000
# An association proposes at most 128 presentation contexts (PS3.8 section 9.3.2).
_MAX_CONTEXTS = 128
# A-ASSOCIATE-RJ (PS3.8 table 9-21): result and source.
_REJECTED_PERMANENT = 1
_SOURCE_PRESENTATION = 3
_REJECTIONS = {
    (1, 2): "it does not support our application context",
    (1, 3): "it does not recognise our calling AE title {calling}",
    (1, 7): "it does not recognise the called AE title {called}",
    (2, 2): "it does not support our protocol version",
    (3, 1): "it is congested",
    (3, 2): "its limit of associations is reached",
}
# Statuses that may pass by themselves: out of resources (A7xx, PS3.4 B.2.3) and processing failure.
_PROCESSING_FAILURE = 0x0110


@dataclass(frozen=True)
class Peer:
    """A C-STORE SCP and how long we wait for it.

    Attributes
    ----------
    ae_title, calling_ae_title
        Called and calling AE title.
    connect_seconds
        Longest wait for the TCP connection and for the answer to the association request.
    answer_seconds
        Longest wait for the answer to one object, and for the network to take more bytes.
    tls
        For a peer that speaks DICOM over TLS; its name must be that of its certificate.
    """

    host: str
    port: int
    ae_title: str = "ANY-SCP"
    calling_ae_title: str = "LUNGMESH"
    connect_seconds: float = 15.0
    answer_seconds: float = 60.0
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Outcome:
    """What the peer answered for one object.

    Attributes
    ----------
    sop_instance_uid
        Empty when the file is not DICOM.
    status
        DIMSE status; None when the object was not offered to the peer.
    comment
        What is wrong; empty on success.
    """

    sop_instance_uid: str
    status: int | None
    comment: str = ""

    @property
    def sent(self) -> bool:
        """True only for status 0: a failure or a warning is not a delivery."""
        return self.status == SUCCESS

    @property
    def may_pass(self) -> bool:
        """True when sending the same object later may succeed."""
        return self.status is not None and (
            self.status & 0xFF00 == 0xA700 or self.status == _PROCESSING_FAILURE
        )


@dataclass(frozen=True)
class SendReport:
    """The outcomes, in the order of the objects."""

    outcomes: tuple[Outcome, ...]

    @property
    def sent(self) -> int:
        """How many objects the peer confirmed."""
        return sum(outcome.sent for outcome in self.outcomes)

    def require_all_sent(self) -> None:
        """Raise unless the peer confirmed every object.

        Raises Refused when it refused one for good, Unavailable when all that failed may pass.
        """
        failed = [outcome for outcome in self.outcomes if not outcome.sent]
        if not failed:
            return
        lasting = [outcome for outcome in failed if not outcome.may_pass]
        reason = (lasting or failed)[0].comment
        text = f"{len(failed)} of {len(self.outcomes)} objects were not sent: {reason}"
        raise Refused(text) if lasting else Unavailable(text)


@dataclass(frozen=True)
class _Item:
    """One object to send, and the presentation context that it needs."""

    content: Path | Dataset
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str

    @property
    def context(self) -> tuple[str, str]:
        return self.sop_class_uid, self.transfer_syntax_uid


def send_files(
    files: Sequence[Path | Dataset],
    peer: Peer,
    on_progress: Callable[[int, int], None] | None = None,
) -> SendReport:
    """Send DICOM files, or datasets held in memory, to a peer.

    Files are sent as they are stored, in their own transfer syntax, one in memory at a time. A
    dataset needs `file_meta` with its transfer syntax. One object that fails does not stop the
    others.

    Parameters
    ----------
    on_progress
        Called with (objects answered, objects in all) after each.

    Raises Refused when the peer turns us away for good, Unavailable when it cannot be reached, does
    not answer in time or is overloaded. What it answers for single objects is in the report.
    """
    outcomes: dict[int, Outcome] = {}
    items: dict[int, _Item] = {}
    for index, content in enumerate(files):
        try:
            items[index] = _describe(content)
        except (InvalidDicomError, AttributeError, EOFError):
            comment = "a file is not a DICOM file with its File Meta Information"
            outcomes[index] = Outcome("", None, comment)
    for batch in _batches(items):
        with Sender(peer, {items[index].context for index in batch}) as sender:
            for index in batch:
                outcomes[index] = sender.send(items[index])
                if on_progress is not None:
                    on_progress(len(outcomes), len(files))
    return SendReport(tuple(outcomes[index] for index in range(len(files))))


def _describe(content: Path | Dataset) -> _Item:
    meta = content.file_meta if isinstance(content, Dataset) else split_dataset(content)[0]
    if isinstance(content, Dataset):
        sop_class, instance = content.SOPClassUID, content.SOPInstanceUID
    else:
        sop_class, instance = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    return _Item(content, str(instance), str(sop_class), str(meta.TransferSyntaxUID))


def _batches(items: dict[int, _Item]) -> Iterator[list[int]]:
    """Yield the objects of one association after the other; nearly always there is one."""
    contexts = list(dict.fromkeys(item.context for item in items.values()))
    for start in range(0, len(contexts), _MAX_CONTEXTS):
        offered = set(contexts[start : start + _MAX_CONTEXTS])
        yield [index for index, item in items.items() if item.context in offered]


class Sender:
    """An association with a peer while the block lasts.

    Entering raises Refused when the peer turns us away for good, Unavailable when it cannot be
    reached.
    """

    def __init__(self, peer: Peer, contexts: set[tuple[str, str]]) -> None:
        self._peer = peer
        self._contexts = sorted(contexts)
        self._rejection: A_ASSOCIATE_RJ | None = None

    def __enter__(self) -> Sender:
        peer = self._peer
        entity = AE(ae_title=peer.calling_ae_title)
        entity.connection_timeout = entity.acse_timeout = peer.connect_seconds
        entity.dimse_timeout = entity.network_timeout = peer.answer_seconds
        try:
            # A name that is not known now may be known later.
            address = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)[0][4]
        except OSError as error:
            raise Unavailable(f"the name of the peer {self.name} is not known") from error
        self._association: Association = entity.associate(
            str(address[0]),
            peer.port,
            # One syntax a context, so that the peer's choice is no other than the file's own.
            contexts=[build_context(*context) for context in self._contexts],
            ae_title=peer.ae_title,
            tls_args=(peer.tls, peer.host) if peer.tls is not None else None,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _limit_waits, [peer.answer_seconds]),
                (evt.EVT_PDU_RECV, self._note_rejection),
            ],
        )
        if not self._association.is_established:
            raise self._not_established()
        _keep_answers(self._association)
        self._accepted = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in self._association.accepted_contexts
        }
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._association.is_established:
            if kind is None:
                self._association.release()
            else:
                self._association.abort()

    def send(self, item: _Item) -> Outcome:
        """Send one object.

        Raises Unavailable when the association is lost.
        """
        if item.context not in self._accepted:
            return Outcome(item.sop_instance_uid, None, self._not_accepted(item))
        try:
            answer = self._association.send_c_store(item.content)
        except RuntimeError as error:
            # No association is left to send on: the peer ended it between two objects.
            raise Unavailable(f"the peer {self.name} ended the association") from error
        if "Status" not in answer:
            raise Unavailable(f"the peer {self.name} did not answer for an object")
        status = int(answer.Status)
        if status == SUCCESS:
            return Outcome(item.sop_instance_uid, status)
        category, meaning = STORAGE_SERVICE_CLASS_STATUS.get(status, ("Failure", "unknown status"))
        # The peer's own comment may quote patient data, so it is left out.
        comment = f"the peer {self.name} answered 0x{status:04X} ({category}: {meaning})"
        return Outcome(item.sop_instance_uid, status, comment)

    def act(self, request: Dataset, action: int, sop_class: UID, instance: UID) -> int:
        """Send an N-ACTION and return its status.

        Raises Unavailable when the association is lost.
        """
        try:
            answer, _ = self._association.send_n_action(request, action, sop_class, instance)
        except RuntimeError as error:
            raise Unavailable(f"the peer {self.name} ended the association") from error
        if "Status" not in answer:
            raise Unavailable(f"the peer {self.name} did not answer to a request")
        return int(answer.Status)

    @property
    def name(self) -> str:
        """The peer, for a person."""
        return f"{self._peer.ae_title} at {self._peer.host}:{self._peer.port}"

    def _not_accepted(self, item: _Item) -> str:
        sop_class, syntax = UID(item.sop_class_uid).name, UID(item.transfer_syntax_uid).name
        return f"the peer {self.name} does not take {sop_class} in {syntax}"

    def _note_rejection(self, event: evt.Event) -> None:
        """Keep the rejection as it comes in.

        The association forgets it where the peer closes the connection right behind it.
        """
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            self._rejection = event.pdu

    def _not_established(self) -> MeshError:
        if self._rejection is not None:
            return self._rejected(self._rejection)
        if self._association.rejected_contexts:
            kinds = ", ".join(sorted({UID(sop_class).name for sop_class, _ in self._contexts}))
            return Refused(f"the peer {self.name} takes none of our objects ({kinds})")
        return Unavailable(f"the peer {self.name} cannot be reached, or does not answer as DICOM")

    def _rejected(self, pdu: A_ASSOCIATE_RJ) -> MeshError:
        known = _REJECTIONS.get((pdu.source or 0, pdu.reason_diagnostic or 0), "it gives no reason")
        reason = known.format(calling=self._peer.calling_ae_title, called=self._peer.ae_title)
        text = f"the peer {self.name} rejected the association: {reason}"
        # Congestion and a local limit pass, whatever the peer calls them.
        if pdu.result == _REJECTED_PERMANENT and pdu.source != _SOURCE_PRESENTATION:
            return Refused(text)
        return Unavailable(text)


def _keep_answers(association: Association) -> None:
    """Leave what the peer answers to `send_c_store`.

    pynetdicom's own thread takes whatever message has come, and is paused for an answer by a flag
    that it may read late on a busy machine: the answer is lost, and the sender waits for ever. A
    sender serves no requests, so that thread, which alone asks without blocking, gets nothing.
    """
    take = association.dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    association.dimse.get_msg = get_msg  # type: ignore[method-assign]


def _limit_waits(event: evt.Event, seconds: float) -> None:
    """Let the kernel end a read or write that the peer holds up; pynetdicom itself would wait."""
    stream: Any = event.assoc.dul.socket.socket  # type: ignore[union-attr]
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    # A small last part must not wait for the acknowledgement of the part before it.
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
