"""A programme's lists: `lungmesh due`, `lungmesh registry`, `lungmesh response`."""

from __future__ import annotations

import datetime
from itertools import islice
from pathlib import Path
from typing import Literal

from rich.table import Table

from lungmesh.cli.client import MeshClient
from lungmesh.cli.exits import CommandError, Exit, writing
from lungmesh.cli.show import Show, words
from lungmesh.cli.timeline import dated
from lungmesh.cli.up import the_running_mesh
from lungmesh.mesh.contract import name_of
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import DueExam, ExamResponse

_FORMATS = {
    "csv": followup_pb2.REGISTRY_FORMAT_CSV,
    "fhir": followup_pb2.REGISTRY_FORMAT_FHIR,
}


def day(text: str | None) -> str:
    """Return a date given as YYYY-MM-DD or YYYYMMDD as DICOM has it; None is today.

    Raises CommandError (USAGE).
    """
    if text is None:
        return datetime.date.today().strftime("%Y%m%d")
    plain = text.replace("-", "")
    try:
        return datetime.datetime.strptime(plain, "%Y%m%d").strftime("%Y%m%d")
    except ValueError as error:
        raise CommandError(f"{text} is no date: give YYYY-MM-DD", Exit.USAGE) from error


def list_due(
    data: Path,
    tenant: str,
    today: str | None,
    state: str | None,
    category: str,
    limit: int,
    show: Show,
) -> None:
    """Print what is due, the longest overdue first.

    Parameters
    ----------
    state
        Only not-due, due, overdue or lost; None means due, overdue and lost.
    """
    request = followup_pb2.ListDueRequest(
        tenant=tenant, today=day(today), category=category, limit=min(limit, 1000)
    )
    if state is not None:
        request.escalation = followup_pb2.Escalation.Value(
            "ESCALATION_" + state.replace("-", "_").upper()
        )
    client = MeshClient(the_running_mesh(data))
    exams = list(islice(client.due(request), limit + 1))
    more = len(exams) > limit
    if not exams:
        show.note("nothing is due")
        return
    table = Table(title=f"due on {dated(request.today)}", title_justify="left")
    for name in ("patient", "last exam", "due", "days late", "state", "category", "next"):
        right = name == "days late"
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=name == "patient",
            min_width=36 if name == "patient" else None,
        )
    rows = []
    for exam in exams[:limit]:
        rows.append(_due_facts(exam))
        table.add_row(
            exam.patient,
            dated(exam.study_date),
            dated(exam.due_date),
            f"{exam.days_late:.0f}",
            words(_state(exam)),
            f"{exam.category.guideline.name} {exam.category.category}",
            "work-up" if exam.work_up else "CT",
        )
    show.table(table, "due", rows)
    if more:
        show.note(f"more than {limit}: ask for more with --limit")


def export_registry(
    data: Path,
    tenant: str,
    form: Literal["csv", "fhir"],
    first: str | None,
    last: str | None,
    out: Path,
    show: Show,
) -> None:
    """Write a registry's file.

    Raises CommandError (OUTPUT) when the file cannot be written.
    """
    request = followup_pb2.ExportRegistryRequest(
        tenant=tenant,
        from_date=day(first or "1900-01-01"),
        to_date=day(last),
        format=_FORMATS[form],
    )
    size = 0
    client = MeshClient(the_running_mesh(data))
    part = out.with_name(out.name + ".part")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for piece in client.registry(request):
                size += file.write(piece)
        # Whole or not at all.
        part.replace(out)
    show.note(f"{size} bytes in {out}", out=str(out), size_bytes=size)


def show_response(data: Path, tenant: str, patient: str, baseline: str, show: Show) -> None:
    """Print the response to treatment at every exam from the baseline on."""
    answer = MeshClient(the_running_mesh(data)).response(tenant, patient, baseline)
    if not answer.exams:
        raise CommandError(f"no exam of patient {patient} at tenant {tenant}", Exit.USAGE)
    table = Table(title="response (RECIST 1.1, iRECIST)", title_justify="left")
    for name in (
        *("exam", "targets", "sum mm", "from baseline", "from smallest", "new"),
        *("RECIST", "iRECIST", "volume", "rule"),
    ):
        table.add_column(name)
    rows = []
    for place, exam in enumerate(answer.exams):
        rows.append(_response_facts(exam))
        table.add_row(
            dated(exam.study_date),
            str(len(exam.targets)),
            f"{exam.sum_mm:.1f}",
            # The baseline has nothing to be compared with.
            *(
                [_percent(exam.from_baseline_percent), _percent(exam.from_smallest_percent)]
                if place
                else ["", ""]
            ),
            str(exam.new_lesions),
            exam.recist,
            exam.irecist,
            _percent(exam.volume_from_baseline_percent) if place else "",
            exam.row,
        )
    show.table(table, "response", rows)
    for limit in answer.limits:
        show.note(f"limit: {limit}")


def _state(exam: DueExam) -> str:
    return name_of(followup_pb2.Escalation.DESCRIPTOR, exam.escalation)


def _due_facts(exam: DueExam) -> dict[str, object]:
    return {
        "patient": exam.patient,
        "study_id": exam.study_id,
        "study_date": exam.study_date,
        "due_date": exam.due_date,
        "days_late": round(exam.days_late),
        "state": _state(exam),
        "guideline": exam.category.guideline.name,
        "edition": exam.category.guideline.version,
        "category": exam.category.category,
        "management_en": exam.category.management_en,
        "management_zh": exam.category.management_zh,
        "work_up": exam.work_up,
    }


def _response_facts(exam: ExamResponse) -> dict[str, object]:
    return {
        "study_id": exam.study_id,
        "study_date": exam.study_date,
        "targets": [
            {
                "tracking_uid": target.tracking_uid,
                "long_axis_mm": round(target.long_axis_mm, 1),
                "volume_mm3": round(target.volume_mm3),
            }
            for target in exam.targets
        ],
        "sum_mm": round(exam.sum_mm, 1),
        "smallest_sum_mm": round(exam.smallest_sum_mm, 1),
        "from_baseline_percent": round(exam.from_baseline_percent, 1),
        "from_smallest_percent": round(exam.from_smallest_percent, 1),
        "new_lesions": exam.new_lesions,
        "recist": exam.recist,
        "irecist": exam.irecist,
        "volume_from_baseline_percent": round(exam.volume_from_baseline_percent, 1),
        "row": exam.row,
    }


def _percent(value: float) -> str:
    return f"{value:+.0f} %"
