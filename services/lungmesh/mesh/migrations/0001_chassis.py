"""Handled events, outbox and parked keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "mesh_handled",
        sa.Column("stage", sa.String, primary_key=True),
        sa.Column("event_id", sa.String, primary_key=True),
        sa.Column("result", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "mesh_outbox",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String, nullable=False, unique=True),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.String, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
    )
    op.create_index(
        "mesh_outbox_unsent",
        "mesh_outbox",
        ["sequence"],
        sqlite_where=sa.text("sent < wanted"),
        postgresql_where=sa.text("sent < wanted"),
    )
    op.create_table(
        "mesh_parked",
        sa.Column("stage", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("event_id", sa.String, nullable=False),
    )


def downgrade() -> None:
    for table in ("mesh_parked", "mesh_outbox", "mesh_handled"):
        op.drop_table(table)
