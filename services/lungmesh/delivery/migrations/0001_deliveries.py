"""What goes to which destination, how each destination does, and what is signed."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INDEXES = {
    "delivery_item_due": ("tenant", "destination", "due_at"),
    "delivery_item_state": ("tenant", "destination", "state", "since"),
    "delivery_item_study": ("tenant", "study_id"),
    "delivery_item_since": ("tenant", "since"),
    "delivery_item_transaction": ("transaction_uid",),
}


def upgrade() -> None:
    op.create_table(
        "delivery_item",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("destination", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("edition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double),
        sa.Column("claimed_by", sa.String, nullable=False),
        sa.Column("claimed_until", sa.Double, nullable=False),
        sa.Column("sent_at", sa.Double, nullable=False),
        sa.Column("error", sa.String, nullable=False),
        sa.Column("transaction_uid", sa.String, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    for name, columns in _INDEXES.items():
        op.create_index(name, "delivery_item", list(columns))
    op.create_table(
        "delivery_destination",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("down_since", sa.Double, nullable=False),
        sa.Column("resume_at", sa.Double, nullable=False),
        sa.Column("probe_until", sa.Double, nullable=False),
        sa.Column("error", sa.String, nullable=False),
        sa.Column("last_sent_at", sa.Double, nullable=False),
    )
    op.create_table(
        "delivery_signature",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("edition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
    )


def downgrade() -> None:
    for table in ("delivery_signature", "delivery_destination", "delivery_item"):
        op.drop_table(table)
