"""Studies are counted by state every few seconds."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("ingest_study_state", "ingest_study", ["state"])


def downgrade() -> None:
    op.drop_index("ingest_study_state", "ingest_study")
