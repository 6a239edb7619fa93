"""What the scans of each hospital are like: a change shows before the networks err on it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram

from lungmesh.preprocess.findings import Finding


class ScanMetrics:
    """Distributions by tenant; the unit is in the name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Median HU of the lungs: breath, contrast, calibration.
        self._lung_hu = Histogram(
            "lungmesh_scan_lung_hu",
            "Median HU of the lungs of a scan",
            ("tenant",),
            buckets=(-950, -925, -900, -875, -850, -825, -800, -775, -750, -700, -600),
            registry=registry,
        )
        # Dose and kernel; the quality rule warns above 28.
        self._noise_hu = Histogram(
            "lungmesh_scan_noise_hu",
            "Noise of a scan in soft tissue, HU",
            ("tenant",),
            buckets=(4, 8, 12, 16, 20, 24, 28, 36, 48),
            registry=registry,
        )
        self._slice_mm = Histogram(
            "lungmesh_scan_slice_spacing_mm",
            "Distance of a scan's slices, mm",
            ("tenant",),
            buckets=(0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 5),
            registry=registry,
        )
        # Scans by what the quality rules said: read, refused.
        self._scans = Counter(
            "lungmesh_scans", "Scans judged", ("tenant", "verdict"), registry=registry
        )
        # Findings of the quality rules; severity refuse means that the scan was not read.
        self._findings = Counter(
            "lungmesh_scan_quality_findings",
            "Breaches of the scan quality rules",
            ("tenant", "code", "severity"),
            registry=registry,
        )

    def measured(self, tenant: str, lung_hu: float, noise_hu: float, slice_mm: float) -> None:
        """Count a scan that is read."""
        self._judged(tenant, "read")
        self._lung_hu.labels(tenant).observe(lung_hu)
        self._noise_hu.labels(tenant).observe(noise_hu)
        self._slice_mm.labels(tenant).observe(slice_mm)

    def found(self, tenant: str, findings: Iterable[Finding]) -> None:
        """Count what the rules say of a scan that is read."""
        for one in findings:
            self._findings.labels(tenant, one.code, one.severity.name.lower()).inc()

    def refused(self, tenant: str, findings: Iterable[Finding]) -> None:
        """Count a scan that is not read."""
        self._judged(tenant, "refused")
        self.found(tenant, findings)

    def _judged(self, tenant: str, verdict: str) -> None:
        # Both counts begin together: a share of nothing would not show.
        for one in ("read", "refused"):
            self._scans.labels(tenant, one).inc(one == verdict)
