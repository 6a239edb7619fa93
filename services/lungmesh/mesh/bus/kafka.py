"""The bus on a Kafka broker (kafka-python 3)."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from lungmesh.mesh.bus.kafka_admin import BrokerAdmin
from lungmesh.mesh.bus.kafka_consumer import KafkaSubscription
from lungmesh.mesh.bus.port import Listener, Outgoing, ResetCallback
from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.settings import KafkaSettings

log = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0
_PUBLISH_SECONDS = 20.0
_DELIVERY_MS = 15000


class KafkaBus:
    """One producer, a consumer a subscription, and a watcher for a broker that lost its memory."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._config = client_config(settings, client_id)
        self._admin = BrokerAdmin(settings, self._config)
        self._topics: set[str] = set()
        self._ids: dict[str, str] = {}
        self._subscriptions: list[KafkaSubscription] = []
        self._callbacks: list[ResetCallback] = []
        self._publisher = _Publisher(self._config)
        self._watcher: asyncio.Task[None] | None = None
        self.healthy = False

    async def start(self) -> None:
        """Wait for the broker, then watch it."""
        while not await asyncio.to_thread(self._admin.answers):
            log.warning("no broker answers at %s; trying again", self._settings.bootstrap)
            await asyncio.sleep(1)
        self.healthy = True
        self._publisher.start()
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Leave every group, send what waits, disconnect."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        await asyncio.to_thread(self._publisher.stop)
        await asyncio.to_thread(self._admin.close)

    async def ensure_topics(self, topics: Sequence[str]) -> None:
        """Make topics that do not exist, now and after each reset of the broker.

        Raises Unavailable when the broker does not answer.
        """
        self._topics.update(topics)
        self._ids.update(await asyncio.to_thread(self._admin.ensure, sorted(set(topics))))

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Publish and wait for all acknowledgements.

        Raises Unavailable when the broker did not acknowledge all of them.
        """
        if not records:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._publisher.send(_Batch(records, loop, done))
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await done
        except TimeoutError as error:
            raise Unavailable("the broker did not acknowledge the events in time") from error

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Return by topic how many records a group has not finished.

        Raises Unavailable when the broker does not answer.
        """
        return await asyncio.to_thread(self._admin.lag, group, sorted(topics))

    def post(self, record: Outgoing) -> None:
        """Publish without waiting and without promise."""
        if self.healthy:
            self._publisher.send(_Batch((record,), None, None))

    def subscribe(
        self, group: str, topics: Sequence[str], listener: Listener, limit: int
    ) -> KafkaSubscription:
        """Join a group on a thread of its own."""
        subscription = KafkaSubscription(
            self._config,
            group,
            topics,
            listener,
            limit,
            self._settings.session_timeout_ms,
            self._settings.fetch_wait_ms,
        )
        subscription.start()
        self._subscriptions.append(subscription)
        return subscription

    def on_reset(self, callback: ResetCallback) -> None:
        """Call back after the broker came back without its memory and topics are made again."""
        self._callbacks.append(callback)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                await self._look()
            except Unavailable as error:
                if self.healthy:
                    log.error("the broker is away: %s", error)
                self.healthy = False
            except Exception:
                # Without the watcher a lost broker would never be noticed.
                log.exception("the broker could not be watched; trying again")

    async def _look(self) -> None:
        found = await asyncio.to_thread(self._admin.topic_ids, sorted(self._topics))
        if any(found.get(topic) != known for topic, known in self._ids.items()):
            await self._reset()
        if not self.healthy:
            log.info("the broker answers again")
        self.healthy = True

    async def _reset(self) -> None:
        """Rebuild everything that remembers the old broker, before any new record is read."""
        log.error("the broker lost its topics: making them again and starting from the beginning")
        self.healthy = False
        await asyncio.gather(*(subscription.forget() for subscription in self._subscriptions))
        self._publisher.renew()
        self._ids.update(await asyncio.to_thread(self._admin.ensure, sorted(self._topics)))
        for subscription in self._subscriptions:
            subscription.start()
        self.healthy = True
        for callback in self._callbacks:
            try:
                await callback()
            except Exception:
                log.exception("a service did not start its unfinished work again")


