"""A service run as a real process against a real broker, and a tap on its topics.

service = ServiceProcess("lungmesh.mesh.serve", "followup", tmp_path, broker.bootstrap)
await service.start()
async with tap(broker.bootstrap, "followup.updated.routine") as line:
    await line.publish(event)
    await until(lambda: line.records, 10, "the event is handled")
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from lungmesh.mesh import envelope
from lungmesh.mesh.bus.kafka import KafkaBus
from lungmesh.mesh.bus.kafka_consumer import as_record
from lungmesh.mesh.bus.port import Record
from lungmesh.mesh.ids import deterministic_id
from lungmesh.mesh.settings import KafkaSettings
from lungmesh.v1.study_pb2 import (
    CLOSED_BY_EXPLICIT_CALL,
    PRIORITY_ROUTINE,
    BlobRef,
    Priority,
    StudyReceived,
    StudyRef,
)

ROOT = Path(__file__).resolve().parents[2]
TENANT = "hospital-a"
# Joining a group of the embedded broker takes half of it; short, so that tests are quick.
SESSION_TIMEOUT_MS = 3000


class ServiceProcess:
    """`python -m MODULE NAME` on files below a folder: `lungmesh.mesh.serve followup`, a toy.

    Blobs are in `folder/blobs`, a SQLite database in `folder/NAME.db` unless the environment names
    another; both outlive the process, so that a killed service can be started again. A second
    process of the same service gets its own `replica`.
    """

    def __init__(
        self,
        module: str,
        name: str,
        folder: Path,
        bootstrap: str,
        replica: str = "",
        **environment: str,
    ) -> None:
        self._command = [sys.executable, "-m", module, name]
        own = f"{name}{replica}"
        self._ready_file = folder / f"{own}.ready.json"
        self._log_file = folder / f"{own}.log"
        self.diary = folder / f"{name}.diary"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LUNGMESH_")}
        self._environment = {
            **kept,
            "OMP_NUM_THREADS": "2",
            "LUNGMESH_KAFKA__BOOTSTRAP": bootstrap,
            "LUNGMESH_KAFKA__SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            "LUNGMESH_BLOBS_URL": f"file://{folder}/blobs",
            "LUNGMESH_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/{name}.db",
            "LUNGMESH_READY_FILE": str(self._ready_file),
            "TOY_DIARY": str(self.diary),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the process without waiting for it."""
        self._ready_file.unlink(missing_ok=True)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )

    async def start(self, seconds: float = 40) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        await until(lambda: self.ready or not self.alive, seconds, "the service is ready")
        assert self.alive, f"the service ended at its start:\n{self.log}"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether the process has announced its ports since it was launched."""
        return self._ready_file.exists()

    @property
    def pid(self) -> int:
        """Id of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def ports(self) -> dict[str, int]:
        """Ports from the ready file: grpc, metrics and the service's own."""
        found: dict[str, int] = json.loads(self._ready_file.read_text())
        return found

    @property
    def log(self) -> str:
        """Everything the process wrote, all its starts together."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    def lines(self, word: str) -> list[str]:
        """Lines of the diary whose second word is this one."""
        if not self.diary.exists():
            return []
        return [line for line in self.diary.read_text().splitlines() if line.split()[1] == word]

    def mend(self) -> None:
        """Let a toy's broken orders succeed from now on."""
        Path(f"{self.diary}.mended").touch()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def stop(self, seconds: float = 40) -> int:
        """SIGTERM; return the exit status."""
        assert self._process is not None
        self._process.terminate()
        await until(lambda: not self.alive, seconds, "the service has ended")
        return int(self._process.returncode)


def study_received(
    order: str = "",
    patient: str | None = None,
    priority: Priority.ValueType = PRIORITY_ROUTINE,
) -> StudyReceived:
    """Return the event of a new study; a toy does what `order` says, a real service would not."""
    uid = f"2.25.{uuid.uuid4().int}"
    return StudyReceived(
        study=StudyRef(
            tenant=TENANT,
            patient=patient or str(uuid.uuid4()),
            study_id=deterministic_id("study", TENANT, uid),
            revision=1,
            priority=priority,
        ),
        study_instance_uid=uid,
        manifest=BlobRef(key=f"{TENANT}/manifest", sha256="0" * 64, media_type=order),
        closed_by=CLOSED_BY_EXPLICIT_CALL,
        received_at=Timestamp(seconds=1),
        instance_count=1,
    )


class Tap:
    """What a tap on topics has seen, and a bus to publish with."""

    def __init__(self, bus: KafkaBus) -> None:
        self.bus = bus
        self.records: list[Record] = []

    def of(self, topic: str) -> list[Record]:
        """Records of one topic."""
        return [record for record in self.records if record.topic == topic]

    async def publish(self, *messages: Message) -> list[str]:
        """Publish events, each with a new id, and return the ids."""
        ids = [str(uuid.uuid4()) for _ in messages]
        pairs = zip(messages, ids, strict=True)
        await self.bus.publish([envelope.outgoing(event, name, "test") for event, name in pairs])
        return ids


@asynccontextmanager
async def tap(bootstrap: str, *topics: str) -> AsyncIterator[Tap]:
    """Collect every record of topics from their beginning, until the block ends."""
    settings = KafkaSettings(bootstrap=bootstrap)
    bus = KafkaBus(settings, "test")
    await bus.start()
    await bus.ensure_topics(topics)
    line = Tap(bus)
    ended = threading.Event()
    where = [TopicPartition(topic, n) for topic in topics for n in range(settings.partitions)]
    reader = threading.Thread(target=_read, args=(bootstrap, where, line.records, ended))
    reader.start()
    try:
        yield line
    finally:
        ended.set()
        await asyncio.to_thread(reader.join)
        await bus.close()


def _read(
    bootstrap: str, where: list[TopicPartition], records: list[Record], ended: threading.Event
) -> None:
    while not ended.is_set():
        with contextlib.suppress(KafkaError):
            consumer = KafkaConsumer(
                bootstrap_servers=bootstrap,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=20,
            )
            try:
                consumer.assign(where)
                while not ended.is_set():
                    for batch in consumer.poll(timeout_ms=50).values():
                        records.extend(as_record(item) for item in batch)
            finally:
                consumer.close(autocommit=False)


async def metric(service: ServiceProcess, start: str) -> float:
    """Return the sum of the metric's lines that begin so."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{service.ports['metrics']}/metrics")).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(start))


async def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Return once the condition (plain or async) holds.

    Fails naming `what` when it does not in time.
    """
    limit = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        assert time.monotonic() < limit, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.005)
