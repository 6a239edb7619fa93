"""A patient's nodules through all exams, as one table; `lungmesh timeline`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from lungmesh.cli.client import MeshClient
from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.show import Show, words
from lungmesh.cli.up import the_running_mesh
from lungmesh.mesh.contract import name_of
from lungmesh.v1 import followup_pb2, nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import Category, Nodule, PriorMatch

LUNG_RADS = "Lung-RADS"
_COLUMNS = ("no.", "nodule", "exam", "mean mm", "mm³", "change", "VDT, days (95 %)", "P(grown)")
_RIGHT = ("no.", "mean mm", "mm³", "change", "P(grown)")
# Figures that must not break in two.
_WHOLE = ("exam", "change", "VDT, days (95 %)")
# Codes that a nodule's row shows: what happened to it where it is no longer seen.
_GONE, _NOT_SEEN = "resolved", "not evaluable"


@dataclass(frozen=True)
class Row:
    """A nodule in one exam; `nodule` is None where the exam does not show it.

    `prior` is the comparison with the exam before in which the nodule was seen.
    """

    exam: FollowupUpdated
    nodule: Nodule | None
    prior: PriorMatch | None = None
    fate: str = ""


def the_timeline(client: MeshClient, tenant: str, patient: str) -> Sequence[FollowupUpdated]:
    """Return a patient's exams in order of study date.

    Raises CommandError (USAGE) when the mesh knows none.
    """
    exams = client.timeline(tenant, patient)
    if not exams:
        raise CommandError(f"no exam of patient {patient} at tenant {tenant}", Exit.USAGE)
    return exams


def timeline_of(data: Path, tenant: str, patient: str, show: Show) -> None:
    """Print a patient's exams, the nodules through them, and what comes next."""
    exams = the_timeline(MeshClient(the_running_mesh(data)), tenant, patient)
    _show_exams(exams, show)
    show_timeline(exams, show)
    last = exams[-1]
    for c in last.exam_categories:
        name = f"{c.guideline.name} {c.guideline.version}"
        show.note(judged(name, c.category, c.row, c.needs, c.management_en))
    if last.next.work_up or last.next.due_date:
        show.note(f"next: {_next(last)}")


def show_timeline(exams: Sequence[FollowupUpdated], show: Show) -> None:
    """Print each nodule's row of every exam that shows it, the earliest first."""
    guideline = exams[-1].next.guideline.name or LUNG_RADS
    table = Table(title="timeline (change against the exam before)", title_justify="left")
    for name in (*_COLUMNS, "growth", guideline):
        right, whole = name in _RIGHT, name in _WHOLE
        table.add_column(name, justify="right" if right else "left", no_wrap=whole)
    rows = []
    for course in _courses(exams):
        for row in course:
            rows.append(_facts(row, course, guideline))
            table.add_row(*_cells(row, course, guideline), end_section=row is course[-1])
    if not rows:
        show.note("no nodule in any exam")
        return
    show.table(table, "timeline", rows)
    _show_unlike(exams, show)


def judged(guideline: str, category: str, row: str, needs: Sequence[str], management: str) -> str:
    """Return what a guideline says of an exam: the category with its row, or what it needs."""
    word = category or "no category, needs " + ", ".join(needs)
    by = f" ({row})" if category and row else ""
    return f"{guideline}: {word}{by}. {management}".strip()


def dated(dicom_date: str) -> str:
    """Return a DICOM DA as YYYY-MM-DD; ? when there is none."""
    if len(dicom_date) != 8:
        return dicom_date or "?"
    return f"{dicom_date[:4]}-{dicom_date[4:6]}-{dicom_date[6:]}"


def study_date(exam: FollowupUpdated) -> str:
    """Return the date of an exam as DICOM has it; empty when there is none."""
    date: str = exam.exam.volume.acquisition.study_date
    return date


