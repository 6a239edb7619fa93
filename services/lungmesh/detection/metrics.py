"""What is found in the scans of each hospital: a drift of the networks shows here first."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Histogram

from lungmesh.v1.nodule_pb2 import Nodule


class NoduleMetrics:
    """Distributions by tenant; the unit is in the name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Histogram(
            "lungmesh_exam_nodules",
            "Nodules found in an exam",
            ("tenant",),
            buckets=(0, 1, 2, 3, 5, 8, 12, 20),
            registry=registry,
        )
        self._score = Histogram(
            "lungmesh_nodule_score",
            "Detection score of a nodule",
            ("tenant",),
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
            registry=registry,
        )
        self._diameter = Histogram(
            "lungmesh_nodule_diameter_mm",
            "Mean diameter of a nodule, mm",
            ("tenant",),
            buckets=(3, 4, 5, 6, 8, 10, 15, 20, 30),
            registry=registry,
        )

    def found(self, tenant: str, nodules: Sequence[Nodule]) -> None:
        """Count an exam."""
        self._count.labels(tenant).observe(len(nodules))
        for nodule in nodules:
            self._score.labels(tenant).observe(nodule.detection_score)
            self._diameter.labels(tenant).observe(nodule.measurement.mean_diameter_mm)
