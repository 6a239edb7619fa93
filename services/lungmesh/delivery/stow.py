"""STOW-RS: the chosen objects in one request to a DICOMweb server (PS3.18 section 10.5)."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from pydicom.dataset import Dataset

from lungmesh.delivery.identity import with_identity
from lungmesh.delivery.parcel import Parcel, objects_of
from lungmesh.delivery.settings import StowDestination
from lungmesh.delivery.web import WebPeer
from lungmesh.mesh import MeshError, Refused, Unavailable
from lungmesh.v1.report_pb2 import ReportReady

# 202: some were not stored; 409: none was. The body says which and why.
_PARTLY, _NONE = 202, 409
_REFERENCED, _FAILED = "00081199", "00081198"
_INSTANCE, _REASON = "00081155", "00081197"
_PROCESSING_FAILURE = 0x0110


class StowSender:
    """Stores the chosen objects; each must be named as stored."""

    def __init__(self, destination: StowDestination) -> None:
        self._kinds = destination.objects
        self._peer = WebPeer(destination)

    def wanted(self, report: ReportReady) -> int:
        """Return how many objects go."""
        return len(objects_of(report, self._kinds))

    async def send(self, parcel: Parcel) -> None:
        """Return once the server has stored each object."""
        body, boundary, uids = await asyncio.to_thread(self._body, parcel)
        headers = {
            "content-type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "accept": "application/dicom+json",
        }
        answer = await self._peer.post("/studies", body, headers, {_NONE})
        _require_stored(answer, uids, self._peer.name)

    def _body(self, parcel: Parcel) -> tuple[bytes, str, list[str]]:
        parts: list[bytes] = []
        uids: list[str] = []
        for one in objects_of(parcel.report, self._kinds):
            dataset = with_identity(parcel.read(one.content), parcel.identity)
            parts.append(_encoded(dataset))
            uids.append(str(dataset.SOPInstanceUID))
        # Of the ids alone, so that a repeat sends the same bytes.
        boundary = f"lungmesh-{hashlib.sha256('/'.join(uids).encode()).hexdigest()[:32]}"
        body = b"".join(
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + part + b"\r\n"
            for part in parts
        )
        return body + f"--{boundary}--\r\n".encode(), boundary, uids


def _encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _require_stored(answer: httpx.Response, uids: Sequence[str], name: str) -> None:
    """Raise unless the answer names every object as stored."""
    try:
        said = json.loads(answer.content)
        said = said[0] if isinstance(said, list) else said
        stored = {_value(item, _INSTANCE) for item in _items(said, _REFERENCED)}
        failed = {_value(item, _INSTANCE): _value(item, _REASON) for item in _items(said, _FAILED)}
    except (ValueError, LookupError, TypeError, AttributeError):
        if answer.status_code == _NONE:
            raise Refused(f"{name} answered 409 and does not say why") from None
        raise Unavailable(f"{name} does not say what it stored") from None
    missing = [uid for uid in uids if uid not in stored]
    if not missing:
        return
    failures = [_failure(failed.get(uid), len(missing), len(uids), name) for uid in missing]
    # One that is refused for good decides.
    raise next((error for error in failures if isinstance(error, Refused)), failures[0])


def _failure(reason: Any, count: int, of: int, name: str) -> MeshError:
    text = f"{count} of {of} objects were not stored: {name}"
    if not isinstance(reason, int):
        return Unavailable(f"{text} does not name them")
    passing = reason & 0xFF00 == 0xA700 or reason == _PROCESSING_FAILURE
    return (Unavailable if passing else Refused)(f"{text} answered 0x{reason:04X}")


def _items(said: Mapping[str, Any], tag: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = said.get(tag, {}).get("Value", [])
    return found


def _value(item: Mapping[str, Any], tag: str) -> Any:
    return item[tag]["Value"][0]
