"""HL7 v2 over MLLP: the report's ORU^R01 under the patient's own identity, acknowledged."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from datetime import UTC, datetime

from hl7apy.core import Message
from hl7apy.parser import parse_message

from lungmesh.delivery.identity import PatientIdentity
from lungmesh.delivery.parcel import Parcel, Standing
from lungmesh.delivery.settings import MllpDestination
from lungmesh.mesh import Refused, Unavailable
from lungmesh.v1.report_pb2 import ReportReady

_FILE, _PDF = "oru.hl7", "report.pdf"
# MLLP release 1: start block, end block, carriage return.
_START, _END = b"\x0b", b"\x1c\r"
_MOST_ANSWER_BYTES = 1024 * 1024
_ACCEPTED = {"AA", "CA"}
_REFUSED = {"AE": "error", "AR": "reject", "CE": "commit error", "CR": "commit reject"}
# Result status (table 0123) of OBR-25 and OBX-11.
_STATUS = {Standing.UNSIGNED: "P", Standing.SIGNED: "F", Standing.CORRECTED: "C"}
_CONTROL_LENGTH = 20
_ESCAPES = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": " ", "\n": " "}
)


class MllpSender:
    """Sends one message a connection and waits for its acknowledgement."""

    def __init__(self, destination: MllpDestination) -> None:
        self._there = destination
        self._tls = destination.tls.context() if destination.tls else None
        self._name = f"the receiver at {destination.host}:{destination.port}"

    def wanted(self, report: ReportReady) -> int:
        """Return 1: the message."""
        return int(any(one.name == _FILE for one in report.artefacts))

    async def send(self, parcel: Parcel) -> None:
        """Return once the receiver has answered AA or CA for this very message."""
        message, control_id = await asyncio.to_thread(self._message, parcel)
        answer = await self._exchange(message)
        code, of = acknowledged(answer)
        if code in _REFUSED:
            # Its own words may quote patient data.
            raise Refused(f"{self._name} answered {code} ({_REFUSED[code]})")
        if code not in _ACCEPTED or of != control_id:
            raise Unavailable(f"{self._name} did not acknowledge the message")

    def _message(self, parcel: Parcel) -> tuple[bytes, str]:
        there = self._there
        pdf = parcel.file(_PDF) if there.pdf else None
        return addressed(
            parcel.file(_FILE) or b"",
            parcel.identity,
            (there.application, there.facility),
            parcel.standing,
            parcel.made_at,
            pdf,
        )

    async def _exchange(self, message: bytes) -> bytes:
        there = self._there
        try:
            async with asyncio.timeout(there.connect_seconds):
                reader, writer = await asyncio.open_connection(
                    there.host, there.port, ssl=self._tls, limit=_MOST_ANSWER_BYTES
                )
        except (OSError, TimeoutError, ssl.SSLError) as error:
            raise Unavailable(f"{self._name} cannot be reached ({type(error).__name__})") from None
        try:
            async with asyncio.timeout(there.answer_seconds):
                writer.write(_START + message + _END)
                await writer.drain()
                return await reader.readuntil(_END)
        except (
            OSError,
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ) as error:
            raise Unavailable(f"{self._name} did not answer ({type(error).__name__})") from None
        finally:
            writer.close()


def addressed(
    message: bytes,
    identity: PatientIdentity,
    receiver: tuple[str, str],
    standing: Standing,
    made_at: float,
    pdf: bytes | None = None,
) -> tuple[bytes, str]:
    """Return a message for a receiver about a patient, and its MSH-10.

    Parameters
    ----------
    receiver
        MSH-5 and MSH-6.
    made_at
        MSH-7, seconds since 1970.
    pdf
        Goes along as the last observation (ED).

    The same arguments give the same bytes.
    """
    said: Message = parse_message(message.decode(), find_groups=False)
    status = _STATUS[standing]
    time = datetime.fromtimestamp(made_at, UTC).strftime("%Y%m%d%H%M%S+0000")
    head = said.msh
    head.msh_5, head.msh_6 = map(escaped, receiver)
    head.msh_7 = time
    # Preliminary and final are two messages.
    seed = f"{head.msh_10.to_er7()}\x1f{status}\x1f{made_at}"
    control_id = hashlib.sha256(seed.encode()).hexdigest()[:_CONTROL_LENGTH]
    head.msh_10 = control_id
    patient = said.pid
    authority = escaped(identity.issuer_of_patient_id)
    patient.pid_3 = f"{escaped(identity.patient_id)}^^^{authority}^MR"
    names = _names(identity.patient_name) or [""]
    patient.pid_5 = names[0]
    for name in names[1:]:
        patient.add_field("pid_5").value = name
    patient.pid_7, patient.pid_8 = identity.patient_birth_date, identity.patient_sex
    said.obr.obr_22, said.obr.obr_25 = time, status
    for observation in said.obx:
        observation.obx_11 = status
    if pdf is not None:
        _attach(said, pdf, status)
    return f"{said.to_er7().rstrip(chr(13))}\r".encode(), control_id


def _attach(said: Message, pdf: bytes, status: str) -> None:
    observation = said.add_segment("OBX")
    observation.obx_1, observation.obx_2 = str(len(said.obx)), "ED"
    observation.obx_3 = "18748-4^Diagnostic imaging report^LN"
    observation.obx_4 = "pdf"
    observation.obx_5 = f"^application^pdf^Base64^{base64.b64encode(pdf).decode()}"
    observation.obx_11 = status


def _names(written: str) -> list[str]:
    """Return the ways of writing a DICOM person name as XPN: prefix and suffix change places."""
    out = []
    for group in written.split("="):
        parts = (*group.split("^"), "", "", "", "", "")[:5]
        family, given, middle, prefix, suffix = map(escaped, parts)
        if any(parts):
            out.append("^".join((family, given, middle, suffix, prefix)).rstrip("^"))
    return out


def acknowledged(answer: bytes) -> tuple[str, str]:
    """Return MSA-1 and MSA-2 of an acknowledgement; empty where it has none."""
    text = answer.strip(b"\x0b\x1c\r\n").decode("utf-8", "replace")
    for segment in text.replace("\n", "\r").split("\r"):
        if segment.startswith("MSA") and len(segment) > 4:
            fields = (*segment.split(segment[3]), "", "")
            return fields[1].strip(), fields[2].strip()
    return "", ""


def escaped(text: str) -> str:
    """Return a text as a value of HL7 v2 (v2.5.1 section 2.7)."""
    return text.translate(_ESCAPES)
