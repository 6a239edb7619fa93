"""The referee's rules, by vectors worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.referee.scoring import (
    RATES,
    Mark,
    Outcome,
    ScanScore,
    Truth,
    cpm_interval,
    froc,
    groups,
    resamples,
    score_scan,
    size_bin,
)


def at(x: float, score: float = 0.5, ignored: bool = False) -> Mark:
    return Mark((0.0, 0.0, x), score, ignored)


def nodule(x: float, mm: float = 6.0, counted: bool = True, kind: str = "solid") -> Truth:
    return Truth((0.0, 0.0, x), mm, kind, counted)


def found(*scores: float | None, false: tuple[float, ...] = (), mm: float = 6.0) -> ScanScore:
    return ScanScore(tuple(Outcome("solid", mm, score) for score in scores), false)


def test_a_mark_within_the_radius_hits_and_one_at_the_radius_does_not() -> None:
    inside = score_scan([nodule(0)], [at(2.999)])
    on_it = score_scan([nodule(0)], [at(3.0)])
    assert (inside.outcomes[0].score, inside.false) == (0.5, ())
    assert (on_it.outcomes[0].score, on_it.false) == (None, (0.5,))


def test_distance_is_in_all_three_axes() -> None:
    # 2² + 2² + 1² = 9: at the radius of 3 mm; each axis alone would be within.
    scan = score_scan([nodule(0)], [Mark((2.0, 2.0, 1.0), 0.5)])
    assert scan.outcomes[0].score is None


def test_the_best_of_several_marks_counts_once_and_the_others_not_at_all() -> None:
    scan = score_scan([nodule(0)], [at(0, 0.3), at(1, 0.9), at(2, 0.6)])
    assert [(one.score, one.mark) for one in scan.outcomes] == [(0.9, 1)]
    assert (scan.false, scan.doubles) == ((), 2)


def test_a_mark_on_an_excluded_finding_is_neither_right_nor_wrong() -> None:
    scan = score_scan([nodule(0, counted=False)], [at(1)])
    assert (scan.outcomes, scan.false, scan.ignored) == ((), (), 1)


def test_a_missed_excluded_finding_is_no_miss() -> None:
    scan = score_scan([nodule(0, counted=False), nodule(50)], [at(50)])
    assert [one.score for one in scan.outcomes] == [0.5]


def test_a_mark_on_a_nodule_hits_though_an_excluded_finding_lies_there_too() -> None:
    scan = score_scan([nodule(0, counted=False), nodule(1)], [at(0.5)])
    assert (scan.outcomes[0].score, scan.ignored) == (0.5, 0)


def test_an_excluded_finding_without_a_size_reaches_five_millimetres() -> None:
    unsized = nodule(0, mm=-1.0, counted=False)
    assert score_scan([unsized], [at(4.9)]).ignored == 1
    assert score_scan([unsized], [at(5.0)]).false == (0.5,)


def test_a_mark_in_two_overlapping_nodules_hits_both() -> None:
    scan = score_scan([nodule(0), nodule(2)], [at(1)])
    assert [one.score for one in scan.outcomes] == [0.5, 0.5]


def test_a_mark_in_an_ignored_region_is_not_false_but_still_hits_a_nodule() -> None:
    scan = score_scan([nodule(0)], [at(0, 0.7, ignored=True), at(99, 0.4, ignored=True)])
    assert (scan.outcomes[0].score, scan.false, scan.ignored) == (0.7, (), 1)


def test_froc_steps_at_each_distinct_score() -> None:
    # 2 scans, 4 nodules; hits .9 .7 .5, a miss; false .8 .5 (the .5s come together).
    curve = froc([found(0.9, 0.5, false=(0.8,)), found(0.7, None, false=(0.5,))])
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.5]
    assert curve.false_per_scan.tolist() == [0, 0, 0.5, 0.5, 1.0]
    assert curve.sensitivity.tolist() == [0, 0.25, 0.25, 0.5, 0.75]


def test_cpm_is_the_mean_of_seven_readings_along_the_line() -> None:
    curve = froc([found(0.9, 0.5, false=(0.8,)), found(0.7, None, false=(0.5,))])
    # Lines: (0, .25) to (.5, .25); at .5 it has risen to .5; (.5, .5) to (1, .75); then flat.
    assert curve.at().tolist() == [0.25, 0.25, 0.5, 0.75, 0.75, 0.75, 0.75]
    assert curve.cpm == pytest.approx(4.0 / 7)


def test_a_rate_between_two_false_positives_is_read_by_a_line() -> None:
    # (0, 0), (1, 0) for false .9, then (1, .5), then a false and a hit of one score: (2, 1).
    curve = froc([found(0.8, 0.4, false=(0.9, 0.4))])
    assert curve.at((0.5, 1.0, 1.5, 2.0, 8.0)).tolist() == [0, 0.5, 0.75, 1, 1]


def test_without_false_positives_every_rate_reads_the_whole_sensitivity() -> None:
    assert froc([found(0.9, None)]).at().tolist() == [0.5] * len(RATES)


def test_a_detector_that_finds_all_first_has_a_cpm_of_one_and_a_blind_one_of_zero() -> None:
    assert froc([found(0.9, 0.8, false=(0.1,) * 20)]).cpm == 1.0
    assert froc([found(None, None, false=(0.1,) * 20)]).cpm == 0.0


def test_a_scan_without_nodules_still_counts_as_a_scan() -> None:
    curve = froc([found(0.9, false=(0.5,)), found()])
    assert curve.false_per_scan.max() == 0.5


def test_sensitivity_is_unknown_without_a_nodule_and_no_scan_is_refused() -> None:
    assert np.isnan(froc([found(false=(0.5,))]).cpm)
    with pytest.raises(ValueError, match="at least one scan"):
        froc([])


def test_a_group_is_read_at_the_false_positives_of_the_whole() -> None:
    scan = ScanScore((Outcome("solid", 9.0, 0.9), Outcome("ground_glass", 5.0, 0.3)), (0.5,))
    glass = froc([scan], lambda outcome: outcome.kind == "ground_glass")
    # Found only after the false positive of .5: at 1 a scan and beyond; before, nothing.
    assert glass.at().tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_sizes_bin_from_below() -> None:
    assert [size_bin(mm) for mm in (2.9, 3.0, 4.0, 5.99, 6.0, 8.0, 80.0)] == [
        None,
        "3-4 mm",
        "4-6 mm",
        "4-6 mm",
        "6-8 mm",
        ">= 8 mm",
        ">= 8 mm",
    ]


def test_groups_list_all_each_kind_and_each_size_that_occur() -> None:
    scan = ScanScore((Outcome("solid", 9.0, 0.9), Outcome("ground_glass", 5.0, None)), ())
    table = {group.name: (group.findings, group.hit) for group in groups([scan], rounds=10)}
    assert table == {
        "all": (2, 1),
        "ground_glass": (1, 0),
        "solid": (1, 1),
        "4-6 mm": (1, 0),
        ">= 8 mm": (1, 1),
    }


def test_the_interval_of_alike_scans_has_no_width() -> None:
    scans = [found(0.9, None, false=(0.1,))] * 5
    span = cpm_interval(scans, rounds=50)
    assert (span.low, span.value, span.high) == (0.5, 0.5, 0.5)


def test_the_interval_covers_what_two_scans_can_give_when_drawn_again() -> None:
    # One scan all found, one all missed: a draw is 1, 0.5 or 0, with chances 1/4, 1/2, 1/4.
    span = cpm_interval([found(0.9), found(None)], rounds=400)
    assert (span.low, span.value, span.high) == (0.0, 0.5, 1.0)


def test_rounds_without_such_a_nodule_are_left_out_of_the_interval() -> None:
    scans = [found(0.9, mm=9.0), found(0.9, mm=5.0)]
    span = cpm_interval(scans, lambda outcome: outcome.diameter_mm > 8, rounds=50)
    assert (span.low, span.high) == (1.0, 1.0)


def test_the_same_seed_draws_the_same_scans() -> None:
    assert (resamples(7, 20) == resamples(7, 20)).all()
    assert (resamples(7, 20) != resamples(7, 20, seed=1)).any()
