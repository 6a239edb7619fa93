"""Studies of the worklist."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "console_study",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("content_sha256", sa.String, nullable=False),
        sa.Column("recommended", sa.Boolean, nullable=False),
        sa.Column("stages", sa.String, nullable=False),
        sa.Column("first_seen", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("console_study_changed", "console_study", ["tenant", "changed_at"])
    op.create_index("console_study_first_seen", "console_study", ["tenant", "first_seen"])


def downgrade() -> None:
    op.drop_table("console_study")