def client_config(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Options that producer, consumer and admin share."""
    config: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "client_id": client_id,
        "security_protocol": settings.security_protocol,
        "reconnect_backoff_max_ms": 1000,
        "bootstrap_timeout_ms": 5000,
        "request_timeout_ms": 15000,
    }
    if settings.sasl_mechanism:
        config["sasl_mechanism"] = settings.sasl_mechanism
        config["sasl_plain_username"] = settings.sasl_username
        if settings.sasl_password is not None:
            config["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    if settings.ssl_cafile:
        config["ssl_cafile"] = str(settings.ssl_cafile)
    return config


class _Batch:
    """Records that are acknowledged together."""

    def __init__(
        self,
        records: Sequence[Outgoing],
        loop: asyncio.AbstractEventLoop | None,
        done: asyncio.Future[None] | None,
    ) -> None:
        self.records = records
        self._loop = loop
        self._done = done
        self._left = len(records)
        self._lock = threading.Lock()

    def acknowledged(self, _: object = None) -> None:
        """Note one acknowledgement."""
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._settle(None)

    def failed(self, error: BaseException) -> None:
        """Fail the whole batch."""
        self._settle(Unavailable(f"the broker did not take an event: {type(error).__name__}"))

    def _settle(self, error: Exception | None) -> None:
        if self._loop is None or self._done is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._set, error)

    def _set(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


class _Publisher:
    """The producer behind a thread, because its `send` may block on metadata."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = dict(
            config,
            # In words: `acks=1` alone silently turns idempotence off.
            enable_idempotence=True,
            acks="all",
            metrics_enabled=False,
            linger_ms=0,
            max_block_ms=5000,
            request_timeout_ms=5000,
            delivery_timeout_ms=_DELIVERY_MS,
            max_request_size=16 * 1024 * 1024,
            allow_auto_create_topics=False,
        )
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._producer: KafkaProducer | None = None
        # The producer that must not be used again; compared with the one in use.
        self._spent: KafkaProducer | None = None
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def send(self, batch: _Batch) -> None:
        """Queue a batch; callable from any thread."""
        self._queue.put(batch)

    def renew(self) -> None:
        """Have a new producer made: the broker no longer knows the old one's sequence numbers."""
        self._spent = self._producer

    def stop(self) -> None:
        """Send what is queued and close."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(15)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                producer = self._current()
                for record in batch.records:
                    producer.send(
                        record.topic,
                        value=record.value,
                        key=record.key,
                        headers=list(record.headers.items()),
                    ).add_callback(batch.acknowledged).add_errback(self._refused, batch, producer)
            except Exception as error:
                # Whatever the client raises, the sender of the batch must hear of it.
                batch.failed(error)
                time.sleep(0.1)
        if self._producer is not None:
            _close(self._producer, 5)

    def _current(self) -> KafkaProducer:
        if self._producer is not None and self._producer is self._spent:
            # It ends only once its last records have expired, so nobody waits for it.
            args = (self._producer, _DELIVERY_MS / 1000 + 5)
            threading.Thread(target=_close, args=args, daemon=True).start()
            self._producer = self._spent = None
        if self._producer is None:
            self._producer = KafkaProducer(**self._config)
        return self._producer

    def _refused(self, batch: _Batch, producer: KafkaProducer, error: BaseException) -> None:
        batch.failed(error)
        # An idempotent producer that lost a record refuses all later ones.
        self._spent = producer


def _close(producer: KafkaProducer, seconds: float) -> None:
    try:
        producer.close(timeout=seconds)
    except KafkaError as error:
        log.warning("a producer was closed with unsent records: %s", type(error).__name__)
