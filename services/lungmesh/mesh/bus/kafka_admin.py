"""Topics of a Kafka broker: made when missing, told apart by id after it lost its memory."""

from __future__ import annotations

import threading
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic, OffsetSpec
from kafka.errors import KafkaError

from lungmesh.mesh.errors import Unavailable
from lungmesh.mesh.settings import KafkaSettings

_TOPIC_ALREADY_EXISTS = 36


class BrokerAdmin:
    """Asks and tells the broker about topics; blocking, callable from any thread.

    A client that lost its broker does not find it again by itself, so it is made anew after each
    failure. Raises Unavailable when the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, config: dict[str, Any]) -> None:
        self._settings = settings
        self._config = dict(config, request_timeout_ms=5000, bootstrap_timeout_ms=2000)
        self._client: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    def answers(self) -> bool:
        """Return whether the broker answers."""
        try:
            self.topic_ids([])
        except Unavailable:
            return False
        return True

    def topic_ids(self, topics: list[str]) -> dict[str, str]:
        """Return the id of each topic that exists; a topic made anew has another id."""
        described = self._ask("describe_topics", topics or None)
        return {item["name"]: str(item["topic_id"]) for item in described if not item["error_code"]}

    def ensure(self, topics: list[str]) -> dict[str, str]:
        """Make the topics that are missing and return all their ids."""
        known = self.topic_ids(topics)
        missing = [topic for topic in topics if topic not in known]
        if not missing:
            return known
        made = self._ask(
            "create_topics",
            [
                NewTopic(topic, self.partitions(topic), self._settings.replication_factor)
                for topic in missing
            ],
            raise_errors=False,
        )
        for topic in made["topics"]:
            # Another service may have made it in the meantime.
            if topic["error_code"] not in (0, _TOPIC_ALREADY_EXISTS):
                raise Unavailable(
                    f"the broker did not make topic {topic['name']}: error {topic['error_code']}"
                )
        return self.topic_ids(topics)

    def partitions(self, topic: str) -> int:
        """Partitions of a topic: lanes scale, dead letters need not."""
        return 1 if topic.endswith(".dlq") else self._settings.partitions

    def lag(self, group: str, topics: list[str]) -> dict[str, int]:
        """Return by topic how many records a consumer group has not committed.

        The embedded broker counts a batch of records at the log's end as one.
        """
        described = self._ask("describe_topics", topics)
        places = [
            TopicPartition(item["name"], part["partition_index"])
            for item in described
            for part in item["partitions"]
        ]
        ends = self._offsets(places, OffsetSpec.LATEST)
        committed = self._ask("list_group_offsets", {group: places})[group]
        done = {place: found.offset for place, found in committed.items() if found.offset >= 0}
        fresh = [place for place in places if place not in done]
        # A group that never committed begins where the log does, which retention moves on.
        done.update(self._offsets(fresh, OffsetSpec.EARLIEST) if fresh else {})
        behind: dict[str, int] = dict.fromkeys(topics, 0)
        for place, end in ends.items():
            behind[place.topic] += max(0, end - done[place])
        return behind

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._drop()

    def _offsets(self, places: list[TopicPartition], spec: OffsetSpec) -> dict[Any, int]:
        found = self._ask("list_partition_offsets", dict.fromkeys(places, spec))
        return {place: at.offset for place, at in found.items()}

    def _ask(self, method: str, *args: Any, **options: Any) -> Any:
        with self._lock:
            try:
                if self._client is None:
                    self._client = KafkaAdminClient(**self._config)
                return getattr(self._client, method)(*args, **options)
            except (KafkaError, OSError) as error:
                self._drop()
                raise Unavailable(
                    f"no broker answers at {self._settings.bootstrap} ({type(error).__name__})"
                ) from error

    def _drop(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            try:
                client.close()
            except (KafkaError, OSError):
                return
