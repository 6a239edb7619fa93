"""Capacity of a region: what hardware, how long a study takes, what it costs, what gives way first.

    python -m bench.plan [--agree 150] [--load RECORD ...] [--out out/plan]

Prints the tables and writes plots. With `--agree` the model is first held against the real chassis
at three loads; with `--load` against records of `python -m bench.load`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.plan import agree, plots
from bench.plan.draws import read_sizes
from bench.plan.region import (
    Autoscaler,
    Outcome,
    Region,
    Scaling,
    draw,
    lost_zone,
    mean_seconds,
    pods_for,
    read_costs,
    run,
    shapes,
    stages,
    steady,
)
from lungmesh.mesh.contract import LANES

BUSY = 0.6
GOALS = {"routine": 600.0, "stat": 120.0}
NODES = (1, 10, 100, 1000)
DAY = tuple(range(24))
LAST = "report"


def main() -> int:
    """Print every table; return 1 where the model disagrees with the mesh."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--agree", type=int, default=0, metavar="STUDIES")
    parser.add_argument("--load", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("out/plan"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    agreed = True
    if options.agree:
        print("model / mesh, stages that sleep on the real chassis")
        agreed = agree.show_agreement(asyncio.run(agree.compare(options.agree)))
    for record in options.load:
        print(f"model / mesh, {record}")
        compared = agree.from_load(record)
        agreed &= agree.show([compared])
    costs = read_costs()
    region = Region()
    print(
        f"\n{region.hospitals} hospitals, {region.a_day:,.0f} CT a day, peak {region.peak:g} x; "
        f"stage seconds: {costs['machine']}, {costs['date']}"
    )
    show_plan(region, costs, options.out)
    show_gpus(region, costs)
    show_growth(costs, options.out)
    show_singles(costs, region)
    return int(not agreed)


def show_plan(region: Region, costs: Mapping[str, Any], out: Path) -> None:
    """Print pods, turnaround and money without a GPU, as measured, and what disturbs it."""
    cost, after = stages(costs, None)
    pods = {stage: pods_for(region.peak_rate, one, BUSY) for stage, one in cost.items()}
    studies = draw(region, cost, seed=1)
    deployed = shapes(after, pods)
    hop = costs["hop_seconds"]
    calm = run(studies, deployed, hop, LAST)
    print(f"\nno GPU, as measured; {BUSY:.0%} busy in the busiest hour")
    print("  pods of 2 cores: " + ", ".join(f"{stage} {count}" for stage, count in pods.items()))
    row("always there", calm, money(costs, pods, None) / region.a_day)
    lost = run(studies, deployed, hop, LAST, lost_zone(2.5 * 3600, 600, 45))
    row("a zone lost at the peak", lost)
    day = draw(region, cost, seed=2, hours=DAY)
    most = {**pods, "detection": 2 * pods["detection"]}
    few = {**pods, "detection": max(2, pods["detection"] // 8)}
    for start, lag in ((300.0, 1.0), (300.0, 3.0), (60.0, 1.0)):
        scaling = Scaling(few["detection"], most["detection"], lag_a_pod=lag, start=start)
        keda = Autoscaler("detection", scaling, day[-1].arrival)
        scaled = run(day, shapes(after, few, most), hop, LAST, keda)
        hours = {stage: count / 24 for stage, count in scaled.pod_hours.items()}
        name = f"KEDA, {lag:g} unfinished a pod, {start:.0f} s to start"
        row(name, scaled, money(costs, hours, None) / region.a_day)
    plots.day(out / "day.png", "A region without a GPU", calm, GOALS)


def show_gpus(region: Region, costs: Mapping[str, Any]) -> None:
    """Print the same with detection on GPU nodes, by the seconds that a CT takes there."""
    budget = costs["gpu_seconds"]["seconds"]
    print(f"\ndetection on GPU nodes, by seconds a CT: assumed, the design allows {budget}")
    for seconds in (2, 10, 20, 40, budget):
        cost, after = stages(costs, seconds)
        pods = {stage: pods_for(region.peak_rate, one, BUSY) for stage, one in cost.items()}
        found = run(draw(region, cost, seed=1), shapes(after, pods), costs["hop_seconds"], LAST)
        name = f"{seconds} s: {pods['detection']} GPU nodes"
        row(name, found, money(costs, pods, seconds) / region.a_day)


def money(costs: Mapping[str, Any], pods: Mapping[str, float], gpu: float | None) -> float:
    """Return what pods cost a day, USD."""
    price: Mapping[str, float] = costs["prices"]
    on_gpu = "detection" if gpu is not None else None
    hourly = {
        stage: price["gpu_node_hour" if stage == on_gpu else "cpu_pod_hour"] for stage in pods
    }
    return sum(24 * pods[stage] * hourly[stage] for stage in pods)


def row(name: str, found: Outcome, dollars: float | None = None) -> None:
    """Print the 95th percentile of each lane, whether the goals hold, and computing's price."""
    lanes = "  ".join(f"{lane} {found.high(lane):6.0f} s" for lane in LANES)
    kept = all(found.high(lane) < goal for lane, goal in GOALS.items())
    price = "" if dollars is None else f"  {dollars:.4f} USD a CT"
    print(f"  {name:<42} 95 %: {lanes}  {'goals kept' if kept else 'MISSED'}{price}")


def show_growth(costs: Mapping[str, Any], out: Path) -> None:
    """Print throughput and turnaround from one GPU node to a thousand."""
    cost, after = stages(costs, costs["gpu_seconds"]["seconds"])
    print(f"\ngrowth, GPU nodes {BUSY:.0%} busy for an hour, all else in proportion")
    print(f"{'nodes':>7}{'CT an hour':>12}{'a node':>8}{'routine 95 %':>14}{'stat 95 %':>11}")
    found = []
    for nodes in NODES:
        rate = nodes * BUSY / mean_seconds(cost["detection"])
        pods = {stage: pods_for(rate, one, BUSY, least=1) for stage, one in cost.items()}
        pods["detection"] = nodes
        hours = 4 if nodes < 10 else 1
        studies = steady(rate, cost, seed=3, seconds=3600 * hours)
        outcome = run(studies, shapes(after, pods), costs["hop_seconds"], LAST)
        done = len(studies) / hours
        found.append((nodes, done, outcome.high("routine")))
        print(
            f"{nodes:>7}{done:>12.0f}{done / nodes:>8.1f}"
            f"{outcome.high('routine'):>12.0f} s{outcome.high('stat'):>9.0f} s"
        )
    plots.growth(out / "growth.png", found)


def show_singles(costs: Mapping[str, Any], region: Region) -> None:
    """Print at what rate each part that stands alone is full; the lowest gives way first."""
    megabytes = read_sizes().mean("megabytes")
    rows = []
    for single in costs["singles"]:
        each = megabytes if single["per_ct"] == "megabytes" else single["per_ct"]
        rows.append((single["a_second"] / each, single))
    rows.sort(key=lambda item: item[0])
    print(f"\nparts that stand alone; the region's peak is {region.peak_rate:.2f} CT/s")
    for full, single in rows:
        print(f"  {single['name']:<68} full at {full:7.1f} CT/s; then: {single['more']}")
    print(f"first bottleneck: {rows[0][1]['name']}")


if __name__ == "__main__":
    sys.exit(main())
