"""summary.json, FHIR and PDF."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fhir.resources.R4B.bundle import Bundle

from lungmesh.report import fhir
from lungmesh.report.content import Content
from lungmesh.report.facts import from_event
from lungmesh.report.pdf import pdf
from lungmesh.report.summary import summary
from tests.support.report import followup
from tests.unit.report.conftest import Exam

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "ab" * 32


@pytest.fixture(params=[0, 1, 2], ids=["no nodule", "one nodule", "two nodules"])
def content(exam: Exam, request: pytest.FixtureRequest) -> Content:
    return from_event(followup(exam.case, request.param), exam.headers)


def values(node: Any, name: str) -> Iterator[Any]:
    if isinstance(node, dict):
        if name in node:
            yield node[name]
        for item in node.values():
            yield from values(item, name)
    elif isinstance(node, list):
        for item in node:
            yield from values(item, name)


def test_the_summary_keeps_to_its_published_schema(content: Content) -> None:
    schema = json.loads((ROOT / "docs" / "summary.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(summary(content, DIGEST)), schema)


def test_the_summary_holds_what_the_design_names(exam: Exam) -> None:
    facts = json.loads(summary(exam.content, DIGEST))
    assert {"study", "qc", "versions", "categories", "priors", "content_sha256"} <= facts.keys()
    first = facts["nodules"][0]
    assert first["center_lps_mm"] == [56.2, 86.2, -115.9]
    assert first["slice_sop_instance_uid"] == exam.event.nodules[0].slice_sop_instance_uid
    assert first["lobe"] == "left_lower"
    assert first["malignancy"][0]["probability"] is None
    assert first["malignancy"][0]["missing"] == ["family_history_of_lung_cancer", "emphysema"]
    assert {"name": "signs", "version": "1"} in first["models"]


def test_the_bundle_is_valid_fhir_and_every_reference_leads_somewhere(content: Content) -> None:
    data = fhir.bundle(content, {"report.pdf": b"%PDF", "report.zh.txt": b"text"})
    Bundle.model_validate_json(data)
    entries = json.loads(data)["entry"]
    kinds = {entry["resource"]["resourceType"] for entry in entries}
    expected = {"DiagnosticReport", "Patient", "Device", "ImagingStudy", "Provenance"}
    assert kinds == (expected | {"Observation"} if content.nodules else expected)
    full_urls = {entry["fullUrl"] for entry in entries}
    assert len(full_urls) == len(entries)
    assert set(values(entries, "reference")) <= full_urls


def test_nothing_in_the_bundle_is_final_before_a_radiologist_signed(exam: Exam) -> None:
    entries = json.loads(fhir.bundle(exam.content, {}))["entry"]
    states = {
        entry["resource"]["status"]
        for entry in entries
        if entry["resource"]["resourceType"] in ("DiagnosticReport", "Observation")
    }
    assert states == {"preliminary"}


def test_a_range_stays_a_range_in_fhir(exam: Exam) -> None:
    entries = json.loads(fhir.bundle(exam.content, {}))["entry"]
    ranges = list(values(entries, "valueRange"))
    assert len(ranges) == 2
    assert (ranges[0]["low"]["value"], ranges[0]["high"]["value"]) == (31.0, 54.0)


def test_the_report_names_its_files_with_size_and_hash(exam: Exam) -> None:
    entries = json.loads(fhir.bundle(exam.content, {"report.pdf": b"%PDF"}))["entry"]
    (form,) = entries[0]["resource"]["presentedForm"]
    sha1 = hashlib.sha1(b"%PDF", usedforsecurity=False).digest()
    assert (form["title"], form["size"]) == ("report.pdf", 4)
    assert form["hash"] == base64.b64encode(sha1).decode()


def test_the_pdf_has_the_same_bytes_at_every_making(content: Content) -> None:
    first = pdf(content, {}, DIGEST)
    assert first.startswith(b"%PDF")
    assert pdf(content, {}, DIGEST) == first