def _courses(exams: Sequence[FollowupUpdated]) -> Iterator[list[Row]]:
    """Yield the rows of each nodule, those of the last exam first, by their numbers there."""
    courses: dict[str, list[Row]] = {}
    for exam in exams:
        for nodule in exam.nodules:
            course = courses.setdefault(nodule.tracking.tracking_uid, [])
            course.append(Row(exam, nodule, _before(nodule, course)))
    for course in courses.values():
        course += _fate(course[-1], exams)
    place = {exam.study.study_id: number for number, exam in enumerate(exams)}

    def order(course: list[Row]) -> tuple[int, int]:
        last = _last(course)
        return -place[last[0].study.study_id], last[1].number

    yield from sorted(courses.values(), key=order)


def _fate(last: Row, exams: Sequence[FollowupUpdated]) -> list[Row]:
    """Return a row that says what became of a nodule, from the first exam that tells."""
    seen = [exam.study.study_id for exam in exams].index(last.exam.study.study_id)
    nodule_id = last.nodule.nodule_id if last.nodule else ""
    for exam in exams[seen + 1 :]:
        for prior in exam.priors:
            if prior.study_id != last.exam.study.study_id:
                continue
            if nodule_id in prior.resolved_nodule_ids:
                return [Row(exam, None, fate=_GONE)]
            if nodule_id in prior.not_evaluable_nodule_ids:
                return [Row(exam, None, fate=_NOT_SEEN)]
    return []


def _last(course: list[Row]) -> tuple[FollowupUpdated, Nodule]:
    """Return the last exam that shows the nodule, and the nodule there."""
    return next((row.exam, row.nodule) for row in reversed(course) if row.nodule is not None)


def _before(nodule: Nodule, earlier: list[Row]) -> PriorMatch | None:
    """Return the comparison with the last of the earlier rows that it was compared with."""
    compared = {prior.study_id: prior for prior in nodule.tracking.priors}
    studies = (row.exam.study.study_id for row in reversed(earlier))
    return next((compared[study] for study in studies if study in compared), None)


def _cells(row: Row, course: list[Row], guideline: str) -> list[str]:
    exam, nodule = _last(course)
    first = row is course[0]
    name = f"{words(_lobe(nodule))} {words(_type(nodule))}" if first else ""
    number = str(nodule.number) if first and exam is course[-1].exam else ""
    if row.nodule is None:
        return [number, name, dated(study_date(row.exam)), *[""] * 5, row.fate, ""]
    prior, m = row.prior, row.nodule.measurement
    return [
        number,
        name,
        dated(study_date(row.exam)),
        f"{m.mean_diameter_mm:.1f}",
        f"{m.volume_mm3:.0f}",
        f"{prior.volume_change_percent:+.0f} %" if prior else "",
        _doubling_time(prior) if prior else "",
        _probability(prior) if prior else "",
        _growth(row.nodule),
        _category(row.nodule.categories, guideline),
    ]


def _facts(row: Row, course: list[Row], guideline: str) -> dict[str, Any]:
    _, last = _last(course)
    facts: dict[str, Any] = {
        "tracking_uid": last.tracking.tracking_uid,
        "study_id": row.exam.study.study_id,
        "study_date": study_date(row.exam),
        "fate": row.fate,
    }
    if row.nodule is None:
        return facts
    prior, m = row.prior, row.nodule.measurement
    facts |= {
        "number": row.nodule.number,
        "nodule_id": row.nodule.nodule_id,
        "lobe": _lobe(row.nodule),
        "type": _type(row.nodule),
        "mean_diameter_mm": round(m.mean_diameter_mm, 1),
        "volume_mm3": round(m.volume_mm3),
        "growth": _growth(row.nodule).replace(" ", "_"),
        "category": _category(row.nodule.categories, guideline),
    }
    if prior:
        facts |= {
            "volume_change_percent": round(prior.volume_change_percent, 1),
            **{
                name: round(getattr(prior, name)) if prior.HasField(name) else None
                for name in (
                    "volume_doubling_time_days",
                    "volume_doubling_time_low_days",
                    "volume_doubling_time_high_days",
                )
            },
            "growth_probability": round(prior.growth_probability, 3),
            "warnings": list(prior.warnings),
        }
    return facts


