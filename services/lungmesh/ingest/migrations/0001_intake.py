"""Patients (sealed), studies, instances, quarantine."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "ingest_patient",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("lookup", sa.String, primary_key=True),
        sa.Column("pseudonym", sa.String, nullable=False, unique=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ingest_study",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("study_instance_uid", sa.String, nullable=False),
        sa.Column("patient_lookup", sa.String, nullable=False),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("receiving", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("refused", sa.String, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("header_clinical", sa.LargeBinary, nullable=False),
        sa.Column("stated_clinical", sa.LargeBinary, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("reported", sa.Boolean, nullable=False),
        sa.Column("recommended", sa.Boolean, nullable=False),
    )
    op.create_index("ingest_study_patient", "ingest_study", ["tenant", "patient_lookup"])
    op.create_table(
        "ingest_instance",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("sop_instance_uid", sa.String, primary_key=True),
        sa.Column("sop_class_uid", sa.String, nullable=False),
        sa.Column("series_instance_uid", sa.String, nullable=False),
        sa.Column("modality", sa.String, nullable=False),
        sa.Column("transfer_syntax_uid", sa.String, nullable=False),
        sa.Column("usable", sa.Boolean, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        # First revision of the study that holds it; 0 until it is closed.
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_table(
        "ingest_quarantine",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("ingest_quarantine_at", "ingest_quarantine", ["tenant", "at"])


def downgrade() -> None:
    for table in ("ingest_quarantine", "ingest_instance", "ingest_study", "ingest_patient"):
        op.drop_table(table)
