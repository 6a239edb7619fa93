"""What the chassis costs an event: a stage that does nothing, alone in its process.

    python bench/chassis.py [--events 8000] [--stage quiet]

The events lie in the broker before the process starts, so nobody but broker and process is at work;
its object store is a folder in memory, where the machine has one, so that no disk is measured.
Prints events/s, processor time of the process per event, and where the interpreter's time goes
(py-spy, in a second run, by part of the chassis). Every event must have given one output.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.mesh_hop import broker, publish
from lungmesh.mesh.bus.kafka_admin import BrokerAdmin
from lungmesh.mesh.settings import KafkaSettings
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, metric, until

IN, OUT = "study.received.routine", "report.delivered.routine"
GOAL = 1500
LIMIT_SECONDS = 300.0
# The first events meet cold caches and a process that is still joining.
WARM_UP = 0.2
RATE = 250
MEMORY = Path("/dev/shm")

# A stack belongs to the first of these that names one of its frames, from the innermost outwards.
PARTS = (
    ("results: known? keep", ("mesh/blobs.py", "mesh/results.py", "mesh/db.py", "sqlalchemy")),
    ("produce", ("kafka/producer", "bus/kafka.py", "bus/patience.py")),
    ("consume, commit", ("kafka/consumer", "kafka/coordinator", "bus/kafka_consumer.py")),
    ("sockets", ("kafka/net", "kafka/conn", "selectors.py", "kafka/protocol")),
    ("envelope, rules", ("mesh/envelope.py", "mesh/contract.py")),
    ("traces", ("opentelemetry",)),
    ("metrics", ("prometheus_client",)),
    ("runner, handler", ("mesh/runner.py", "mesh/handling.py", "mesh/lanes.py", "mesh/stage.py")),
    ("event loop, threads", ("asyncio", "threading.py", "concurrent")),
)


@dataclass(frozen=True)
class Cost:
    """What a flood cost: events, wall seconds and processor seconds of the process."""

    events: int
    wall: float
    processor: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.wall

    @property
    def microseconds(self) -> float:
        """Processor time of the process for one event, microseconds."""
        return 1e6 * self.processor / self.events


@contextmanager
def flooded(events: int) -> Iterator[Broker]:
    """Run a broker that holds so many new studies."""
    with broker() as running:
        settings = KafkaSettings(bootstrap=running.bootstrap)
        admin = BrokerAdmin(settings, {"bootstrap_servers": running.bootstrap})
        admin.ensure([IN, OUT])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=running.bootstrap, acks="all")
        publish(producer, None, events)
        producer.close()
        yield running


async def drained(service: ServiceProcess, events: int) -> Cost:
    """Follow a service through a flood and return what all but its beginning cost."""
    await service.start()
    process = psutil.Process(service.pid)

    async def handled() -> int:
        return int(await metric(service, "lungmesh_events_total"))

    async def at_least(count: int) -> tuple[int, float, float]:
        limit = time.monotonic() + LIMIT_SECONDS
        while (seen := await handled()) < count:
            assert time.monotonic() < limit, f"{seen} of {count} events after {LIMIT_SECONDS} s"
            await asyncio.sleep(0.1)
        times = process.cpu_times()
        return seen, time.perf_counter(), times.user + times.system

    first, began, spent = await at_least(int(WARM_UP * events))
    last, ended, spent_all = await at_least(events)
    return Cost(last - first, ended - began, spent_all - spent)


def folder_in_memory() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is removed at the block's end."""
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)


def outputs(bootstrap: str) -> Counter[str]:
    """Count the records of the output topic by the id of their event."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    consumer.assign([TopicPartition(OUT, n) for n in range(KafkaSettings().partitions)])
    found: Counter[str] = Counter()
    # The embedded broker's end offsets lag behind, so the topic is read until it is silent.
    while batches := consumer.poll(timeout_ms=1000):
        for batch in batches.values():
            found.update(dict(record.headers)["ce_id"].decode() for record in batch)
    consumer.close(autocommit=False)
    return found


async def cost(stage: str, events: int) -> Cost:
    """Measure one flood."""
    with flooded(events) as running, folder_in_memory() as folder:
        service = ServiceProcess(
            "tests.integration.mesh.toy", stage, Path(folder), running.bootstrap
        )
        try:
            found = await drained(service, events)
        finally:
            service.kill()
        given = outputs(running.bootstrap)
        assert len(given) == given.total() == events, f"{given.total()} outputs of {len(given)} ids"
    return found


async def profile(stage: str, events: int) -> Counter[str]:
    """Return samples by part of the chassis, of the thread that holds the interpreter."""
    with flooded(events) as running, folder_in_memory() as folder:
        service = ServiceProcess(
            "tests.integration.mesh.toy", stage, Path(folder), running.bootstrap
        )
        raw = Path(folder) / "stacks"
        try:
            await service.start()
            recorder = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name("py-spy")),
                *("record", "--gil", "--format", "raw", "--full-filenames", "--rate", str(RATE)),
                *("--output", str(raw), "--pid", str(service.pid)),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            await drained_already(service, events)
            recorder.send_signal(2)
            await recorder.wait()
        finally:
            service.kill()
        return by_part(raw.read_text().splitlines())


async def drained_already(service: ServiceProcess, events: int) -> None:
    """Return once the flood has passed."""

    async def passed() -> bool:
        try:
            return await metric(service, "lungmesh_events_total") >= events
        except httpx.HTTPError:  # the recorder stops the process to look at it
            return False

    await until(passed, LIMIT_SECONDS, "the flood has passed")


def by_part(stacks: Sequence[str]) -> Counter[str]:
    """Share py-spy's raw stacks (`frame;frame;… count`) out over the parts of the chassis."""
    found: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        found[part_of(stack.split(";"))] += int(count)
    return found


def part_of(frames: Sequence[str]) -> str:
    """Name the part that a stack, outermost frame first, is at work for."""
    for frame in reversed(frames):
        for part, marks in PARTS:
            if any(mark in frame for mark in marks):
                return part
    return "other"


def main() -> int:
    """Print cost and profile; return 1 below the goal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=8000)
    parser.add_argument("--stage", default="quiet", choices=("quiet", "silent"))
    options = parser.parse_args()
    found = asyncio.run(cost(options.stage, options.events))
    print(f"{found.events} events: {found.rate:.0f} events/s (goal {GOAL})")
    print(f"processor time: {found.microseconds:.0f} µs an event,", end=" ")
    print(f"which is {1e6 / found.microseconds:.0f} events/s of a core")
    print("the interpreter's time:")
    parts = asyncio.run(profile(options.stage, options.events))
    whole = parts.total()
    for part, count in parts.most_common():
        print(f"  {part:<22}{100 * count / whole:5.1f} %")
    return int(found.rate < GOAL)


if __name__ == "__main__":
    sys.exit(main())
