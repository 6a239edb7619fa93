"""One nodule through several exams: its identity, its growth, its category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lungmesh.followup.guidelines import engine
from lungmesh.followup.laying import Laying
from lungmesh.followup.timeline import Rules, fold
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import Category, Nodule, NodulesAssessed
from tests.support.followup import a_correction, laid, layings
from tests.support.nodules import a_nodule, a_study, an_assessed_exam

HERE, THERE = (50.0, 80.0, -110.0), (-60.0, 20.0, -60.0)
RULES = Rules((engine.load("Lung-RADS"), engine.load("C-Lung-RADS")), 2)
GLASS = nodule_pb2.NODULE_TYPE_NON_SOLID


def exam(name: str, date: str, *nodules: Nodule) -> NodulesAssessed:
    return an_assessed_exam(a_study(name), nodules, date=date)


def followed(*exams: NodulesAssessed) -> list[FollowupUpdated]:
    """Fold exams of a patient who never moves."""
    return fold(exams, (), layings(exams), RULES)


def uids(result: FollowupUpdated) -> list[str]:
    return [nodule.tracking.tracking_uid for nodule in result.nodules]


def growths(results: Sequence[FollowupUpdated]) -> list[str]:
    return [
        nodule_pb2.GrowthClass.Name(nodule.tracking.growth).removeprefix("GROWTH_CLASS_")
        for result in results
        for nodule in result.nodules
    ]


def outcomes(result: FollowupUpdated) -> list[str]:
    return [
        nodule_pb2.MatchOutcome.Name(nodule.tracking.outcome).removeprefix("MATCH_OUTCOME_")
        for nodule in result.nodules
    ]


def lung_rads(categories: Sequence[Category]) -> Category:
    return next(c for c in categories if c.guideline.name == "Lung-RADS")


def given(results: Sequence[FollowupUpdated]) -> list[str]:
    return [lung_rads(result.nodules[0].categories).category for result in results]


def test_a_nodule_keeps_its_tracking_uid_and_another_gets_its_own() -> None:
    earlier, now = followed(
        exam("a", "20200101", a_nodule("a1", HERE, 8)),
        exam("b", "20200401", a_nodule("b1", HERE, 8), a_nodule("b2", THERE, 5)),
    )
    assert uids(now)[0] == uids(earlier)[0]
    assert uids(now)[1] != uids(now)[0]
    assert growths([now]) == ["STABLE", "NEW"]
    assert outcomes(now) == ["SAME", "NEW"]
    (match,) = now.nodules[0].tracking.priors
    assert (match.study_id, match.interval_days, match.distance_mm) == (
        earlier.study.study_id,
        91,
        0.0,
    )
    assert match.growth_probability == pytest.approx(0.5)


def test_two_nodules_of_an_exam_never_share_a_tracking_uid() -> None:
    oldest = exam("a", "20190101", a_nodule("a1", HERE, 8))
    middle = exam("b", "20200101", a_nodule("b1", HERE, 8))
    now = exam("c", "20210101", a_nodule("c1", HERE, 8), a_nodule("c2", (64.0, 80.0, -110.0), 8))
    every = layings([oldest, middle, now])
    # The oldest exam, laid over less well, says that c2 is the nodule; the middle one says c1.
    pair = (oldest.study.study_id, now.study.study_id)
    moved = {oldest.nodules[0].nodule_id: (64.0, 80.0, -110.0)}
    every[pair] = replace(every[pair], earlier_places=moved)
    first, _, last = fold([oldest, middle, now], (), every, RULES)
    assert uids(last)[0] == uids(first)[0]
    assert uids(last)[1] != uids(last)[0]
    assert growths([last])[1] == "NEW"
    # c1 is beside both of its earlier selves, also the one that its place alone did not find.
    assert len(last.nodules[0].tracking.priors) == 2


def test_slow_growth_is_seen_over_more_exams_than_are_compared() -> None:
    results = followed(
        *(
            exam(f"s{year}", f"{2018 + year}0101", a_nodule(f"n{year}", HERE, mm))
            for year, mm in enumerate((6.0, 6.5, 7.0, 7.6))
        )
    )
    # Each year half a millimetre, and 1.6 mm in three.
    assert growths(results)[0] == "BASELINE"
    assert growths(results)[-1] == "SLOWLY_GROWING"
    last = results[-1].nodules[0].tracking
    assert len(last.priors) == 2
    assert [size.mean_diameter_mm for size in last.history] == [7.0, 6.5, 6.0]


def test_a_nodule_of_4a_steps_down_twice_and_each_time_only_when_it_is_due() -> None:
    days = ("20200101", "20200131", "20200331", "20200629", "20201002")
    results = followed(
        *(exam(f"s{i}", day, a_nodule(f"n{i}", HERE, 9)) for i, day in enumerate(days))
    )
    # Days 0, 30, 90, 180, 275: 4A until 3 months, then 3 for 6 months.
    assert given(results) == ["4A", "4A", "3", "3", "2"]


def test_a_ground_glass_mass_that_doubled_within_a_year_is_4x() -> None:
    for date, category in (("20201027", "4X"), ("20210515", "3")):
        first, now = followed(
            exam("a", "20200101", a_nodule("a1", HERE, 26, GLASS)),
            exam("b", date, a_nodule("b1", HERE, 33, GLASS)),
        )
        assert given([first, now]) == ["2", category]


def test_where_exams_cannot_be_put_in_order_the_category_asks_for_a_prior() -> None:
    other, undated = exam("a", "20200101"), exam("b", "", a_nodule("b1", HERE, 7))
    first, _ = followed(other, undated)
    assert first.study.study_id == undated.study.study_id
    assert growths([first]) == ["NOT_EVALUABLE"]
    category = lung_rads(first.exam_categories)
    assert (category.category, list(category.needs)) == ("3", ["prior_ct"])
    assert not first.next.due_date


def test_an_exam_names_what_is_needed_for_a_nodule_that_has_no_category() -> None:
    airway = a_nodule("a2", THERE, 9, nodule_pb2.NODULE_TYPE_AIRWAY)
    (result,) = followed(exam("a", "20200101", a_nodule("a1", HERE, 5), airway))
    category = lung_rads(result.exam_categories)
    assert (category.category, list(category.needs)) == ("2", ["airway"])


def test_an_exam_without_nodules_is_category_1_and_due_in_a_year() -> None:
    (result,) = followed(exam("a", "20200229"))
    assert [c.category for c in result.exam_categories] == ["1"]
    assert result.next.guideline.name == "Lung-RADS"
    assert (result.next.due_date, result.next.work_up) == ("20210228", False)


def test_work_up_has_no_date() -> None:
    (result,) = followed(exam("a", "20200101", a_nodule("a1", HERE, 20)))
    assert (result.next.category, result.next.due_date, result.next.work_up) == ("4B", "", True)


def test_only_exams_of_an_earlier_day_are_priors_the_latest_first() -> None:
    results = followed(
        exam("old", "20180101"),
        exam("older", "20170101"),
        exam("same day", "20200101"),
        exam("now", "20200101"),
        exam("later", "20210101"),
        exam("undated", ""),
    )
    now = next(r for r in results if r.study.study_id == a_study("now").study_id)
    assert [(p.study_date, p.interval_days) for p in now.priors] == [
        ("20180101", 730),
        ("20170101", 1095),
    ]


def test_what_the_earlier_exam_does_not_show_is_not_new() -> None:
    then, now = exam("a", "20200101"), exam("b", "20210101", a_nodule("b1", HERE, 8))
    unseen = now.nodules[0].nodule_id
    pair = (then.study.study_id, now.study.study_id)
    _, result = fold([then, now], (), {pair: laid(then, now, unseen)}, RULES)
    assert outcomes(result) == ["NOT_EVALUABLE"]
    assert growths([result]) == ["NOT_EVALUABLE"]


def test_exams_that_could_not_be_laid_over_each_other_are_not_compared() -> None:
    then, now = (
        exam(n, d, a_nodule(n, HERE, 8)) for n, d in (("a", "20200101"), ("b", "20210101"))
    )
    _, result = fold([then, now], (), {}, RULES)
    assert list(result.priors) == []
    assert outcomes(result) == ["NOT_EVALUABLE"]


def test_a_nodule_that_is_gone_is_resolved_and_one_out_of_view_is_not() -> None:
    then = exam("a", "20200101", a_nodule("a1", HERE, 8), a_nodule("a2", THERE, 5))
    now = exam("b", "20210101")
    pair = (then.study.study_id, now.study.study_id)
    gone, hidden = (nodule.nodule_id for nodule in then.nodules)
    _, result = fold([then, now], (), {pair: laid(then, now, hidden)}, RULES)
    (prior,) = result.priors
    assert list(prior.resolved_nodule_ids) == [gone]
    assert list(prior.not_evaluable_nodule_ids) == [hidden]


def test_what_was_not_found_though_the_other_exam_shows_it_is_told() -> None:
    """Detection may have missed it: new and resolved stay as they are, a person is told."""
    then = exam("a", "20200101", a_nodule("a1", THERE, 5), a_nodule("a2", (20.0, 9.0, -80.0), 6))
    now = exam("b", "20210101", a_nodule("b1", HERE, 8), a_nodule("b2", (-50.0, 9.0, -90.0), 6))
    missed_now, gone = (nodule.nodule_id for nodule in then.nodules)
    missed_then, _ = (nodule.nodule_id for nodule in now.nodules)
    pair = (then.study.study_id, now.study.study_id)
    told = replace(laid(then, now), shown=frozenset({missed_now, missed_then}))
    _, result = fold([then, now], (), {pair: told}, RULES)
    assert outcomes(result) == ["NEW", "NEW"]
    assert [n.tracking.shown_earlier for n in result.nodules] == [True, False]
    (prior,) = result.priors
    assert list(prior.resolved_nodule_ids) == [missed_now, gone]
    assert list(prior.still_shown_nodule_ids) == [missed_now]


def pieces(*centers: float) -> list[Nodule]:
    return [
        a_nodule(f"p{number}", (HERE[0] + x, *HERE[1:]), 8, number=number)
        for number, x in enumerate(centers, 1)
    ]


def test_a_split_nodule_keeps_its_name_on_one_piece_and_none_is_new() -> None:
    whole = a_nodule("whole", HERE, 10.1)
    first, now = followed(exam("a", "20200101", whole), exam("b", "20210101", *pieces(-4, 4)))
    assert outcomes(now) == ["SPLIT", "SPLIT"]
    (uid,) = uids(first)
    assert uids(now).count(uid) == 1
    other = next(n for n in now.nodules if n.tracking.tracking_uid != uid)
    assert list(other.tracking.related_uids) == [uid]
    assert growths([now]) == ["NOT_EVALUABLE", "NOT_EVALUABLE"]


def test_a_merged_nodule_names_what_went_into_it() -> None:
    whole = a_nodule("whole", HERE, 10.1)
    first, now = followed(exam("a", "20200101", *pieces(-4, 4)), exam("b", "20210101", whole))
    assert outcomes(now) == ["MERGED"]
    tracking = now.nodules[0].tracking
    assert {tracking.tracking_uid, *tracking.related_uids} == set(uids(first))
    assert list(now.priors[0].resolved_nodule_ids) == []


def test_unlike_reconstructions_are_told() -> None:
    then, now = (
        exam(n, d, a_nodule(n, HERE, 8)) for n, d in (("a", "20200101"), ("b", "20210101"))
    )
    pair = (then.study.study_id, now.study.study_id)
    told: dict[tuple[str, str], Laying] = {pair: laid(then, now, warnings=["kernel"])}
    _, result = fold([then, now], (), told, RULES)
    assert list(result.priors[0].warnings) == ["kernel"]
    assert list(result.nodules[0].tracking.priors[0].warnings) == ["kernel"]


def test_a_link_wins_over_the_matching_and_so_does_an_unlink() -> None:
    then = exam("a", "20200101", a_nodule("a1", HERE, 8), a_nodule("a2", THERE, 8))
    now = exam("b", "20210101", a_nodule("b1", HERE, 8))
    exams = [then, now]
    a1, a2 = (
        a_correction("x", "CONFIRM", 1, then.study.study_id, nodule).nodule
        for nodule in then.nodules
    )

    def uid_after(*words: tuple[str, int, object]) -> str:
        said = [
            a_correction(f"{kind}{at}", kind, at, now.study.study_id, now.nodules[0], other=other)
            for kind, at, other in words
        ]
        results = fold(exams, said, layings(exams), RULES)
        first = uids(results[0])
        own = uids(results[1])[0]
        return {first[0]: "a1", first[1]: "a2"}.get(own, "own")

    assert uid_after() == "a1"
    assert uid_after(("LINK", 1, a2)) == "a2"
    assert uid_after(("UNLINK", 1, a1)) == "own"
    assert uid_after(("LINK", 1, a2), ("UNLINK", 2, a2)) == "a1"
    assert uid_after(("UNLINK", 1, a2), ("LINK", 2, a2)) == "a2"
    # Of two links of one nodule the later one counts.
    assert uid_after(("LINK", 2, a1), ("LINK", 1, a2)) == "a1"


def test_a_link_reaches_exams_that_are_not_compared_and_those_in_between() -> None:
    exams = [
        exam("a", "20180101", a_nodule("a1", THERE, 8)),
        *(exam(n, d, a_nodule(n, HERE, 8)) for n, d in (("b", "20190101"), ("c", "20200101"))),
        exam("d", "20210101", a_nodule("d1", HERE, 8)),
    ]
    oldest = a_correction("x", "CONFIRM", 1, exams[0].study.study_id, exams[0].nodules[0]).nodule
    link = a_correction(
        "link", "LINK", 1, exams[3].study.study_id, exams[3].nodules[0], other=oldest
    )
    results = fold(exams, [link], layings(exams), RULES)
    assert uids(results[3]) == uids(results[0])
    assert uids(results[1]) == uids(results[2]) != uids(results[0])
    assert [size.study_date for size in results[3].nodules[0].tracking.history] == ["20180101"]
    # What was taken for the nodule in between has no partner any more.
    assert len(results[3].priors[0].resolved_nodule_ids) == 1


def test_the_past_of_one_guideline_is_not_that_of_another() -> None:
    results = followed(
        exam("a", "20200101", a_nodule("a1", HERE, 9)),
        exam("b", "20200601", a_nodule("b1", HERE, 9)),
    )
    categories = {c.guideline.name: c.category for c in results[1].nodules[0].categories}
    assert categories == {"Lung-RADS": "3", "C-Lung-RADS": "2"}
