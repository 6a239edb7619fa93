"""FHIR R4: who made the report, of what, and what it replaces (Device, Provenance)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lungmesh.mesh.ids import deterministic_id
from lungmesh.report.content import Content, Model
from lungmesh.report.objects import DEVICE, MANUFACTURER, VERSION

# A report's editions, told apart: one resource holds only the newest.
EDITIONS = "urn:lungmesh:report-edition"
_AGENTS = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_ACTIVITIES = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


def devices(content: Content) -> Iterator[dict[str, Any]]:
    """Yield the mesh as a device, then each algorithm: the same one is the same in every report."""
    yield _device(_ours())
    for model in content.models:
        yield _device(model)


def device_reference() -> dict[str, str]:
    """Return a reference to the mesh as a device."""
    return _to(_ours())


def edition_identifier(report_id: str, edition: int) -> dict[str, str]:
    """Return the identifier of one edition of a report."""
    return {"system": EDITIONS, "value": f"{report_id}/{edition}"}


def provenance(
    content: Content,
    own_id: str,
    report_id: str,
    source: dict[str, str],
    targets: Iterable[dict[str, str]],
) -> dict[str, Any]:
    """Return what made an edition of a report.

    No clock enters a report, so the time of recording, which R4 requires, is said to be unknown.

    Parameters
    ----------
    source
        Reference to the ImagingStudy.
    targets
        References to what was made, the DiagnosticReport first.
    """
    later = content.edition > 1
    entities: list[dict[str, Any]] = [{"role": "source", "what": source}]
    if later:
        before = edition_identifier(report_id, content.edition - 1)
        replaced = {"type": "DiagnosticReport", "identifier": before}
        entities.append({"role": "revision", "what": replaced})
    return {
        "resourceType": "Provenance",
        "id": own_id,
        "target": list(targets),
        "_recorded": {"extension": [{"url": _ABSENT, "valueCode": "unknown"}]},
        "activity": {"coding": [{"system": _ACTIVITIES, "code": "UPDATE" if later else "CREATE"}]},
        "agent": [
            _agent("assembler", _ours()),
            *(_agent("performer", model) for model in content.models),
        ],
        "entity": entities,
    }


def _ours() -> Model:
    return Model(DEVICE, VERSION)


def _to(model: Model) -> dict[str, str]:
    return {"reference": f"urn:uuid:{_id(model)}"}


def _id(model: Model) -> str:
    return deterministic_id("fhir", "device", model.name, model.version)


def _device(model: Model) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": _id(model),
        "status": "active",
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "version": [{"value": model.version}],
    }


def _agent(role: str, model: Model) -> dict[str, Any]:
    return {"type": {"coding": [{"system": _AGENTS, "code": role}]}, "who": _to(model)}
