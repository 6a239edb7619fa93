"""What ingest tells of itself beside the chassis' metrics; labels carry no patient data."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from lungmesh.mesh.contract import LANES

# 120 s and 600 s are the promises of docs/observability.md: the alerts ask for these two buckets.
_TURNAROUND_SECONDS = (10, 30, 60, 120, 300, 600, 1200, 3600, 14400)
_OUTCOMES = ("reported", "bad_input", "unavailable", "refused", "defect")


class IngestMetrics:
    """Every metric of ingest; the unit is in the name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Objects by door (dicom, stow, grpc, spool), tenant and result: accepted, repeated,
        # or the code of a refusal.
        self.objects = Counter(
            "lungmesh_ingest_objects",
            "DICOM objects received",
            ("door", "tenant", "result"),
            registry=registry,
        )
        # Bytes of these objects, refused ones too.
        self.bytes = Counter(
            "lungmesh_ingest_bytes",
            "Bytes of DICOM objects received",
            ("door", "tenant"),
            registry=registry,
        )
        # Associations turned away, by reason.
        self.rejected_associations = Counter(
            "lungmesh_ingest_rejected_associations",
            "DICOM associations rejected",
            ("reason",),
            registry=registry,
        )
        # Free bytes of the spool's disk when last looked at.
        self.free_bytes = Gauge(
            "lungmesh_ingest_free_bytes", "Free bytes of the spool's disk", registry=registry
        )
        # Below this nothing new is taken.
        self.least_free_bytes = Gauge(
            "lungmesh_ingest_least_free_bytes",
            "Free bytes below which ingest takes nothing",
            registry=registry,
        )
        # Studies that are neither complete nor given up.
        self.open_studies = Gauge(
            "lungmesh_ingest_open_studies", "Studies being received", registry=registry
        )
        # Age of the study that has been open longest: an alarm for work that never ends.
        self.oldest_study_seconds = Gauge(
            "lungmesh_ingest_oldest_open_study_seconds",
            "Seconds since the oldest open study's first object",
            registry=registry,
        )
        # Objects acknowledged and not yet in the object store.
        self.unsaved = Gauge(
            "lungmesh_ingest_unsaved_objects",
            "Objects in the spool that are not yet in the object store",
            registry=registry,
        )
        # Revisions closed, by what closed them.
        self.closed = Counter(
            "lungmesh_ingest_closed_revisions",
            "Study revisions closed",
            ("tenant", "closed_by"),
            registry=registry,
        )
        # From the last object's arrival to the written report, once a revision.
        self.turnaround = Histogram(
            "lungmesh_study_turnaround_seconds",
            "Seconds from a study's last object to its report",
            ("tenant", "lane"),
            buckets=_TURNAROUND_SECONDS,
            registry=registry,
        )
        # Revisions by how they ended: reported, or the kind of the failure.
        self.ended = Counter(
            "lungmesh_ended_studies",
            "Study revisions that ended",
            ("tenant", "lane", "outcome"),
            registry=registry,
        )
        # Revisions that were sent out and have neither ended nor failed.
        self.unfinished = Gauge(
            "lungmesh_unfinished_studies",
            "Studies that are being read",
            ("tenant", "lane"),
            registry=registry,
        )
        # Age of the first of them.
        self.oldest_unfinished_seconds = Gauge(
            "lungmesh_oldest_unfinished_study_seconds",
            "Seconds since the oldest study that is being read was complete",
            ("tenant", "lane"),
            registry=registry,
        )
        # Studies given up without any usable image.
        self.expired = Counter(
            "lungmesh_ingest_expired_studies",
            "Studies given up without a usable image",
            ("tenant",),
            registry=registry,
        )

    def expect(self, tenants: Iterable[str]) -> None:
        """Begin counts at 0: an increase from nothing to 1 would not show."""
        for reason in ("called_ae_title", "calling_ae_title", "storage_full"):
            self.rejected_associations.labels(reason)
        for tenant in tenants:
            for lane in LANES:
                self.turnaround.labels(tenant, lane)
                for outcome in _OUTCOMES:
                    self.ended.labels(tenant, lane, outcome)
