"""A patient's timeline: the fold of all exams, corrections and layings into every exam's result.

Pure, and the same whatever arrived first: exams are taken in order of date and id, corrections in
order of their authors' times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import takewhile
from types import MappingProxyType

from lungmesh.followup import corrections as words
from lungmesh.followup import growth, laying, matching, registration, tracker
from lungmesh.followup.guidelines import engine
from lungmesh.followup.guidelines.message import category_message
from lungmesh.followup.guidelines.table import Guideline
from lungmesh.followup.guidelines.verdict import Verdict
from lungmesh.followup.guidelines.vocabulary import Earlier, ExamState, NoduleState
from lungmesh.followup.laying import Laying
from lungmesh.followup.selves import Past
from lungmesh.followup.tracker import Current, Tracked
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import Correction, FollowupUpdated, NextExam
from lungmesh.v1.nodule_pb2 import Nodule, NodulesAssessed
from lungmesh.v1.volume_pb2 import ModelVersion

# Ids of an earlier exam and of the one that it is compared with.
PairOfExams = tuple[str, str]
Layings = Mapping[PairOfExams, Laying]
_SUBSOLID = (nodule_pb2.NODULE_TYPE_PART_SOLID, nodule_pb2.NODULE_TYPE_NON_SOLID)
BENIGN = (nodule_pb2.NODULE_TYPE_CALCIFIED, nodule_pb2.NODULE_TYPE_FAT_CONTAINING)
RULES = (registration.RULES, laying.RULES, matching.RULES, tracker.RULES, growth.RULES)


@dataclass(frozen=True)
class Rules:
    """What a tenant's timelines are made with.

    Attributes
    ----------
    guidelines
        The first is the programme's: it names the next exam.
    priors
        How many of the most recent earlier exams are compared with each exam.
    """

    guidelines: tuple[Guideline, ...]
    priors: int


def date_of(text: str) -> date | None:
    """Return the day of a DICOM DA; None when it is missing or no date."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def months_later(day: date, months: int) -> date:
    """Return the same day some months on; the last of the month where it has no such day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    for number in range(day.day, 27, -1):
        try:
            return date(year, month + 1, number)
        except ValueError:
            continue
    return date(year, month + 1, day.day)


def in_order(exams: Sequence[NodulesAssessed]) -> list[NodulesAssessed]:
    """Return exams in order of study date, then of id; those without a date come first."""
    return sorted(exams, key=lambda exam: (_date(exam) or date.min, exam.study.study_id))


def compared(exams: Sequence[NodulesAssessed], priors: int) -> list[PairOfExams]:
    """Return which exams are laid over which: the fold takes these layings."""
    return [
        (then.study.study_id, now.study.study_id)
        for now in in_order(exams)
        for _, then in _before(now, exams)[:priors]
    ]


def fold(
    exams: Sequence[NodulesAssessed],
    corrections: Sequence[Correction],
    layings: Layings,
    rules: Rules,
    kept: Mapping[str, FollowupUpdated] = MappingProxyType({}),
) -> list[FollowupUpdated]:
    """Return every exam's result, in order of study date; those computed here have no edition yet.

    Parameters
    ----------
    exams
        The newest revision of each.
    layings
        Of the pairs that `compared` names. One that is missing (its pixels are gone) leaves the two
        exams uncompared.
    kept
        Results of an earlier fold, by study id. One that was made from the same exams and
        corrections stands as it is, also where newer rules would give another: an update of the
        software rewrites no history.
    """
    every, count = words.in_order(corrections), words.in_force(corrections)
    bonds = words.bonds(count)
    results: dict[str, FollowupUpdated] = {}
    for event in in_order(exams):
        study_id = event.study.study_id
        before = _before(event, exams)
        dated = bool(before) or not _unordered(event, exams)
        state_id = _state_id([event, *(then for _, then in before)], dated, every)
        if study_id in kept and kept[study_id].state_id == state_id:
            results[study_id] = kept[study_id]
            continue
        pasts = [
            Past(
                days,
                results[then.study.study_id],
                layings.get((then.study.study_id, study_id)) if place < rules.priors else None,
            )
            for place, (days, then) in enumerate(before)
        ]
        mine = [c for c in count if c.nodule.study_id == study_id]
        result = _Exam(event, mine, pasts, dated, rules).result(bonds)
        result.corrections.extend(c for c in every if c.nodule.study_id == study_id)
        result.state_id = state_id
        results[study_id] = result
    return list(results.values())


def changed(
    results: Sequence[FollowupUpdated], kept: Mapping[str, FollowupUpdated]
) -> tuple[list[FollowupUpdated], list[FollowupUpdated]]:
    """Give each result its edition; return those that say something new, and all as they now stand.

    Parameters
    ----------
    results
        Of a fold that was given the same `kept`.
    """
    news, all_now = [], []
    for result in results:
        before = kept.get(result.study.study_id)
        if before is None or before.study.revision < result.study.revision:
            result.edition = 1
        elif before.state_id == result.state_id:
            all_now.append(result)
            continue
        else:
            result.edition = before.edition
            same = FollowupUpdated()
            same.CopyFrom(before)
            same.state_id = result.state_id
            if same != result:
                result.edition += 1
            else:
                all_now.append(result)
                continue
        news.append(result)
        all_now.append(result)
    return news, all_now


class _Exam:
    """One exam on its way to its result."""

    def __init__(
        self,
        event: NodulesAssessed,
        said: Sequence[Correction],
        pasts: Sequence[Past],
        dated: bool,
        rules: Rules,
    ) -> None:
        self._event, self._pasts, self._dated, self._rules = event, pasts, dated, rules
        spoken: dict[str, list[Correction]] = {}
        for correction in said:
            nodule = words.find(correction.nodule, event.nodules)
            if nodule is not None:
                spoken.setdefault(nodule.nodule_id, []).append(correction)
        nodules = [words.reviewed(n, spoken.get(n.nodule_id, ())) for n in event.nodules]
        self._by_hand = {
            now.nodule_id
            for before, now in zip(event.nodules, nodules, strict=True)
            if now.type != before.type or now.measurement != before.measurement
        }
        self._nodules = [n for n in nodules if not _rejected(n)]
        self._rejected = [n for n in nodules if _rejected(n)]

    def result(self, bonds: Sequence[words.Bond]) -> FollowupUpdated:
        """Return the exam with every nodule tied to its earlier selves and in the guidelines."""
        event = self._event
        current = Current(
            event.study.study_id, event.exam, self._nodules, not self._pasts, self._dated
        )
        tracked, priors = tracker.track(current, self._pasts, bonds)
        result = FollowupUpdated(
            study=event.study,
            exam=event.exam,
            priors=priors,
            models=[*event.models, *(ModelVersion(name=n, version=v) for n, v in RULES)],
            rejected=self._rejected,
        )
        for item in tracked:
            nodule = result.nodules.add()
            nodule.CopyFrom(item.nodule)
            nodule.tracking.CopyFrom(item.tracking)
            del nodule.categories[:]
        for guideline in self._rules.guidelines:
            verdict = self._judge(guideline, tracked, result)
            programme = guideline is self._rules.guidelines[0]
            if programme:
                result.next.CopyFrom(self._next(guideline, verdict))
            if programme or verdict.category or verdict.needs:
                result.exam_categories.append(category_message(guideline, verdict))
        return result

    def _judge(
        self, guideline: Guideline, tracked: Sequence[Tracked], result: FollowupUpdated
    ) -> Verdict:
        verdicts = []
        for item, nodule in zip(tracked, result.nodules, strict=True):
            verdict = engine.judge(guideline, self._state(guideline, item))
            verdicts.append(verdict)
            nodule.categories.append(category_message(guideline, verdict))
        new = sum(n.tracking.growth == nodule_pb2.GROWTH_CLASS_NEW for n in result.nodules)
        exam = ExamState(
            nodules=len(tracked),
            new_nodules=new,
            qc_codes=frozenset(finding.code for finding in self._event.exam.qc_findings),
            resolved_categories=self._resolved(guideline, result),
        )
        return engine.judge_exam(guideline, verdicts, exam)

    def _resolved(self, guideline: Guideline, result: FollowupUpdated) -> frozenset[str]:
        """Return the categories of what the most recent compared exam had and this one has not."""
        if not result.priors:
            return frozenset()
        latest = result.priors[0]
        then = next(p.exam for p in self._pasts if p.exam.study.study_id == latest.study_id)
        given = {
            _category(nodule, guideline)
            for nodule in then.nodules
            if nodule.nodule_id in latest.resolved_nodule_ids
        }
        return frozenset(given - {""})

    def _state(self, guideline: Guideline, item: Tracked) -> NoduleState:
        nodule, size = item.nodule, item.nodule.measurement
        last = item.selves[0] if item.selves else None
        clinical = self._event.exam.clinical
        return NoduleState(
            type=nodule.type,
            mean_diameter_mm=size.mean_diameter_mm,
            solid_mean_diameter_mm=size.solid_mean_diameter_mm,
            growth=item.tracking.growth,
            volume_mm3=size.volume_mm3,
            solid_volume_mm3=size.solid_volume_mm3,
            long_axis_mm=size.long_axis_mm,
            vdt_days=last.change.volume_doubling_time_days if last else None,
            volume_change_percent=last.change.volume_change_percent if last else None,
            doubled_in_a_year=item.doubled_in_a_year,
            signs=frozenset(sign.name for sign in nodule.assessment.signs if sign.present),
            earlier=_earlier(guideline, item),
            days_since_first=item.selves[-1].past.days if item.selves else 0.0,
            # What is benign by its density is no second nodule to a guideline.
            nodules=sum(n.type not in BENIGN for n in self._nodules),
            subsolid_nodules=sum(n.type in _SUBSOLID for n in self._nodules),
            round=("annual" if self._pasts else "baseline") if self._dated else None,
            age_years=clinical.age_years if clinical.HasField("age_years") else None,
            brock_probability=self._risk(nodule, "Brock"),
            herder_probability=self._risk(nodule, "Herder"),
        )

    def _risk(self, nodule: Nodule, name: str) -> float | None:
        """Return a risk model's probability; None where a person changed what it was made of."""
        if nodule.nodule_id in self._by_hand:
            return None
        for risk in nodule.assessment.risks:
            if risk.model.name == name and risk.HasField("probability"):
                return risk.probability
        return None

    def _next(self, guideline: Guideline, verdict: Verdict) -> NextExam:
        message = NextExam(
            guideline=ModelVersion(name=guideline.name, version=guideline.edition),
            category=verdict.category,
        )
        if verdict.management is not None:
            message.work_up = verdict.management.work_up
            months, day = verdict.management.months, _date(self._event)
            if months is not None and day is not None:
                message.due_date = months_later(day, months).strftime("%Y%m%d")
        return message


