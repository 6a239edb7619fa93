"""The service's own tables: what goes to which destination, and how each destination does.

Times are seconds since 1970.
"""

from __future__ import annotations

from sqlalchemy import Index, LargeBinary
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lungmesh.v1.report_pb2 import ReportReady


class DeliveryBase(DeclarativeBase):
    """Tables of the delivery service."""


class ItemRow(DeliveryBase):
    """One edition of a study's report for one destination."""

    __tablename__ = "delivery_item"
    __table_args__ = (
        Index("delivery_item_due", "tenant", "destination", "due_at"),
        Index("delivery_item_state", "tenant", "destination", "state", "since"),
        Index("delivery_item_study", "tenant", "study_id"),
        Index("delivery_item_since", "tenant", "since"),
        Index("delivery_item_transaction", "transaction_uid"),
    )
    tenant: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    edition: Mapped[int] = mapped_column(primary_key=True)
    # A number of Priority: the smallest goes first.
    priority: Mapped[int]
    # A number of DeliveryState.
    state: Mapped[int]
    attempts: Mapped[int] = mapped_column(default=0)
    # Of its first coming, its signature or its replay: the age limit counts from here.
    since: Mapped[float]
    due_at: Mapped[float | None]
    claimed_by: Mapped[str] = mapped_column(default="")
    claimed_until: Mapped[float] = mapped_column(default=0.0)
    sent_at: Mapped[float] = mapped_column(default=0.0)
    error: Mapped[str] = mapped_column(default="")
    # The storage commitment that is asked for; empty where none is.
    transaction_uid: Mapped[str] = mapped_column(default="")
    # W3C trace context of the event that brought it.
    traceparent: Mapped[str] = mapped_column(default="")
    # ReportReady, serialized.
    event: Mapped[bytes] = mapped_column(LargeBinary)

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """Its primary key."""
        return self.tenant, self.destination, self.study_id, self.revision, self.edition

    @property
    def order(self) -> tuple[int, int]:
        """Its place among the editions of the study."""
        return self.revision, self.edition

    def report(self) -> ReportReady:
        """Return the report."""
        return ReportReady.FromString(self.event)

    def let_go(self) -> None:
        """Have nobody work on it now."""
        self.claimed_by, self.claimed_until = "", 0.0


class DestinationRow(DeliveryBase):
    """How a destination does; while it fails, one item at a time tries it."""

    __tablename__ = "delivery_destination"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    # Passing failures in a row, since when, and when the next try may be.
    failures: Mapped[int] = mapped_column(default=0)
    down_since: Mapped[float] = mapped_column(default=0.0)
    resume_at: Mapped[float] = mapped_column(default=0.0)
    # Until when the try that is under way counts.
    probe_until: Mapped[float] = mapped_column(default=0.0)
    error: Mapped[str] = mapped_column(default="")
    last_sent_at: Mapped[float] = mapped_column(default=0.0)


class SignatureRow(DeliveryBase):
    """A signature on an edition; it may come before the edition's report."""

    __tablename__ = "delivery_signature"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    edition: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
