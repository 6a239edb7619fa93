"""A guideline's word as it travels."""

from __future__ import annotations

from lungmesh.followup.guidelines.table import Guideline
from lungmesh.followup.guidelines.verdict import Fact, Verdict
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.volume_pb2 import ModelVersion


def category_message(guideline: Guideline, verdict: Verdict) -> nodule_pb2.Category:
    """Return a verdict as a message, with the guideline's name, edition and source."""
    message = nodule_pb2.Category(
        guideline=ModelVersion(name=guideline.name, version=guideline.edition),
        source=guideline.source,
        category=verdict.category,
        row=verdict.row,
        row_zh=verdict.row_zh,
        needs=verdict.needs,
        facts=[_fact(fact) for fact in verdict.facts],
        alternatives=[
            nodule_pb2.Alternative(category=one.category, row=one.row, change=_fact(one.change))
            for one in verdict.alternatives
        ],
    )
    management = verdict.management
    if management is not None:
        message.management_en, message.management_zh = management.en, management.zh
        if management.months is not None:
            message.next_exam_months = management.months
    return message


def _fact(fact: Fact) -> nodule_pb2.Fact:
    return nodule_pb2.Fact(name=fact.name, value=fact.value, unit=fact.unit)