def _rejected(nodule: Nodule) -> bool:
    return nodule.review.status == nodule_pb2.REVIEW_STATUS_REJECTED


def _earlier(guideline: Guideline, item: Tracked) -> Earlier | None:
    if not item.selves:
        return None
    last = item.selves[0].nodule
    category = _category(last, guideline)
    unbroken = [*takewhile(lambda one: _category(one.nodule, guideline) == category, item.selves)]
    return Earlier(
        type=last.type,
        mean_diameter_mm=last.measurement.mean_diameter_mm,
        solid_mean_diameter_mm=last.measurement.solid_mean_diameter_mm,
        category=category,
        days_in_category=unbroken[-1].past.days,
    )


def _category(nodule: Nodule, guideline: Guideline) -> str:
    for category in nodule.categories:
        named = category.guideline
        if (named.name, named.version) == (guideline.name, guideline.edition):
            return category.category
    return ""


def _date(event: NodulesAssessed) -> date | None:
    return date_of(event.exam.volume.acquisition.study_date)


def _before(
    event: NodulesAssessed, exams: Sequence[NodulesAssessed]
) -> list[tuple[float, NodulesAssessed]]:
    """Return the exams of an earlier day and the days since, most recent first.

    One of the same day is no prior.
    """
    today = _date(event)
    if today is None:
        return []
    before = [
        (float((today - day).days), exam)
        for exam in exams
        if (day := _date(exam)) is not None and day < today
    ]
    return sorted(before, key=lambda item: (item[0], item[1].study.study_id))


def _unordered(event: NodulesAssessed, exams: Sequence[NodulesAssessed]) -> bool:
    """Return whether another exam cannot be put before or after this one."""
    others = [exam for exam in exams if exam.study.study_id != event.study.study_id]
    return bool(others) and (_date(event) is None or any(_date(exam) is None for exam in others))


def _state_id(
    exams: Sequence[NodulesAssessed], dated: bool, corrections: Sequence[Correction]
) -> str:
    """Return the id of what a result was made from; the first exam is the result's own."""
    ids = {exam.study.study_id for exam in exams}
    digest = hashlib.sha256()
    for message in (*exams, *(c for c in corrections if c.nodule.study_id in ids)):
        digest.update(hashlib.sha256(message.SerializeToString(deterministic=True)).digest())
    return deterministic_id("state", exams[0].study.study_id, dated, digest.hexdigest())
