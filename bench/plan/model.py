"""The mesh as a model of queues: the lanes of the real scheduler, pods that own partitions.

A study's events of a stage go, by the patient's key, to one partition and so to one pod. A pod
takes what waits there in the order of `lungmesh.mesh.lanes.LaneScheduler`, so many at once as it
has places. Between two stages lies a hop over the broker. Time is in seconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import simpy

from lungmesh.mesh.lanes import LaneScheduler

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Study:
    """A study on its way.

    Attributes
    ----------
    key
        The patient: chooses the partition at every stage.
    arrival
        Second at which its first stage may begin.
    seconds
        Time in the handler, by stage.
    """

    key: str
    arrival: float
    lane: str
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class StageShape:
    """A stage as it is deployed.

    Attributes
    ----------
    after
        The stage whose event it takes; None for the first.
    pods, places
        Processes, and events that one has in its handler at once.
    partitions
        Of its topic: no more pods than these get work.
    """

    name: str
    after: str | None
    pods: int
    places: int = 1
    partitions: int = 4


@dataclass
class _Waiting:
    study: Study
    done: simpy.Event


class Pod:
    """One process of a stage."""

    def __init__(self, env: simpy.Environment, stage: str, places: int) -> None:
        self._env = env
        self._stage = stage
        self._places = places
        self._queue: LaneScheduler[_Waiting] = LaneScheduler()
        self._running: dict[simpy.Process, _Waiting] = {}

    @property
    def unfinished(self) -> int:
        """Events that wait or are in the handler."""
        return len(self._queue) + len(self._running)

    def take(self, item: _Waiting) -> None:
        """Queue an event, or start it."""
        self._queue.push(item.study.lane, item)
        self._start()

    def drain(self) -> list[_Waiting]:
        """Start nothing more: return what waited; what is in the handler runs on."""
        return self._queue.drop(lambda _: True)

    def die(self) -> list[_Waiting]:
        """End at once: return what waited and what was in the handler."""
        left = list(self._running.values())
        for process in self._running:
            process.interrupt()
        self._running.clear()
        return left + self._queue.drop(lambda _: True)

    def hand_over(self, goes: Callable[[str], bool]) -> list[_Waiting]:
        """Return what waits under keys that another pod has from now on."""
        return self._queue.drop(lambda item: goes(item.study.key))

    def _start(self) -> None:
        while len(self._running) < self._places and (item := self._queue.pop()) is not None:
            process = self._env.process(self._work(item))
            self._running[process] = item

    def _work(self, item: _Waiting) -> Steps:
        seconds = item.study.seconds[self._stage]
        me = self._env.active_process
        assert me is not None
        try:
            yield self._env.timeout(seconds)
        except simpy.Interrupt:
            return
        del self._running[me]
        item.done.succeed()
        self._start()


class Station:
    """A stage: its partitions, and the pods that own them in turn."""

    def __init__(self, env: simpy.Environment, shape: StageShape) -> None:
        self.shape = shape
        self._env = env
        self.pods = [Pod(env, shape.name, shape.places) for _ in range(shape.pods)]

    def submit(self, study: Study) -> simpy.Event:
        """Put a study's event on its partition; the answer fires when its handler has returned."""
        item = _Waiting(study, self._env.event())
        self._pod(study.key).take(item)
        return item.done

    @property
    def lag(self) -> int:
        """Events that the group has not finished."""
        return sum(pod.unfinished for pod in self.pods)

    def resize(self, pods: int) -> None:
        """Have so many pods from now on; the group shares partitions and waiting events anew."""
        leaving = self.pods[pods:]
        self.pods = self.pods[:pods]
        more = pods - len(self.pods)
        self.pods += [Pod(self._env, self.shape.name, self.shape.places) for _ in range(more)]
        back = [item for pod in leaving for item in pod.drain()]
        for pod in self.pods:
            back += pod.hand_over(partial(self._is_elsewhere, pod))
        for item in back:
            self._pod(item.study.key).take(item)

    def lose(self, pods: int, noticed_after: float) -> None:
        """Lose so many pods at once; their events come again after the session's timeout."""
        lost, self.pods = self.pods[:pods], self.pods[pods:]
        back = [item for pod in lost for item in pod.die()]
        self._env.process(self._redeliver(back, noticed_after))

    def _redeliver(self, items: Iterable[_Waiting], after: float) -> Steps:
        yield self._env.timeout(after)
        for item in items:
            self._pod(item.study.key).take(item)

    def _is_elsewhere(self, pod: Pod, key: str) -> bool:
        return self._pod(key) is not pod

    def _pod(self, key: str) -> Pod:
        partition = zlib.crc32(f"{self.shape.name} {key}".encode()) % self.shape.partitions
        return self.pods[partition % len(self.pods)]


@dataclass
class Mesh:
    """Stages over one clock; `finished` tells when each study left each stage."""

    shapes: Sequence[StageShape]
    hop_seconds: float
    env: simpy.Environment = field(default_factory=simpy.Environment)
    finished: list[tuple[Study, dict[str, float]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stations = {shape.name: Station(self.env, shape) for shape in self.shapes}
        self._next: dict[str | None, list[str]] = {}
        for shape in self.shapes:
            self._next.setdefault(shape.after, []).append(shape.name)

    def run(self, studies: Iterable[Study]) -> list[tuple[Study, dict[str, float]]]:
        """Send the studies through and return each with the second at which a stage was done."""
        for study in studies:
            self.env.process(self._way(study))
        self.env.run()
        return self.finished

    def _way(self, study: Study) -> Steps:
        yield self.env.timeout(study.arrival)
        ends: dict[str, float] = {}
        yield self.env.all_of([self._branch(study, name, ends) for name in self._next[None]])
        self.finished.append((study, ends))

    def _branch(self, study: Study, name: str, ends: dict[str, float]) -> simpy.Process:
        return self.env.process(self._step(study, name, ends))

    def _step(self, study: Study, name: str, ends: dict[str, float]) -> Steps:
        yield self.env.timeout(self.hop_seconds)
        yield self.stations[name].submit(study)
        ends[name] = self.env.now
        after = [self._branch(study, follower, ends) for follower in self._next.get(name, ())]
        if after:
            yield self.env.all_of(after)
