"""How much memory the mesh takes: sampled over all its processes, the peak kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import psutil

_SAMPLE_SECONDS = 0.5


class MemorySampler:
    """Samples the summed memory of processes and all their descendants, twice a second.

    PSS (proportional set size) counts a page shared by n processes as 1/n in each, so the sum is
    what the mesh really takes. RSS counts it n times; its sum is an upper bound.

    Attributes
    ----------
    peak_pss_bytes, peak_rss_bytes
        Largest sums seen so far.
    """

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        """`roots` returns the process ids to start from, asked at each sample."""
        self._roots = roots
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.peak_pss_bytes = 0
        self.peak_rss_bytes = 0

    def start(self) -> None:
        """Begin sampling on a thread."""
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.sample()

    def sample(self) -> None:
        """Add up once."""
        pss = rss = 0
        for process in _with_descendants(self._roots()):
            try:
                info = process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            pss += info.pss
            rss += info.rss
        self.peak_pss_bytes = max(self.peak_pss_bytes, pss)
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.sample()


def _with_descendants(roots: Iterable[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        try:
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                found[process.pid] = process
        except psutil.NoSuchProcess:
            continue
    return list(found.values())
