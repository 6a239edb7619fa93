"""FHIR R4: the report as a Bundle of DiagnosticReport, Observations and what they refer to.

Built and validated with fhir.resources' R4B models (4.3.0), which are those of R4 (4.0.1) for the
resources and elements used here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from lungmesh.mesh.ids import deterministic_id
from lungmesh.report import coding, wording
from lungmesh.report.content import Category, Content, Nodule, Risk
from lungmesh.report.fhir_provenance import (
    device_reference,
    devices,
    edition_identifier,
    provenance,
)
from lungmesh.report.templating import Templates
from lungmesh.report.terms import Phrase, date
from lungmesh.report.wording import category_name, conclusion, next_exam, nodule_name

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    coding.SCHEME: "urn:lungmesh:coding",
}
_CT_CHEST_REPORT = {
    "coding": [{"system": "http://loinc.org", "code": "24627-2", "display": "CT Chest"}],
    "text": "CT of the chest",
}
_IMAGING = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "imaging",
        }
    ]
}
_MEDIA_TYPES = {".pdf": "application/pdf", ".txt": "text/plain; charset=utf-8"}


def bundle(content: Content, forms: Mapping[str, bytes], words: Templates | None = None) -> bytes:
    """Return the Bundle as UTF-8 JSON, ending with a newline.

    Every resource is preliminary: no radiologist has signed. The patient bears the pseudonym.

    Parameters
    ----------
    forms
        The report's readable files by name: the DiagnosticReport names them with size and hash.
    words
        The templates of its sentences.

    Raises pydantic.ValidationError when the result is not valid FHIR.
    """
    builder = _Builder(content, words)
    resources = [
        builder.diagnostic_report(forms),
        builder.patient(),
        builder.imaging_study(),
        *builder.observations(),
        *builder.next_exam(),
    ]
    if content.edition > 1:
        # The same resources again: whoever keeps them puts this version over the one before.
        for resource in resources:
            resource["meta"] = {"versionId": str(content.edition)}
    resources += [*devices(content), builder.provenance(resources)]
    entries = [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in resources]
    made = Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "id": builder.id("bundle"),
            "type": "collection",
            "entry": entries,
        }
    )
    return (made.model_dump_json(indent=2, exclude_none=True) + "\n").encode()


class _Builder:
    """Makes the resources of one report, which refer to each other."""

    def __init__(self, content: Content, words: Templates | None) -> None:
        self._content, self._words = content, words
        self._day = date(content.exam.study_date)

    def id(self, *parts: object) -> str:
        """Return the id of a resource: the same study and revision gives the same."""
        ids = self._content.ids
        return deterministic_id("fhir", ids["tenant"], ids["study_id"], ids["revision"], *parts)

    def _to(self, *parts: object) -> dict[str, str]:
        return {"reference": f"urn:uuid:{self.id(*parts)}"}

    def patient(self) -> dict[str, Any]:
        identifier = {"system": "urn:lungmesh:pseudonym", "value": self._content.ids["patient"]}
        return {
            "resourceType": "Patient",
            "id": self.id("patient"),
            "identifier": [identifier],
        }

    def imaging_study(self) -> dict[str, Any]:
        content = self._content
        ct = {"system": _SYSTEMS["DCM"], "code": "CT", "display": "Computed Tomography"}
        out = {
            "resourceType": "ImagingStudy",
            "id": self.id("imaging-study"),
            "status": "available",
            "subject": self._to("patient"),
            "identifier": [
                {
                    "system": "urn:dicom:uid",
                    "value": f"urn:oid:{content.ids['study_instance_uid']}",
                }
            ],
            "modality": [ct],
            "series": [
                {
                    "uid": content.ids["series_instance_uid"],
                    "modality": ct,
                    "numberOfInstances": content.exam.slice_count,
                    "bodySite": _coded(codes.SCT.Chest)["coding"][0],
                }
            ],
        }
        if self._day:
            out["started"] = self._day
        return out

    def diagnostic_report(self, forms: Mapping[str, bytes]) -> dict[str, Any]:
        content = self._content
        told = conclusion(content, self._words)
        out = {
            "resourceType": "DiagnosticReport",
            "id": self.id("report"),
            "identifier": [edition_identifier(self.id("report"), content.edition)],
            # Amended and corrected are said of a final report (R4, diagnostic-report-status), and
            # none is final before it is signed; who sends it knows.
            "status": "preliminary",
            "category": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
                            "code": "RAD",
                            "display": "Radiology",
                        }
                    ]
                }
            ],
            "code": _CT_CHEST_REPORT,
            "subject": self._to("patient"),
            "imagingStudy": [self._to("imaging-study")],
            "result": [self._to("nodule", n.number) for n in content.nodules],
            "conclusion": "\n".join(
                line for line in [*(said.en for said in told), *(said.zh for said in told)] if line
            ),
            "conclusionCode": [_category_code(c) for c in content.categories],
            "presentedForm": [_attachment(name, data) for name, data in forms.items()],
        }
        if self._day:
            out["effectiveDateTime"] = self._day
        return {name: value for name, value in out.items() if value != []}

    def provenance(self, made: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """What made this edition of the report; it replaces the edition before."""
        kinds = ("DiagnosticReport", "Observation", "ServiceRequest")
        return provenance(
            self._content,
            self.id("provenance", self._content.edition),
            self.id("report"),
            self._to("imaging-study"),
            [{"reference": f"urn:uuid:{r['id']}"} for r in made if r["resourceType"] in kinds],
        )

    def next_exam(self) -> Iterator[dict[str, Any]]:
        """What the programme's guideline asks for, as a proposal that a person may order."""
        coming = self._content.next
        said = next_exam(self._content, self._words)
        if coming is None or not said:
            return
        out = {
            "resourceType": "ServiceRequest",
            "id": self.id("next-exam"),
            "status": "draft",
            "intent": "proposal",
            "code": {"text": "Work-up"} if coming.work_up else _CT_CHEST_REPORT,
            "subject": self._to("patient"),
            "reasonReference": [self._to("report")],
            "note": _notes(said),
        }
        if coming.due_date:
            out["occurrenceDateTime"] = date(coming.due_date)
        yield out

    def observations(self) -> Iterator[dict[str, Any]]:
        """A finding a nodule, and each of its measures as a member of it."""
        for nodule in self._content.nodules:
            members = list(self._members(nodule))
            yield {
                **self._observation(nodule, "nodule", coding.NODULE),
                "id": self.id("nodule", nodule.number),
                "valueCodeableConcept": {
                    **_coded(coding.nodule_type(nodule)),
                    "text": f"{nodule_name(nodule).en}; {nodule_name(nodule).zh}",
                },
                "hasMember": [{"reference": f"urn:uuid:{member['id']}"} for member in members],
            }
            yield from members

    def _members(self, nodule: Nodule) -> Iterator[dict[str, Any]]:
        for name, code, value, unit in (
            *coding.sizes(nodule),
            ("detection_score", coding.DETECTION_SCORE, nodule.detection_score, "1"),
        ):
            yield {
                **self._observation(nodule, name, code),
                "valueQuantity": _quantity(value, unit),
            }
        for risk in nodule.risks:
            yield {
                **self._observation(
                    nodule, f"risk {risk.model.name} {risk.model.version}", _CANCER
                ),
                **_probability(risk),
                "method": {"text": f"{risk.model.name} {risk.model.version} ({risk.source})"},
            }
        yield from self._course(nodule)
        for category in nodule.categories:
            if category.category:
                edition = (category.guideline.name, category.guideline.version)
                yield {
                    **self._observation(nodule, f"category {edition}", coding.guideline(category)),
                    "valueCodeableConcept": _category_code(category),
                }

    def _course(self, nodule: Nodule) -> Iterator[dict[str, Any]]:
        """The growth class, and the change since the most recent earlier exam of the nodule."""
        said = wording.course(nodule, self._content, self._words)
        yield {
            **self._observation(nodule, "growth", coding.GROWTH_CLASS),
            "valueCodeableConcept": _coded(coding.growth(nodule)),
            "note": _notes(said),
        }
        for prior in nodule.priors[:1]:
            since = _component(coding.DAYS_SINCE_PRIOR, prior.interval_days)
            interval = [
                _component(code, bound)
                for code, bound in (
                    (coding.DOUBLING_TIME_LOW, prior.volume_doubling_time_low_days),
                    (coding.DOUBLING_TIME_HIGH, prior.volume_doubling_time_high_days),
                )
                if bound is not None
            ]
            chance = prior.growth_probability
            percent = None if chance is None else round(chance * 100, 1)
            for name, code, value, unit, more in (
                ("volume_change", coding.VOLUME_CHANGE, prior.volume_change_percent, "%", []),
                (
                    "doubling_time",
                    coding.DOUBLING_TIME,
                    prior.volume_doubling_time_days,
                    "d",
                    interval,
                ),
                ("growth_probability", coding.GROWTH_PROBABILITY, percent, "%", []),
            ):
                if value is not None:
                    yield {
                        **self._observation(nodule, name, code),
                        "valueQuantity": _quantity(value, unit),
                        "component": [since, *more],
                    }

    def _observation(self, nodule: Nodule, name: str, code: Code) -> dict[str, Any]:
        lobe, side = coding.LOBES[nodule.lobe]
        out = {
            "resourceType": "Observation",
            "id": self.id("nodule", nodule.number, name),
            "status": "preliminary",
            "identifier": [
                {
                    "system": "urn:dicom:uid",
                    "value": f"urn:oid:{nodule.ids['tracking_uid']}",
                }
            ],
            "category": [_IMAGING],
            "code": _coded(code),
            "subject": self._to("patient"),
            "device": device_reference(),
            "derivedFrom": [self._to("imaging-study")],
            "bodySite": {
                "coding": [*_coded(lobe)["coding"], *_coded(side)["coding"]],
                "text": nodule_name(nodule).en.rsplit(", ", 1)[-1],
            },
        }
        if self._day:
            out["effectiveDateTime"] = self._day
        return out


