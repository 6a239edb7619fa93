"""One nodule through several exams: its identity, its growth, its category."""

from __future__ import annotations

from collections.abc import Sequence

from lungmesh.followup.matching import Pair
from lungmesh.followup.stage import priors_of
from lungmesh.followup.tracker import Comparison, track
from lungmesh.v1 import nodule_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.nodule_pb2 import Category, Nodule
from tests.support.nodules import a_nodule, a_study, an_assessed_exam

HERE, THERE = (50.0, 80.0, -110.0), (-60.0, 20.0, -60.0)


def beside(
    earlier: FollowupUpdated, days: float, now: Sequence[Nodule], *pairs: tuple[int, int]
) -> Comparison:
    """A comparison in which nodules are paired by their places in the two lists."""
    found = tuple(
        Pair(earlier.nodules[then].nodule_id, now[current].nodule_id, 1.0)
        for then, current in pairs
    )
    return Comparison(earlier, days, None, 0.9, found, ())


def first(name: str, date: str, *nodules: Nodule) -> FollowupUpdated:
    return track(an_assessed_exam(a_study(name), nodules, date=date), [], [], dated=True)


def lung_rads(categories: Sequence[Category]) -> Category:
    return next(c for c in categories if c.guideline.name == "Lung-RADS")


def test_a_nodule_keeps_its_tracking_uid_and_another_gets_its_own() -> None:
    earlier = first("a", "20200101", a_nodule("a1", HERE, 8))
    now = [a_nodule("b1", HERE, 8), a_nodule("b2", THERE, 5)]
    comparison = beside(earlier, 90, now, (0, 0))
    updated = track(an_assessed_exam(a_study("b"), now), [comparison], [(90, earlier)], True)
    same, new = updated.nodules
    assert same.tracking.tracking_uid == earlier.nodules[0].tracking.tracking_uid
    assert new.tracking.tracking_uid != same.tracking.tracking_uid
    assert [n.tracking.growth for n in updated.nodules] == [
        nodule_pb2.GROWTH_CLASS_STABLE,
        nodule_pb2.GROWTH_CLASS_NEW,
    ]


def test_two_nodules_of_an_exam_never_share_a_tracking_uid() -> None:
    oldest = first("a", "20190101", a_nodule("a1", HERE, 8))
    one = a_nodule("b1", HERE, 8)
    middle = track(
        an_assessed_exam(a_study("b"), [one]),
        [beside(oldest, 365, [one], (0, 0))],
        [(365, oldest)],
        True,
    )
    # The middle exam says that c1 is the nodule; the oldest one, laid over less well, says c2.
    now = [a_nodule("c1", HERE, 8), a_nodule("c2", (58.0, 80.0, -110.0), 8)]
    comparisons = [beside(middle, 365, now, (0, 0)), beside(oldest, 730, now, (0, 1))]
    history = [(365.0, middle), (730.0, oldest)]
    c1, c2 = track(an_assessed_exam(a_study("c"), now), comparisons, history, True).nodules
    assert c1.tracking.tracking_uid == oldest.nodules[0].tracking.tracking_uid
    assert c2.tracking.tracking_uid != c1.tracking.tracking_uid
    assert c2.tracking.growth == nodule_pb2.GROWTH_CLASS_NEW


def test_slow_growth_is_seen_over_more_exams_than_are_compared() -> None:
    history: list[tuple[float, FollowupUpdated]] = []
    grown = []
    for year, mm in enumerate((6.0, 6.5, 7.0, 7.6)):
        now = [a_nodule(f"n{year}", HERE, mm)]
        comparisons = [beside(exam, days, now, (0, 0)) for days, exam in history[:1]]
        updated = track(an_assessed_exam(a_study(f"s{year}"), now), comparisons, history, True)
        grown.append(updated.nodules[0].tracking.growth)
        history = [(365.0, updated), *((days + 365, exam) for days, exam in history)]
    # Each year half a millimetre, and 1.6 mm in three.
    assert grown == [
        nodule_pb2.GROWTH_CLASS_BASELINE,
        nodule_pb2.GROWTH_CLASS_STABLE,
        nodule_pb2.GROWTH_CLASS_STABLE,
        nodule_pb2.GROWTH_CLASS_SLOWLY_GROWING,
    ]


def test_a_nodule_of_4a_steps_down_twice_and_each_time_only_when_it_is_due() -> None:
    history: list[tuple[float, FollowupUpdated]] = []
    given = []
    for visit, days_since in enumerate((0, 30, 60, 90, 95)):
        now = [a_nodule(f"n{visit}", HERE, 9)]
        history = [(days + days_since, exam) for days, exam in history]
        comparisons = [beside(exam, days, now, (0, 0)) for days, exam in history[:2]]
        updated = track(an_assessed_exam(a_study(f"s{visit}"), now), comparisons, history, True)
        given.append(lung_rads(updated.nodules[0].categories).category)
        history = [(0.0, updated), *history]
    # Days 0, 30, 90, 180, 275: 4A until 3 months, then 3 for 6 months.
    assert given == ["4A", "4A", "3", "3", "2"]


def test_a_ground_glass_mass_that_doubled_within_a_year_is_4x() -> None:
    glass = nodule_pb2.NODULE_TYPE_NON_SOLID
    earlier = first("a", "20200101", a_nodule("a1", HERE, 26, glass))
    assert lung_rads(earlier.nodules[0].categories).category == "2"
    now = [a_nodule("b1", HERE, 33, glass)]
    for days, category in ((300.0, "4X"), (500.0, "3")):
        comparisons = [beside(earlier, days, now, (0, 0))]
        updated = track(an_assessed_exam(a_study("b"), now), comparisons, [(days, earlier)], True)
        assert lung_rads(updated.nodules[0].categories).category == category


def test_where_exams_cannot_be_put_in_order_the_category_asks_for_a_prior() -> None:
    event = an_assessed_exam(a_study("a"), [a_nodule("a1", HERE, 7)])
    updated = track(event, [], [], dated=False)
    assert updated.nodules[0].tracking.growth == nodule_pb2.GROWTH_CLASS_NOT_EVALUABLE
    category = lung_rads(updated.exam_categories)
    assert (category.category, list(category.needs)) == ("3", ["prior_ct"])


def test_an_exam_names_what_is_needed_for_a_nodule_that_has_no_category() -> None:
    airway = a_nodule("a2", THERE, 9, nodule_pb2.NODULE_TYPE_AIRWAY)
    updated = first("a", "20200101", a_nodule("a1", HERE, 5), airway)
    category = lung_rads(updated.exam_categories)
    assert (category.category, list(category.needs)) == ("2", ["airway"])


def test_an_exam_without_nodules_is_category_1() -> None:
    assert lung_rads(first("a", "20200101").exam_categories).category == "1"


def test_only_exams_of_an_earlier_day_are_priors_the_latest_first() -> None:
    exams = {
        name: first(name, date)
        for name, date in (
            ("old", "20180101"),
            ("older", "20170101"),
            ("same day", "20200101"),
            ("later", "20210101"),
            ("undated", ""),
        )
    }
    event = an_assessed_exam(a_study("now"), [], date="20200101")
    priors, dated = priors_of(event, list(exams.values()))
    assert [exam for _, exam in priors] == [exams["old"], exams["older"]]
    assert [days for days, _ in priors] == [730, 1095]
    assert dated
    assert priors_of(event, [exams["undated"]]) == ([], False)
    assert priors_of(event, []) == ([], True)
