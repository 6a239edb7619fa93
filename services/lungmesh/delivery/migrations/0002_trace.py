"""The trace that a report came in, so that sending it goes on in it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "delivery_item",
        sa.Column("traceparent", sa.String, nullable=False, server_default=""),
    )


def downgrade() -> None:
    op.drop_column("delivery_item", "traceparent")
