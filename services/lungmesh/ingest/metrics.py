"""What ingest tells of itself beside the chassis' metrics; labels carry no patient data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


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
        # Studies given up without any usable image.
        self.expired = Counter(
            "lungmesh_ingest_expired_studies",
            "Studies given up without a usable image",
            ("tenant",),
            registry=registry,
        )
