"""The chassis beside a bare kafka-python client, on one embedded broker, in one run.

Hop: from the acknowledgement of an event to the output of a stage that does nothing, at idle.
Throughput: events a second through that stage. The bare client consumes a record and produces one,
without decoding, idempotence store, progress, metrics or traces.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.mesh import envelope
from tests.support.broker import Broker
from tests.support.chassis import ServiceProcess, study_received, tap, until

OUT = "report.delivered.routine"
BARE_IN, BARE_OUT = "bare.in", "bare.out"
HOPS = 40
EVENTS = 2000


def forward(bootstrap: str, ended: threading.Event) -> None:
    """Consume a topic and produce each record to another: the least that a stage could do."""
    consumer = KafkaConsumer(
        BARE_IN,
        bootstrap_servers=bootstrap,
        group_id="bare",
        session_timeout_ms=3000,
        heartbeat_interval_ms=500,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=128 * 1024,
    )
    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    while not ended.is_set():
        sent = [
            producer.send(BARE_OUT, value=record.value, key=record.key)
            for batch in consumer.poll(timeout_ms=50).values()
            for record in batch
        ]
        for one in sent:
            one.get(10)
        if sent:
            consumer.commit()
    consumer.close(autocommit=False)
    producer.close()


async def measure(send: Callable[[int], object], seen: Callable[[], int]) -> tuple[float, float]:
    """Return the median seconds of one hop at idle, and events a second in a flood."""
    hops = []
    for _ in range(HOPS):
        before = seen()
        await asyncio.sleep(0.03)
        started = time.perf_counter()
        await asyncio.to_thread(send, 1)
        await until(lambda: seen() > before, 10, "the event is through")  # noqa: B023
        hops.append(time.perf_counter() - started)
    before = seen()
    started = time.perf_counter()
    await asyncio.to_thread(send, EVENTS)
    await until(lambda: seen() >= before + EVENTS, 120, "the flood has passed")
    return statistics.median(hops), EVENTS / (time.perf_counter() - started)


def publisher(bootstrap: str, topic: str | None) -> Callable[[int], None]:
    """Make a function that publishes so many events and waits for their acknowledgement."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    return partial(publish, producer, topic)


def publish(producer: KafkaProducer, topic: str | None, count: int) -> None:
    """Publish new studies, to their own topic or to another, and wait for their acknowledgement."""
    waiting = []
    for _ in range(count):
        event = study_received()
        out = envelope.outgoing(event, event.study.study_id, "bench")
        headers = list(out.headers.items())
        waiting.append(
            producer.send(topic or out.topic, value=out.value, key=out.key, headers=headers)
        )
    for one in waiting:
        one.get(30)


async def stage(name: str) -> tuple[float, float]:
    """Measure a toy service of the chassis, on a broker that holds nothing else."""
    with broker() as running, tempfile.TemporaryDirectory() as folder:
        service = ServiceProcess(
            "tests.integration.mesh.toy", name, Path(folder), running.bootstrap
        )
        async with tap(running.bootstrap, OUT) as line:
            await service.start()
            try:
                send = publisher(running.bootstrap, None)
                return await measure(send, lambda: len(line.of(OUT)))
            finally:
                service.kill()


async def bare() -> tuple[float, float]:
    """Measure the bare client."""
    with broker() as running:
        ended = threading.Event()
        thread = threading.Thread(target=forward, args=(running.bootstrap, ended))
        send = publisher(running.bootstrap, BARE_IN)
        async with tap(running.bootstrap, BARE_IN, BARE_OUT) as line:
            thread.start()
            try:
                await asyncio.to_thread(send, 1)
                await until(lambda: line.of(BARE_OUT), 20, "the bare client has joined")
                return await measure(send, lambda: len(line.of(BARE_OUT)))
            finally:
                ended.set()
                thread.join()


@contextmanager
def broker() -> Iterator[Broker]:
    """Run an embedded broker until the block ends."""
    running = Broker()
    running.start()
    try:
        yield running
    finally:
        running.kill()


async def main() -> None:
    """Print hop and throughput of each, and their ratios."""
    bare_hop, bare_rate = await bare()
    print(f"{'bare kafka-python':<22} hop {1000 * bare_hop:6.1f} ms  {bare_rate:7.0f} events/s")
    for name, what in (("quiet", "stateless stage"), ("silent", "stage with an outbox")):
        hop, rate = await stage(name)
        print(
            f"{what:<22} hop {1000 * hop:6.1f} ms  {rate:7.0f} events/s  "
            f"hop {hop / bare_hop:.2f} x bare, throughput {rate / bare_rate:.2f} x bare"
        )


if __name__ == "__main__":
    asyncio.run(main())
