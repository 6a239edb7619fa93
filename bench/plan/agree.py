"""Does the model say what the mesh does? The same studies through both, at three loads.

The mesh here is the real chassis on the real broker, with stages that sleep (`sleepers`): arrivals
by Poisson, seconds by the sizes of real CT. Or, with a record of `bench.load`, the whole real mesh.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.mesh_hop import broker
from bench.plan.draws import lanes, read_sizes
from bench.plan.model import Mesh, StageShape, Study
from lungmesh.mesh import envelope
from lungmesh.mesh.bus.port import Record
from lungmesh.mesh.contract import LANES
from lungmesh.mesh.ids import deterministic_id
from lungmesh.v1.events_pb2 import STAGE_STATE_DONE, StageProgress
from lungmesh.v1.study_pb2 import Priority
from tests.support.chassis import ServiceProcess, Tap, study_received, tap, until

LOADS = (0.3, 0.6, 0.85)
WITHIN = 0.15
PARTITIONS = 4
SHAPES = (
    StageShape("first", None, pods=1, places=2, partitions=PARTITIONS),
    StageShape("second", "first", pods=1, places=1, partitions=PARTITIONS),
)
# Stat, routine, backfill.
SHARES = (0.1, 0.7, 0.2)
# Mean seconds in the slower stage, and of the first over it.
SECOND_SECONDS, FIRST_SHARE = 0.5, 0.6
BACKLOG, STAT_LIMIT = 200, 1.5
PRIORITIES = {lane: Priority.Value(f"PRIORITY_{lane.upper()}") for lane in LANES}


@dataclass(frozen=True)
class Compared:
    """Turnarounds of the same studies, seconds, by the mesh and by the model."""

    load: float
    lane: Sequence[str]
    real: Sequence[float]
    model: Sequence[float]

    def ratio(self, lane: str | None = None) -> float:
        """Return the model's mean turnaround over the mesh's, of a lane or of all."""
        chosen = [lane in (None, name) for name in self.lane]
        return float(np.mean(np.array(self.model)[chosen]) / np.mean(np.array(self.real)[chosen]))

    def high_ratio(self) -> float:
        """Return the same of the 95th percentiles of all."""
        return float(np.percentile(self.model, 95) / np.percentile(self.real, 95))


def draw(load: float, count: int, seed: int) -> list[Study]:
    """Return studies that keep the slower stage busy for the share `load` of the time."""
    rng = np.random.default_rng(seed)
    size = read_sizes().at("largest_series", rng.random(count))
    seconds = SECOND_SECONDS * size / size.mean()
    arrival = np.cumsum(rng.exponential(SECOND_SECONDS / load, count))
    return [
        Study(
            key=f"patient-{seed}-{number}",
            arrival=float(arrival[number]),
            lane=lane,
            seconds={"first": FIRST_SHARE * seconds[number], "second": seconds[number]},
        )
        for number, lane in enumerate(lanes(rng, count, SHARES))
    ]


async def through_the_mesh(line: Tap, studies: Sequence[Study]) -> list[float]:
    """Send studies at their times and return their turnarounds, seconds."""
    sent: list[str] = []
    at: list[float] = []
    began = time.time()
    for study in studies:
        await asyncio.sleep(max(0.0, began + study.arrival - time.time()))
        patient = deterministic_id("patient", study.key)
        event = study_received(order(study.seconds), patient, PRIORITIES[study.lane])
        sent.append(event.study.study_id)
        at.append(time.time())
        await line.publish(event)
    limit = 60 + 3 * sum(study.seconds["second"] for study in studies)
    found: dict[str, float] = {}
    read = 0

    def all_through() -> bool:
        nonlocal read
        records = line.records[read:]
        read += len(records)
        found.update(ends(records))
        return found.keys() >= set(sent)

    await until(all_through, limit, "all studies are through")
    return [found[name] - then for name, then in zip(sent, at, strict=True)]


def order(seconds: Mapping[str, float]) -> str:
    """Return what tells the stages that sleep how long."""
    return f"{seconds['first']:.4f} {seconds['second']:.4f}"


def ends(records: Sequence[Record]) -> dict[str, float]:
    """Return when the last stage was done, by study."""
    found: dict[str, float] = {}
    for record in records:
        told = StageProgress.FromString(record.value)
        if told.stage == SHAPES[-1].name and told.state == STAGE_STATE_DONE:
            found[told.study.study_id] = told.at.ToNanoseconds() / 1e9
    return found


def through_the_model(
    shapes: Sequence[StageShape], studies: Sequence[Study], hop_seconds: float, last: str
) -> list[float]:
    """Return the turnarounds to the end of the last stage that the model gives, seconds."""
    done = {study.key: ends[last] for study, ends in Mesh(shapes, hop_seconds).run(studies)}
    return [done[study.key] - study.arrival for study in studies]


@dataclass(frozen=True)
class Agreement:
    """What was found on the real chassis.

    Attributes
    ----------
    hop
        Seconds of one hop at idle.
    urgent, allowed
        Seconds of a stat study that came into a backlog, and the most that it may take.
    """

    hop: float
    loads: Sequence[Compared]
    urgent: float
    allowed: float


async def compare(count: int) -> Agreement:
    """Measure one hop at idle, run all loads, then send a stat study into a backlog."""
    topics = [envelope.topic(StageProgress, lane) for lane in LANES]
    with broker() as running, tempfile.TemporaryDirectory() as folder:
        service = ServiceProcess("bench.plan.sleepers", "sleepers", Path(folder), running.bootstrap)
        async with tap(running.bootstrap, *topics) as line:
            await service.start(120)
            try:
                hop = await idle_hop(line)
                found = []
                for seed, load in enumerate(LOADS):
                    studies = draw(load, count, seed)
                    real = await through_the_mesh(line, studies)
                    model = through_the_model(SHAPES, studies, hop, SHAPES[-1].name)
                    found.append(Compared(load, [study.lane for study in studies], real, model))
                urgent, allowed = await into_a_backlog(line, hop)
            finally:
                service.kill()
    return Agreement(hop, found, urgent, allowed)


async def idle_hop(line: Tap) -> float:
    """Return the seconds between two stages when nothing waits: the median of some studies."""
    each = {"first": 0.05, "second": 0.05}
    # The first meets caches that are cold.
    studies = [Study(f"idle-{number}", 0.5 * number, "routine", each) for number in range(13)]
    real = await through_the_mesh(line, studies)
    return (float(np.median(real[1:])) - sum(each.values())) / len(SHAPES)


async def into_a_backlog(line: Tap, hop_seconds: float) -> tuple[float, float]:
    """Send a stat study into a backlog of even backfill; return its seconds and the most allowed.

    Allowed is `STAT_LIMIT` times its time in an idle mesh and the tasks that run when it comes.
    """
    each = {"first": FIRST_SHARE * SECOND_SECONDS, "second": SECOND_SECONDS}
    backlog, backfill = order(each), PRIORITIES["backfill"]
    patients = (deterministic_id("patient", "backlog", number) for number in range(BACKLOG))
    await line.publish(*(study_received(backlog, one, backfill) for one in patients))
    # By now both stages are at work and the rest waits.
    await asyncio.sleep(4 * SECOND_SECONDS)
    (found,) = await through_the_mesh(line, [Study("urgent", 0.0, "stat", each)])
    alone = sum(each.values()) + len(SHAPES) * hop_seconds
    return found, STAT_LIMIT * alone + sum(each.values())


def show_agreement(found: Agreement) -> bool:
    """Print what was found; return whether the model agrees and stat is as quick as it must be."""
    print(f"one hop at idle: {1000 * found.hop:.0f} ms")
    agreed = show(found.loads)
    print(
        f"a stat study into a backlog of {BACKLOG}: {found.urgent:.2f} s; allowed "
        f"{found.allowed:.2f} s ({STAT_LIMIT} x alone, and the running tasks)"
    )
    return agreed and found.urgent <= found.allowed


def show(found: Sequence[Compared]) -> bool:
    """Print the ratios; return whether all mean turnarounds agree."""
    print(f"{'load':>5}{'mesh, s':>9}{'model, s':>10}{'ratio':>7}{'p95':>6}   " + "  ".join(LANES))
    for one in found:
        by_lane = "  ".join(f"{one.ratio(lane):.2f}" for lane in LANES if lane in one.lane)
        print(
            f"{one.load:>5.2f}{np.mean(one.real):>9.2f}{np.mean(one.model):>10.2f}"
            f"{one.ratio():>7.2f}{one.high_ratio():>6.2f}   {by_lane}"
        )
    return all(abs(one.ratio() - 1) <= WITHIN for one in found)


def from_load(path: Path) -> Compared:
    """Compare a record of `bench.load` with the model fed by the handler seconds in it."""
    record = json.loads(path.read_text())
    shapes = [StageShape(**shape) for shape in record["shapes"]]
    studies = [
        Study(row["study"], row["arrival"], row["lane"], row["handler_seconds"])
        for row in record["studies"]
    ]
    return Compared(
        load=record["load"],
        lane=[study.lane for study in studies],
        real=[row["turnaround"] for row in record["studies"]],
        model=through_the_model(shapes, studies, record["hop_seconds"], record["last_stage"]),
    )
