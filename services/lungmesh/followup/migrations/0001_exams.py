"""Exams of each patient."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "followup_exam",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("study_date", sa.String, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    op.create_index("followup_exam_patient", "followup_exam", ["tenant", "patient", "study_date"])


def downgrade() -> None:
    op.drop_table("followup_exam")
