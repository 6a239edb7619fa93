"""A finding: one named breach of the quality rules, in words for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from lungmesh.mesh.errors import BadInput
from lungmesh.v1 import volume_pb2


class Severity(IntEnum):
    """How much a finding weighs; the numbers are those of the proto enum."""

    NOTE = volume_pb2.SEVERITY_NOTE
    WARN = volume_pb2.SEVERITY_WARN
    REFUSE = volume_pb2.SEVERITY_REFUSE


@dataclass(frozen=True)
class Finding:
    """One breach: a stable code, how much it weighs, and a sentence in both languages."""

    code: str
    severity: Severity
    message_en: str
    message_zh: str


def refuse_if_any(findings: Iterable[Finding]) -> None:
    """Stop at findings that make the series unusable.

    Raises BadInput with the sentences of every refusing finding and the code of the first.
    """
    refusals = [finding for finding in findings if finding.severity is Severity.REFUSE]
    if refusals:
        sentences = " ".join(finding.message_en for finding in refusals)
        raise BadInput(sentences, code=refusals[0].code)
