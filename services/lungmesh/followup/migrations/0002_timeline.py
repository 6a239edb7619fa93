"""Exams as they came, corrections, layings, results, what is due, outcomes."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import NodulesAssessed

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    connection = op.get_bind()
    old = connection.execute(
        sa.text("SELECT tenant, study_id, patient, revision, event FROM followup_exam")
    ).all()
    op.drop_index("followup_exam_patient", "followup_exam")
    op.drop_table("followup_exam")
    op.create_table(
        "followup_patient",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("patient", sa.String, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
    )
    exam = op.create_table(
        "followup_exam",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "followup_correction",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("correction_id", sa.String, primary_key=True),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "followup_laying",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("earlier_id", sa.String, primary_key=True),
        sa.Column("current_id", sa.String, primary_key=True),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("laying", sa.LargeBinary, nullable=False),
    )
    result = op.create_table(
        "followup_result",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, primary_key=True),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("positive", sa.Boolean, nullable=False),
        sa.Column("baseline", sa.Boolean, nullable=False),
        sa.Column("study_day", sa.Integer),
        sa.Column("due_day", sa.Integer),
        sa.Column("next_day", sa.Integer),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "followup_due",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("patient", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, nullable=False),
        sa.Column("study_date", sa.String, nullable=False),
        sa.Column("due_day", sa.Integer, nullable=False),
        sa.Column("due_date", sa.String, nullable=False),
        sa.Column("work_up", sa.Boolean, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("described", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "followup_outcome",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("outcome_id", sa.String, primary_key=True),
        sa.Column("patient", sa.String, nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    for table, name, columns in (
        ("followup_exam", "patient", ["tenant", "patient"]),
        ("followup_correction", "patient", ["tenant", "patient"]),
        ("followup_laying", "patient", ["tenant", "patient"]),
        ("followup_result", "patient", ["tenant", "patient"]),
        ("followup_result", "study_day", ["tenant", "study_day", "study_id"]),
        ("followup_result", "due_day", ["tenant", "due_day"]),
        ("followup_due", "day", ["tenant", "due_day", "patient"]),
        ("followup_due", "category", ["tenant", "category", "due_day", "patient"]),
        ("followup_outcome", "patient", ["tenant", "patient"]),
        ("followup_outcome", "day", ["tenant", "kind", "day"]),
    ):
        op.create_index(f"{table}_{name}", table, columns)
    if old:
        op.bulk_insert(
            exam,
            [
                {**_who(row), "revision": row.revision, "event": _as_it_came(row.event)}
                for row in old
            ],
        )
        op.bulk_insert(result, [{**_who(row), **_result(row.event)} for row in old])


def _who(row: Any) -> dict[str, object]:
    return {"tenant": row.tenant, "study_id": row.study_id, "patient": row.patient}


def _result(event: bytes) -> dict[str, object]:
    """Return a result as it was told; its figures come when the patient comes again."""
    kept = FollowupUpdated.FromString(event)
    kept.edition = 1
    try:
        date = datetime.strptime(kept.exam.volume.acquisition.study_date, "%Y%m%d")
    except ValueError:
        day = None
    else:
        day = date.toordinal()
    return {
        "category": "",
        "positive": False,
        "baseline": False,
        "study_day": day,
        "event": kept.SerializeToString(deterministic=True),
    }


def _as_it_came(event: bytes) -> bytes:
    """Return an exam without what the tracker had put in: it is tracked anew."""
    kept = FollowupUpdated.FromString(event)
    exam = NodulesAssessed(
        study=kept.study, exam=kept.exam, nodules=kept.nodules, models=kept.models
    )
    for nodule in exam.nodules:
        nodule.ClearField("tracking")
        nodule.ClearField("categories")
    return exam.SerializeToString(deterministic=True)


def downgrade() -> None:
    raise NotImplementedError("corrections cannot be told in the old table")
