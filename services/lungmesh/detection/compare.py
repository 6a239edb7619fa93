"""A second reading of a study: kept, compared with the first, and never passed on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from prometheus_client import CollectorRegistry, Counter

from lungmesh.v1 import nodule_pb2, volume_pb2


@dataclass(frozen=True)
class Agreement:
    """How two readings of a study agree.

    Attributes
    ----------
    both
        Nodules that both found.
    only_first, only_second
        Nodules that one of them found.
    diameter_difference_mm
        Second minus first mean diameter of what both found; median, 0 when that is nothing.
    """

    both: int
    only_first: int
    only_second: int
    diameter_difference_mm: float


def agreement(first: Sequence[nodule_pb2.Nodule], second: Sequence[nodule_pb2.Nodule]) -> Agreement:
    """Match nodules one to one, nearest first; the same lie within half the larger diameter."""
    pairs = sorted(
        (float(np.linalg.norm(np.subtract(a.center_lps_mm, b.center_lps_mm))), i, j)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
    )
    taken: dict[int, int] = {}
    for apart, i, j in pairs:
        wide = max(first[i].measurement.mean_diameter_mm, second[j].measurement.mean_diameter_mm)
        if apart < wide / 2 and i not in taken and j not in taken.values():
            taken[i] = j
    differences = [
        second[j].measurement.mean_diameter_mm - first[i].measurement.mean_diameter_mm
        for i, j in taken.items()
    ]
    return Agreement(
        both=len(taken),
        only_first=len(first) - len(taken),
        only_second=len(second) - len(taken),
        diameter_difference_mm=round(float(np.median(differences)), 3) if differences else 0.0,
    )


def reading(
    role: str,
    models: Sequence[volume_pb2.ModelVersion],
    nodules: Sequence[nodule_pb2.Nodule],
    agreed: Agreement,
) -> bytes:
    """Return a reading as JSON: who read, what was found, how it agrees with what was passed on."""
    content: dict[str, Any] = {
        "role": role,
        "models": [_plain(model) for model in models],
        "agreement": {
            "both": agreed.both,
            "only_passed_on": agreed.only_first,
            "only_here": agreed.only_second,
            "diameter_difference_mm": agreed.diameter_difference_mm,
        },
        "nodules": [_plain(nodule) for nodule in nodules],
    }
    return json.dumps(content, indent=1, sort_keys=True).encode()


class Comparisons:
    """Counts second readings for `/metrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._nodules = Counter(
            "lungmesh_detection_compared_nodules",
            "Nodules of second readings: found by both, or by one only",
            ("role", "versions", "result"),
            registry=registry,
        )
        self._failed = Counter(
            "lungmesh_detection_failed_second_readings",
            "Second readings that failed; the study went on without",
            ("role", "versions"),
            registry=registry,
        )

    def count(self, role: str, versions: str, agreed: Agreement) -> None:
        """Count one study's agreement."""
        for result, number in (
            ("both", agreed.both),
            ("only_passed_on", agreed.only_first),
            ("only_second", agreed.only_second),
        ):
            self._nodules.labels(role, versions, result).inc(number)

    def fail(self, role: str, versions: str) -> None:
        """Count a second reading that failed."""
        self._failed.labels(role, versions).inc()


def _plain(message: volume_pb2.ModelVersion | nodule_pb2.Nodule) -> dict[str, Any]:
    plain: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return plain