_CANCER = codes.DCM.ProbabilityOfCancer


def _coded(code: Code) -> dict[str, Any]:
    return {
        "coding": [
            {
                "system": _SYSTEMS[code.scheme_designator],
                "code": code.value,
                "display": code.meaning,
            }
        ]
    }


def _category_code(category: Category) -> dict[str, Any]:
    out: dict[str, Any] = {"text": category_name(category).en}
    if category.category:
        out |= _coded(coding.category(category))
    return out


def _notes(said: Iterable[Phrase]) -> list[dict[str, Any]]:
    return [{"text": text} for line in said for text in (line.en, line.zh) if text]


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": _SYSTEMS["UCUM"], "code": unit}


def _component(code: Code, days: int) -> dict[str, Any]:
    return {"code": _coded(code), "valueQuantity": _quantity(days, "d")}


def _probability(risk: Risk) -> dict[str, Any]:
    """A value where every input is known, else the range over the unknown ones."""
    if risk.probability is not None:
        return {"valueQuantity": _quantity(round(risk.probability * 100, 1), "%")}
    return {
        "valueRange": {
            "low": _quantity(round(risk.low * 100, 1), "%"),
            "high": _quantity(round(risk.high * 100, 1), "%"),
        }
    }


def _attachment(name: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return {
        "contentType": _MEDIA_TYPES[name[name.rindex(".") :]],
        "title": name,
        "url": name,
        "size": len(data),
        # FHIR's Attachment.hash is a SHA-1.
        "hash": base64.b64encode(digest).decode(),
    }
