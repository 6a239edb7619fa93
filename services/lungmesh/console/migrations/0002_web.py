"""The web page: what it filters by, what it shows, users, sessions, signatures, the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_STUDY = (
    sa.Column("outcome", sa.Integer, nullable=False, server_default="0"),
    sa.Column("study_date", sa.String, nullable=False, server_default=""),
    sa.Column("due_date", sa.String, nullable=False, server_default=""),
    sa.Column("work_up", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("edition", sa.Integer, nullable=False, server_default="0"),
    sa.Column("report_edition", sa.Integer, nullable=False, server_default="0"),
    sa.Column("signed_by", sa.String, nullable=False, server_default=""),
    sa.Column("signed_at", sa.Double, nullable=False, server_default="0"),
    sa.Column("signed_revision", sa.Integer, nullable=False, server_default="0"),
    sa.Column("signed_edition", sa.Integer, nullable=False, server_default="0"),
)
_INDEXES = {
    "console_study_newest": ("tenant", "first_seen", "study_id"),
    "console_study_outcome": ("tenant", "outcome", "first_seen", "study_id"),
    "console_study_category": ("tenant", "category", "first_seen", "study_id"),
    "console_study_priority": ("tenant", "priority", "first_seen", "study_id"),
    "console_study_due": ("tenant", "due_date", "study_id"),
    "console_study_patient": ("tenant", "patient", "study_date"),
    "console_study_id": ("study_id",),
}


def upgrade() -> None:
    for column in _STUDY:
        op.add_column("console_study", column.copy())
    # 1 in progress, 2 done, 3 failed, as in console.proto; 5 is a failed stage.
    op.execute(
        "UPDATE console_study SET outcome = CASE WHEN stages LIKE '%\"state\": 5%' THEN 3 "
        "WHEN content_sha256 <> '' AND recommended THEN 2 ELSE 1 END"
    )
    op.drop_index("console_study_first_seen", "console_study")
    for name, columns in _INDEXES.items():
        op.create_index(name, "console_study", list(columns))
    op.create_table(
        "console_result",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("received", sa.LargeBinary),
        sa.Column("followup", sa.LargeBinary),
        sa.Column("report", sa.LargeBinary),
    )
    op.create_table(
        "console_signature",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("edition", sa.Integer, primary_key=True),
        sa.Column("author", sa.String, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("state_id", sa.String, nullable=False),
        sa.Column("content_sha256", sa.String, nullable=False),
    )
    op.create_table(
        "console_model",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("version", sa.String, primary_key=True),
        sa.Column("last_seen", sa.Double, nullable=False),
    )
    op.create_table(
        "console_destination",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("delivered", sa.Integer, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
    )
    op.create_table(
        "console_user",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("password_hash", sa.String, nullable=False),
        sa.Column("roles", sa.String, nullable=False),
        sa.Column("tenants", sa.String, nullable=False),
        sa.Column("language", sa.String, nullable=False),
        sa.Column("local", sa.Boolean, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
    )
    op.create_table(
        "console_session",
        sa.Column("token_hash", sa.String, primary_key=True),
        sa.Column("user_name", sa.String, nullable=False),
        sa.Column("csrf", sa.String, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("seen", sa.Double, nullable=False),
        sa.Column("authenticated", sa.Double, nullable=False),
    )
    op.create_index("console_session_user", "console_session", ["user_name"])
    op.create_table(
        "console_login_failure",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("console_login_failure_key", "console_login_failure", ["key", "at"])
    op.create_table(
        "console_audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("user_name", sa.String, nullable=False),
        sa.Column("roles", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("object", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "console_audit",
        "console_login_failure",
        "console_session",
        "console_user",
        "console_destination",
        "console_model",
        "console_signature",
        "console_result",
    ):
        op.drop_table(table)
    for name in _INDEXES:
        op.drop_index(name, "console_study")
    for column in _STUDY:
        op.drop_column("console_study", column.name)
    op.create_index("console_study_first_seen", "console_study", ["tenant", "first_seen"])
