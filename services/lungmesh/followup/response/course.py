"""The course of a patient under treatment: every exam's response, and what it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from lungmesh.followup.response import irecist, recist
from lungmesh.followup.response.lesions import ExamLesions, Reading, Seen, choose, read

BASELINE = "BASELINE"
# What the CT of the chest alone cannot say.
LIMITS = (
    "Only lesions in the chest that the mesh tracks; other organs need their own imaging.",
    "Lymph nodes, effusions and tumour markers are not measured.",
    "Every nodule counts that no radiologist has rejected, benign ones too.",
    "A nodule that the detector did not find again counts as gone.",
    "Progression of non-targets is measured (73 % of volume and 5 mm); the paper asks a reader.",
    "A nodule that appears may be infection; RECIST asks that a new lesion be unequivocal.",
)


@dataclass(frozen=True)
class LesionSize:
    """A target in an exam; `long_axis_mm` is the short axis of a node, 0 when it is gone."""

    tracking_uid: str
    long_axis_mm: float
    volume_mm3: float


@dataclass(frozen=True)
class ExamResponse:
    """The response at one exam; the fields are those of the message, and `best`.

    Attributes
    ----------
    smallest_sum_mm
        The smallest complete sum before this exam; of the baseline its own.
    from_baseline_percent, from_smallest_percent, volume_from_baseline_percent
        None without targets, where not all were evaluated, or against nothing.
    recist
        BASELINE, CR, PR, SD, PD, NE or non-CR/non-PD.
    irecist
        BASELINE, iCR, iPR, iSD, iUPD, iCPD, NE or non-iCR/non-iUPD.
    row
        The rules that gave both.
    best
        Best overall response so far by RECIST 1.1, a response being confirmed; empty at first.
    """

    study_id: str
    study_date: str
    targets: tuple[LesionSize, ...]
    sum_mm: float
    smallest_sum_mm: float
    from_baseline_percent: float | None
    from_smallest_percent: float | None
    new_lesions: int
    recist: str
    irecist: str
    volume_from_baseline_percent: float | None
    row: str
    best: str


@dataclass
class _Course:
    """What runs along the exams."""

    smallest_mm: float
    non_target: tuple[float, float]
    kept_as: Mapping[str, str]
    timepoints: list[tuple[float, str]]
    i_state: irecist.State
    # When the partial response that now stands began.
    partial_since: float | None = None
    partial_stands: bool = False


def assess(exams: Sequence[ExamLesions]) -> list[ExamResponse]:
    """Return the response at every exam.

    Parameters
    ----------
    exams
        In order of date; the first is the baseline, whose lesions are chosen as targets.

    Raises
    ------
    ValueError
        When an exam has no date, or the dates do not rise.
    """
    if not exams:
        return []
    days = _days(exams)
    chosen = choose(exams[0])
    first = read(exams[0], chosen, {})
    volume = _volume(first)
    results = [_baseline(exams[0], first, chosen.targets)]
    course = _Course(first.sum_mm, recist.non_target_burden(first), {}, [], irecist.State())
    for day, exam in zip(days[1:], exams[1:], strict=True):
        reading = read(exam, chosen, course.kept_as)
        targets = recist.target_response(reading, chosen, first.sum_mm, course.smallest_mm)
        others = recist.non_target_response(reading, chosen, *course.non_target)
        base, base_row = _without_new(course, day, targets, others)
        response, row = _recist(course, targets, others, bool(reading.new), base, base_row)
        point = irecist.Point(
            days=day,
            targets=targets,
            non_targets=others,
            base=base,
            sum_mm=reading.sum_mm,
            non_target_mm3=recist.non_target_burden(reading)[1],
            new=reading.new,
            measurable_new=reading.measurable_new,
        )
        i_response, reason, course.i_state = irecist.step(course.i_state, point)
        course.timepoints.append((day, response))
        if response == recist.PD:
            course.partial_since, course.partial_stands = None, False
        complete = bool(chosen.targets) and not reading.missed_targets
        results.append(
            ExamResponse(
                study_id=exam.study_id,
                study_date=exam.study_date,
                targets=_sizes(reading, chosen.targets),
                sum_mm=reading.sum_mm,
                smallest_sum_mm=course.smallest_mm,
                from_baseline_percent=_percent(first.sum_mm, reading.sum_mm, complete),
                from_smallest_percent=_percent(course.smallest_mm, reading.sum_mm, complete),
                new_lesions=len(reading.new),
                recist=response,
                irecist=i_response,
                volume_from_baseline_percent=_percent(volume, _volume(reading), complete),
                row=f"{row}; iRECIST: {reason}",
                best=recist.best_overall(course.timepoints),
            )
        )
        _go_on(course, reading, complete)
    return results


def _baseline(exam: ExamLesions, first: Reading, targets: Sequence[str]) -> ExamResponse:
    return ExamResponse(
        study_id=exam.study_id,
        study_date=exam.study_date,
        targets=_sizes(first, targets),
        sum_mm=first.sum_mm,
        smallest_sum_mm=first.sum_mm,
        from_baseline_percent=None,
        from_smallest_percent=None,
        new_lesions=0,
        recist=BASELINE,
        irecist=BASELINE,
        volume_from_baseline_percent=None,
        row="baseline: targets chosen",
        best="",
    )


def _without_new(course: _Course, day: float, targets: str, others: str) -> tuple[str, str]:
    """Return the response of the baseline's lesions alone.

    A partial response that was confirmed stands until progression, though the sum rises somewhat
    (EORTC's FAQ "Managing PR when TP measurements change slightly over time").
    """
    row = recist.overall(targets, others, new=False)
    if row.response in (recist.PR, recist.CR):
        since = day if course.partial_since is None else course.partial_since
        course.partial_since = since
        course.partial_stands |= day - since >= recist.CONFIRMED_DAYS
    elif row.response == recist.SD and course.partial_stands:
        return recist.PR, "a confirmed partial response stands until progression"
    elif row.response != recist.NE:
        course.partial_since, course.partial_stands = None, False
    return row.response, row.name


def _recist(
    course: _Course, targets: str, others: str, new: bool, base: str, base_row: str
) -> tuple[str, str]:
    if any(response == recist.PD for _, response in course.timepoints):
        return recist.PD, "RECIST 1.1: progression stands"
    if new:
        row = recist.overall(targets, others, new=True)
        base, base_row = row.response, row.name
    return base, f"RECIST 1.1, {base_row}"


def _go_on(course: _Course, reading: Reading, complete: bool) -> None:
    if complete:
        course.smallest_mm = min(course.smallest_mm, reading.sum_mm)
    burden = recist.non_target_burden(reading)
    if not reading.missed_non_targets and burden[1] < course.non_target[1]:
        course.non_target = burden
    course.kept_as = reading.kept_as


def _days(exams: Sequence[ExamLesions]) -> list[float]:
    try:
        dates = [datetime.strptime(exam.study_date, "%Y%m%d") for exam in exams]
    except ValueError as error:
        raise ValueError("an exam without a date has no place in the course") from error
    days = [float((date - dates[0]).days) for date in dates]
    if any(later <= earlier for earlier, later in pairwise(days)):
        raise ValueError("exams must be in order of date, one a day")
    return days


def _sizes(reading: Reading, targets: Sequence[str]) -> tuple[LesionSize, ...]:
    seen = ((uid, reading.targets.get(uid, Seen())) for uid in targets)
    return tuple(LesionSize(uid, item.size_mm, item.volume_mm3) for uid, item in seen)


def _volume(reading: Reading) -> float:
    return sum(item.volume_mm3 for item in reading.targets.values())


def _percent(then: float, now: float, complete: bool) -> float | None:
    return 100 * (now - then) / then if complete and then > 0 else None
