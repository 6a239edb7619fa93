"""The Bundle holds what the base profiles of FHIR R4 (4.0.1) require, in the value sets they bind.

fhir.resources checks structure and types; it knows no value sets and no rules between elements.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from lungmesh.report import fhir
from lungmesh.report.content import Content
from lungmesh.report.facts import from_event
from tests.support.report import followup
from tests.support.report_course import corrected
from tests.unit.report.conftest import Exam

# Elements with a minimum of one, by resource, and those of their parts.
REQUIRED = {
    "Bundle": ("type",),
    "DiagnosticReport": ("status", "code"),
    "ImagingStudy": ("status", "subject"),
    "ImagingStudy.series": ("uid", "modality"),
    "Observation": ("status", "code"),
    "Observation.component": ("code",),
    "Patient": (),
    "Device": (),
    "Device.deviceName": ("name", "type"),
    "Device.version": ("value",),
    "ServiceRequest": ("status", "intent", "subject"),
    "Provenance": ("target", "_recorded", "agent"),
    "Provenance.agent": ("who",),
    "Provenance.entity": ("role", "what"),
}
# Codes of required bindings.
BOUND = {
    "DiagnosticReport.status": {
        *("registered", "partial", "preliminary", "final", "amended", "corrected", "appended"),
        *("cancelled", "entered-in-error", "unknown"),
    },
    "Observation.status": {
        *("registered", "preliminary", "final", "amended", "corrected", "cancelled"),
        *("entered-in-error", "unknown"),
    },
    "ImagingStudy.status": {
        *("registered", "available", "cancelled", "entered-in-error", "unknown"),
    },
    "Device.status": {"active", "inactive", "entered-in-error", "unknown"},
    "Device.deviceName.type": {
        *("udi-label-name", "user-friendly-name", "patient-reported-name", "manufacturer-name"),
        *("model-name", "other"),
    },
    "ServiceRequest.status": {
        *("draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"),
    },
    "ServiceRequest.intent": {
        *("proposal", "plan", "directive", "order", "original-order", "reflex-order"),
        *("filler-order", "instance-order", "option"),
    },
    "Provenance.entity.role": {"derivation", "revision", "quotation", "source", "removal"},
    "Bundle.type": {
        *("document", "message", "transaction", "transaction-response", "batch"),
        *("batch-response", "history", "searchset", "collection"),
    },
}
# Codes of the systems that bind where a code is said at all (extensible), or that we must spell.
CODES = {
    "http://terminology.hl7.org/CodeSystem/v2-0074": {"RAD"},
    "http://terminology.hl7.org/CodeSystem/observation-category": {"imaging"},
    "http://terminology.hl7.org/CodeSystem/v3-DataOperation": {"CREATE", "UPDATE"},
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type": {
        *("assembler", "performer"),
    },
}
KNOWN_SYSTEMS = {
    *("http://snomed.info/sct", "http://loinc.org", "http://unitsofmeasure.org"),
    *("http://dicom.nema.org/resources/ontology/DCM", "urn:lungmesh:coding"),
}


@pytest.fixture(params=["two nodules", "no nodule", "second edition"])
def content(exam: Exam, request: pytest.FixtureRequest) -> Content:
    if request.param == "second edition":
        return from_event(corrected(exam.case), exam.headers)
    nodules = 2 if request.param == "two nodules" else 0
    return from_event(followup(exam.case, nodules, prior=bool(nodules)), exam.headers)


@pytest.fixture
def bundle(content: Content) -> dict[str, Any]:
    data = fhir.bundle(content, {"report.pdf": b"%PDF"})
    Bundle.model_validate_json(data)
    made: dict[str, Any] = json.loads(data)
    return made


def parts(value: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Return every object below a resource with its path of element names."""
    if isinstance(value, list):
        return [part for item in value for part in parts(item, path)]
    if not isinstance(value, dict):
        return []
    inner = [part for name, item in value.items() for part in parts(item, f"{path}.{name}")]
    return [(path, value), *inner]


def every(bundle: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    resources = [entry["resource"] for entry in bundle["entry"]]
    found = [("Bundle", bundle)]
    for resource in resources:
        found += parts(resource, resource["resourceType"])
    return found


def test_required_elements_are_there(bundle: dict[str, Any]) -> None:
    for path, part in every(bundle):
        assert not set(REQUIRED.get(path, ())) - set(part), path
    kinds = {entry["resource"]["resourceType"] for entry in bundle["entry"]}
    assert kinds <= set(REQUIRED)
    assert {"DiagnosticReport", "ImagingStudy", "Patient", "Device", "Provenance"} <= kinds


def test_bound_codes_are_of_their_value_sets(bundle: dict[str, Any]) -> None:
    for path, part in every(bundle):
        for name, value in part.items():
            allowed = BOUND.get(f"{path}.{name}")
            assert allowed is None or value in allowed, (path, name, value)
        if "code" in part and "system" in part and not path.endswith("identifier"):
            assert part["system"] in KNOWN_SYSTEMS | set(CODES), part
            assert part["code"] in CODES.get(part["system"], {part["code"]}), part


def test_values_keep_the_rules_between_elements(bundle: dict[str, Any]) -> None:
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(urls) == len(set(urls))  # bdl-7
    for path, part in every(bundle):
        if path == "Observation":
            # obs-6: a reason why there is no value only where there is none.
            assert not ("dataAbsentReason" in part and any(n.startswith("value") for n in part))
            assert len([n for n in part if n.startswith("value")]) == 1
        if path.endswith("identifier") and part.get("system") == "urn:dicom:uid":
            assert re.fullmatch(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+", part["value"])
        if "reference" in part:
            assert part["reference"] in urls  # ref-1, and nothing points outside


def test_provenance_names_software_models_and_study(
    bundle: dict[str, Any], content: Content
) -> None:
    resources = {e["fullUrl"]: e["resource"] for e in bundle["entry"]}
    (made,) = (r for r in resources.values() if r["resourceType"] == "Provenance")
    agents = [resources[agent["who"]["reference"]] for agent in made["agent"]]
    named = {(a["deviceName"][0]["name"], a["version"][0]["value"]) for a in agents}
    assert named >= {(model.name, model.version) for model in content.models}
    assert len(named) == len(content.models) + 1
    (study,) = (e for e in made["entity"] if e["role"] == "source")
    assert resources[study["what"]["reference"]]["resourceType"] == "ImagingStudy"
    targets = {item["reference"] for item in made["target"]}
    kinds = ("DiagnosticReport", "Observation", "ServiceRequest")
    assert targets == {url for url, r in resources.items() if r["resourceType"] in kinds}


def test_a_second_edition_says_which_one_it_replaces(exam: Exam) -> None:
    second = corrected(exam.case)
    first = corrected(exam.case)
    first.edition = 1
    made = []
    for event in (first, second):
        entries = json.loads(fhir.bundle(from_event(event, exam.headers), {}))["entry"]
        made.append({e["resource"]["resourceType"]: e["resource"] for e in entries})
    before, after = (one["DiagnosticReport"] for one in made)
    assert before["id"] == after["id"]
    assert before["identifier"] != after["identifier"]
    (replaced,) = (e["what"] for e in made[1]["Provenance"]["entity"] if e["role"] == "revision")
    assert [replaced["identifier"]] == before["identifier"]
    assert made[0]["Provenance"]["id"] != made[1]["Provenance"]["id"]
    assert all(entity["role"] == "source" for entity in made[0]["Provenance"]["entity"])
    assert [one["Provenance"]["activity"]["coding"][0]["code"] for one in made] == [
        "CREATE",
        "UPDATE",
    ]
