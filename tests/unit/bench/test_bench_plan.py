"""The model of the mesh: queues whose answer is known, the rules of the real lanes, lost pods."""

from __future__ import annotations

import numpy as np
import pytest

from bench.plan.draws import arrivals, day_profile, lanes, read_sizes
from bench.plan.model import Mesh, StageShape, Steps, Study
from bench.plan.region import Autoscaler, Scaling, lost_zone

ONE = StageShape("work", None, pods=1, partitions=1)


def study(key: str, arrival: float, lane: str = "routine", **seconds: float) -> Study:
    return Study(key, arrival, lane, seconds)


def ends(mesh: Mesh, studies: list[Study]) -> dict[str, dict[str, float]]:
    return {one.key: found for one, found in mesh.run(studies)}


def test_one_place_takes_one_after_the_other() -> None:
    found = ends(Mesh([ONE], 0.5), [study(name, 0, work=2) for name in "abc"])
    assert sorted(one["work"] for one in found.values()) == [2.5, 4.5, 6.5]


def test_a_study_goes_from_stage_to_stage_and_branches_run_side_by_side() -> None:
    line = [ONE, StageShape("report", "work", 1), StageShape("team", "work", 1)]
    (found,) = ends(Mesh(line, 1.0), [study("a", 10, work=2, report=3, team=30)]).values()
    assert found == {"work": 13.0, "report": 17.0, "team": 44.0}


def test_stat_overtakes_what_waits_and_not_what_runs() -> None:
    backlog = [study(f"b{n}", 0, "backfill", work=10) for n in range(50)]
    found = ends(Mesh([ONE], 0), [*backlog, study("urgent", 1, "stat", work=2)])
    assert found["urgent"]["work"] == 12.0
    assert max(one["work"] for one in found.values()) == 502.0


def test_random_arrivals_wait_as_queueing_theory_says() -> None:
    """M/D/1, two thirds busy: the mean wait is rho / (2 (1 - rho)) of a service."""
    rng = np.random.default_rng(1)
    at = np.cumsum(rng.exponential(1.5, 40_000))
    studies = [study(str(n), float(t), work=1) for n, t in enumerate(at)]
    found = ends(Mesh([ONE], 0), studies)
    waits = [found[one.key]["work"] - one.arrival - 1 for one in studies]
    rho = 1 / 1.5
    assert np.mean(waits) == pytest.approx(rho / (2 * (1 - rho)), rel=0.05)


def test_pods_beyond_the_partitions_get_no_work() -> None:
    def last(pods: int) -> float:
        shape = StageShape("work", None, pods=pods, partitions=2)
        found = ends(Mesh([shape], 0), [study(str(n), 0, work=1) for n in range(40)])
        return max(one["work"] for one in found.values())

    assert last(1) == 40
    assert last(2) == last(8) < 40


def test_what_a_lost_pod_had_comes_again_and_every_study_ends_once() -> None:
    shape = StageShape("work", None, pods=3, partitions=12)
    mesh = Mesh([shape], 0)
    studies = [study(str(n), n / 10, work=1) for n in range(100)]
    mesh.env.process(lost_zone(at=2.5, back_after=5, noticed_after=1)(mesh))
    found = mesh.run(studies)
    assert sorted(one.key for one, _ in found) == sorted(one.key for one in studies)
    assert len(mesh.stations["work"].pods) == 3


def test_a_backlog_brings_pods_and_calm_lets_them_go() -> None:
    shape = StageShape("work", None, pods=1, partitions=40)
    mesh = Mesh([shape], 0)
    scaling = Scaling(least=1, most=8, lag_a_pod=1, poll=1, start=5, cool_down=10)
    mesh.env.process(Autoscaler("work", scaling, until=500)(mesh))
    seen: list[int] = []

    def look() -> Steps:
        while mesh.env.now < 500:
            seen.append(len(mesh.stations["work"].pods))
            yield mesh.env.timeout(1)

    mesh.env.process(look())
    mesh.run([study(str(n), 0, work=4) for n in range(60)])
    assert max(seen) == 8
    assert seen[0] == seen[-1] == 1


def test_a_days_arrivals_keep_the_mean_and_the_peak() -> None:
    profile = day_profile(3.0)
    assert profile.mean() == pytest.approx(1)
    assert profile.max() == 3.0
    at = arrivals(np.random.default_rng(0), 24_000, profile, range(24))
    assert len(at) == pytest.approx(24_000, rel=0.02)
    assert np.sum((at >= 9 * 3600) & (at < 10 * 3600)) == pytest.approx(3000, rel=0.06)
    with pytest.raises(ValueError, match="peak"):
        day_profile(6.0)


def test_sizes_are_those_of_the_table() -> None:
    sizes = read_sizes()
    assert sizes.at("instances", np.array([0.5]))[0] == 263
    assert np.all(np.diff(sizes.at("megabytes", np.linspace(0, 1, 50))) >= 0)


def test_lanes_come_in_their_shares() -> None:
    drawn = lanes(np.random.default_rng(0), 10_000, (0.05, 0.8, 0.15))
    assert drawn.count("stat") == pytest.approx(500, rel=0.15)
    assert drawn.count("backfill") == pytest.approx(1500, rel=0.1)
