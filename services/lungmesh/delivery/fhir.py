"""FHIR R4: the report's resources in one transaction, under the patient's own identity.

The hospital's Patient is found by identifier, or made (`ifNoneExist`); it is never written over.
Each other resource is put where its own identifier stands, or made (conditional update), so that a
repeat changes nothing and a newer edition replaces the one before.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from lungmesh.delivery.identity import PatientIdentity, birth_date
from lungmesh.delivery.parcel import Parcel, Standing
from lungmesh.delivery.settings import FhirDestination
from lungmesh.delivery.web import WebPeer
from lungmesh.mesh import Refused, Unavailable
from lungmesh.v1.report_pb2 import ReportReady

_FILE = "fhir.json"
# Our own identifier of a resource: its id in the report's Bundle.
_SYSTEM = "urn:lungmesh:resource"
_TYPE = "application/fhir+json"
# R4 resources of a report that carry no identifier.
_WITHOUT_IDENTIFIER = {"Provenance"}
# How a resource's status says what stands signed.
_STATUS = {
    Standing.SIGNED: {"DiagnosticReport": "final", "Observation": "final"},
    Standing.CORRECTED: {"DiagnosticReport": "corrected", "Observation": "corrected"},
}
_GENDERS = {"M": "male", "F": "female", "O": "other"}


class FhirSender:
    """Posts one transaction; the server takes all of it or nothing."""

    def __init__(self, destination: FhirDestination) -> None:
        self._patient_system = destination.patient_system
        self._peer = WebPeer(destination)

    def wanted(self, report: ReportReady) -> int:
        """Return 1: the transaction."""
        return int(any(one.name == _FILE for one in report.artefacts))

    async def send(self, parcel: Parcel) -> None:
        """Return once the server has taken every resource."""
        body = await asyncio.to_thread(self._body, parcel)
        headers = {"content-type": _TYPE, "accept": _TYPE}
        answer = await self._peer.post("", body, headers, set())
        try:
            statuses = [
                str(entry["response"]["status"]) for entry in json.loads(answer.content)["entry"]
            ]
        except (ValueError, LookupError, TypeError):
            raise Unavailable(f"{self._peer.name} does not say what it took") from None
        refused = [status for status in statuses if not re.match(r"2\d\d\b", status)]
        if refused:
            raise Refused(f"{self._peer.name} answered {refused[0][:3]} for a resource")

    def _body(self, parcel: Parcel) -> bytes:
        bundle = json.loads(parcel.file(_FILE) or b"{}")
        transaction(bundle, parcel.identity, self._patient_system, parcel.standing, parcel.file)
        return json.dumps(bundle, ensure_ascii=False, sort_keys=True).encode()


def transaction(
    bundle: dict[str, Any],
    identity: PatientIdentity,
    patient_system: str,
    standing: Standing,
    file: Callable[[str], bytes | None],
) -> None:
    """Make a transaction of the report's Bundle, in place.

    Parameters
    ----------
    patient_system
        System of the hospital's PatientID as an identifier.
    file
        Returns a file of the report, for the attachments that name it.
    """
    bundle["type"] = "transaction"
    bundle.pop("id", None)
    for entry in bundle["entry"]:
        resource = entry["resource"]
        kind, own = resource["resourceType"], resource.pop("id")
        # Which version it is there, only the server knows.
        resource.pop("meta", None)
        if kind == "Patient":
            entry["resource"] = patient(identity, patient_system)
            same = f"{quote(patient_system, safe=':/')}|{quote(identity.patient_id, safe='')}"
            entry["request"] = {
                "method": "POST",
                "url": "Patient",
                "ifNoneExist": f"identifier={same}",
            }
            continue
        if kind in _WITHOUT_IDENTIFIER:
            resource["id"] = own
            entry["request"] = {"method": "PUT", "url": f"{kind}/{own}"}
        else:
            name = {"system": _SYSTEM, "value": own}
            resource["identifier"] = [name, *resource.get("identifier", [])]
            place = f"{kind}?identifier={_SYSTEM}|{own}"
            entry["request"] = {"method": "PUT", "url": place}
        if kind in _STATUS.get(standing, {}):
            resource["status"] = _STATUS[standing][kind]
        for attachment in resource.get("presentedForm", []):
            _fill(attachment, file)


def patient(identity: PatientIdentity, system: str) -> dict[str, Any]:
    """Return the Patient as the hospital knows it, for a server that does not have it yet."""
    number = {"system": system, "value": identity.patient_id}
    out: dict[str, Any] = {"resourceType": "Patient", "identifier": [number]}
    names = [_name(written) for written in identity.patient_name.split("=") if written.strip("^ ")]
    if names:
        out["name"] = names
    if identity.patient_sex in _GENDERS:
        out["gender"] = _GENDERS[identity.patient_sex]
    day = birth_date(identity)
    if day:
        out["birthDate"] = day
    return out


def _name(written: str) -> dict[str, Any]:
    """Return one way of writing a DICOM person name (PS3.5 section 6.2) as a HumanName."""
    family, given, middle, prefix, suffix = (*written.split("^"), "", "", "", "", "")[:5]
    out: dict[str, Any] = {"text": " ".join(filter(None, (prefix, given, middle, family, suffix)))}
    if family:
        out["family"] = family
    for key, parts in (("given", (given, middle)), ("prefix", (prefix,)), ("suffix", (suffix,))):
        said = [part for part in parts if part]
        if said:
            out[key] = said
    return out


def _fill(attachment: dict[str, Any], file: Callable[[str], bytes | None]) -> None:
    """Put a file in the place of its name: nobody outside can follow that."""
    data = file(attachment.get("url", ""))
    if data is not None:
        attachment["data"] = base64.b64encode(data).decode()
        del attachment["url"]
