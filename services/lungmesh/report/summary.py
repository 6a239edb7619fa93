"""`summary.json`: the report for machines (docs/summary.md, docs/summary.schema.json)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from lungmesh.report.content import Category, Content, Model, NextExam, Nodule, ReaderScore, Risk
from lungmesh.report.objects import VERSION


def summary(content: Content, content_sha256: str) -> bytes:
    """Return the summary as UTF-8 JSON, ending with a newline."""
    facts = {
        "study": _study(content),
        "qc": [asdict(finding) for finding in content.qc],
        "nodules": [_nodule(nodule) for nodule in content.nodules],
        "categories": [_by_guideline(category) for category in content.categories],
        "priors": [_flat(asdict(prior)) for prior in content.priors],
        "next": _by_guideline(content.next) if content.next else None,
        "rejected": [_nodule(nodule) for nodule in content.rejected],
        "corrections": [_flat(asdict(said)) for said in content.corrections],
        "versions": {
            "report": VERSION,
            "templates": content.templates,
            "models": [asdict(model) for model in content.models],
        },
        "content_sha256": content_sha256,
    }
    return (json.dumps(facts, ensure_ascii=False, indent=2) + "\n").encode()


def _study(content: Content) -> dict[str, Any]:
    choice = content.series_choice
    return {
        **content.ids,
        **asdict(content.exam),
        "clinical": content.clinical,
        "series_choice": {
            "reason": choice["reason"],
            "others": [
                {"series_instance_uid": uid, "reason": reason}
                for uid, reason in zip(choice["ids"]["others"], choice["others"], strict=True)
            ],
        },
    }


def _nodule(nodule: Nodule) -> dict[str, Any]:
    return {
        "id": nodule.ids["nodule_id"],
        "number": nodule.number,
        "center_lps_mm": nodule.center_lps_mm,
        "bbox_lps_mm": nodule.bbox_lps_mm,
        "slice_sop_instance_uid": nodule.ids["slice_sop_instance_uid"],
        "slice_number": nodule.slice_number,
        "long_axis_mm": nodule.long_axis_mm,
        "short_axis_mm": nodule.short_axis_mm,
        "mean_diameter_mm": nodule.mean_diameter_mm,
        "volume_mm3": nodule.volume_mm3,
        "mean_hu": nodule.mean_hu,
        "mass_mg": nodule.mass_mg,
        "solid_mean_diameter_mm": nodule.solid_mean_diameter_mm,
        "solid_volume_mm3": nodule.solid_volume_mm3,
        "consolidation_to_tumour_ratio": nodule.consolidation_to_tumour_ratio,
        "type": nodule.type,
        "lobe": nodule.lobe,
        "detection_score": nodule.detection_score,
        "signs": [asdict(sign) for sign in nodule.signs],
        "malignancy": [_risk(risk) for risk in nodule.risks],
        "reader_score": _reader_score(nodule.reader_score),
        "growth": nodule.growth,
        "outcome": nodule.outcome,
        "shown_earlier": nodule.shown_earlier,
        "tracking_uid": nodule.ids["tracking_uid"],
        "related_uids": nodule.ids["related_uids"],
        "priors": [_flat(asdict(prior)) for prior in nodule.priors],
        "history": [_flat(asdict(past)) for past in nodule.history],
        "review": asdict(nodule.review) if nodule.review else None,
        "categories": [_by_guideline(category) for category in nodule.categories],
        "models": [asdict(model) for model in _models(nodule)],
    }


def _models(nodule: Nodule) -> list[Model]:
    """Return what made the nodule's figures, each once."""
    used = [nodule.detector, *(sign.model for sign in nodule.signs)]
    used += [risk.model for risk in nodule.risks]
    if nodule.reader_score:
        used.append(nodule.reader_score.model)
    used += [category.guideline for category in nodule.categories]
    return list(dict.fromkeys(used))


def _risk(risk: Risk) -> dict[str, Any]:
    return {
        "model": risk.model.name,
        "version": risk.model.version,
        "source": risk.source,
        "probability": risk.probability,
        "low": risk.low,
        "high": risk.high,
        "missing": risk.missing,
        "outside_intended_use": risk.outside_intended_use,
    }


def _reader_score(score: ReaderScore | None) -> dict[str, Any] | None:
    if score is None:
        return None
    facts = asdict(score)
    model = facts.pop("model")
    return {"model": model["name"], "version": model["version"], **facts}


def _by_guideline(judged: Category | NextExam) -> dict[str, Any]:
    facts = asdict(judged)
    guideline = facts.pop("guideline")
    return {"guideline": guideline["name"], "edition": guideline["version"], **facts}


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    return {**facts.pop("ids"), **facts}