def _show_exams(exams: Sequence[FollowupUpdated], show: Show) -> None:
    table = Table(title="exams", title_justify="left")
    for name in ("date", "study", "edition", "nodules", "categories", "corrections", "next"):
        # An id must be whole, so that other commands can be given it.
        table.add_column(name, no_wrap=name == "study", min_width=36 if name == "study" else None)
    rows = []
    for exam in exams:
        categories = {c.guideline.name: c.category for c in exam.exam_categories}
        rows.append(
            {
                "study_id": exam.study.study_id,
                "study_date": study_date(exam),
                "edition": max(1, exam.edition),
                "nodules": len(exam.nodules),
                "categories": categories,
                "corrections": [c.correction_id for c in exam.corrections],
                "next": _next(exam),
            }
        )
        table.add_row(
            dated(study_date(exam)),
            exam.study.study_id,
            str(max(1, exam.edition)),
            str(len(exam.nodules)),
            ", ".join(f"{name} {word or '?'}" for name, word in categories.items()),
            str(len(exam.corrections)),
            _next(exam),
        )
    show.table(table, "exams", rows)
    for exam in exams:
        for said in exam.corrections:
            kind = name_of(followup_pb2.CorrectionKind.DESCRIPTOR, said.kind)
            at = said.at.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
            what = f" {said.withdraws}" if said.withdraws else ""
            show.note(
                f"correction {said.correction_id}: {kind}{what} by {said.author}, {at}",
                study_id=exam.study.study_id,
                correction_id=said.correction_id,
                kind=kind,
                author=said.author,
            )


def _show_unlike(exams: Sequence[FollowupUpdated], show: Show) -> None:
    dates = {exam.study.study_id: dated(study_date(exam)) for exam in exams}
    for exam in exams:
        for prior in exam.priors:
            if prior.warnings:
                unlike = ", ".join(words(code) for code in prior.warnings)
                when = dates.get(prior.study_id, dated(prior.study_date))
                show.note(
                    f"{dated(study_date(exam))} and {when} are unlike in {unlike}: changes of size "
                    "between them are less sure",
                    warnings=list(prior.warnings),
                )


def _next(exam: FollowupUpdated) -> str:
    if exam.next.work_up:
        return "work-up"
    return dated(exam.next.due_date) if exam.next.due_date else ""


def _doubling_time(prior: PriorMatch) -> str:
    if not prior.HasField("volume_doubling_time_days"):
        return ""
    ends = [
        f"{getattr(prior, name):.0f}" if prior.HasField(name) else "∞"
        for name in ("volume_doubling_time_low_days", "volume_doubling_time_high_days")
    ]
    days = f"{prior.volume_doubling_time_days:.0f}"
    return days if ends == ["∞", "∞"] else f"{days} ({' – '.join(ends)})"


def _probability(prior: PriorMatch) -> str:
    """Return the probability of growth; nothing where no error of measurement is known."""
    if not prior.volume_error_percent:
        return ""
    chance = prior.growth_probability
    if chance > 0.99:
        return "> 99 %"
    return "< 1 %" if chance < 0.01 else f"{100 * chance:.0f} %"


def _growth(nodule: Nodule) -> str:
    outcome = nodule.tracking.outcome
    growth = words(name_of(nodule_pb2.GrowthClass.DESCRIPTOR, nodule.tracking.growth))
    if outcome in (nodule_pb2.MATCH_OUTCOME_SPLIT, nodule_pb2.MATCH_OUTCOME_MERGED):
        return f"{growth}, {name_of(nodule_pb2.MatchOutcome.DESCRIPTOR, outcome)}"
    if nodule.tracking.shown_earlier:
        return f"{growth}? seen earlier"
    return growth


def _lobe(nodule: Nodule) -> str:
    return name_of(nodule_pb2.Lobe.DESCRIPTOR, nodule.lobe)


def _type(nodule: Nodule) -> str:
    return name_of(nodule_pb2.NoduleType.DESCRIPTOR, nodule.type)


def _category(categories: Sequence[Category], guideline: str) -> str:
    return next((c.category for c in categories if c.guideline.name == guideline), "")
