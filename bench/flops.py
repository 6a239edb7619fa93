"""Where a network's time goes on this CPU, and its share of what the CPU could do.

onnxruntime's own profile of one tile or batch a network, in process; the limit is the rate of
float32 matrix products (NumPy's BLAS) measured in the same run on the same cores.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.embedded import probe
from lungmesh.embedded.models import models_folder, read_models

_RUNS = 3
_SIZE = 2048


@dataclass(frozen=True)
class Profile:
    """One run of a network.

    Attributes
    ----------
    flop
        Multiplications and additions of its convolutions and products.
    seconds
        Of all its operators.
    by_operator
        Seconds by kind of operator.
    """

    flop: float
    seconds: float
    by_operator: Counter[str]


def profile(path: Path, feed: dict[str, Any], threads: int) -> Profile:
    """Run a network a few times and return the last run's profile.

    Parameters
    ----------
    feed
        Inputs with their batch axis.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/run"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(_RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    last = nodes[-(len(nodes) // _RUNS) :]
    seconds: Counter[str] = Counter()
    flop = 0.0
    for event in last:
        seconds[event["args"]["op_name"]] += event["dur"] / 1e6
        flop += _flop(event["args"])
    return Profile(flop, sum(seconds.values()), seconds)


def _flop(told: dict[str, Any]) -> float:
    shapes = [next(iter(one.values())) for one in told.get("input_type_shape", [])]
    outputs = [next(iter(one.values())) for one in told.get("output_type_shape", [])]
    kind = told["op_name"]
    if kind in ("Conv", "FusedConv"):
        # Weights [out, in, z, y, x]; a blocked layout pads channels, which the weights show.
        return float(2 * prod(outputs[0]) * prod(shapes[1][1:]))
    if kind in ("Gemm", "MatMul"):
        return float(2 * prod(outputs[0]) * shapes[0][-1])
    return 0.0


def limit() -> float:
    """Return the rate of float32 matrix products, FLOP/s, the best of a few."""
    one = np.random.default_rng(1).standard_normal((_SIZE, _SIZE), dtype=np.float32)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        one @ one
        best = max(best, 2 * _SIZE**3 / (time.perf_counter() - start))
    return best


def main() -> None:
    """Print the table."""
    threads = len(os.sched_getaffinity(0))
    most = limit()
    table = Table(title=f"one request each, {threads} threads; limit {most / 1e9:.0f} GFLOP/s")
    for name in ("network", "GFLOP", "ms", "GFLOP/s", "share of the limit", "where the time goes"):
        table.add_column(name)
    for model in read_models(models_folder()):
        feed = probe.feed(model.card["inputs"], probe.from_card(model.card))
        found = profile(model.onnx, feed, threads)
        rate = found.flop / found.seconds
        where = ", ".join(
            f"{name} {seconds / found.seconds:.0%}"
            for name, seconds in found.by_operator.most_common(4)
        )
        table.add_row(
            f"{model.name} {model.version} {next(iter(feed.values())).shape}",
            f"{found.flop / 1e9:.1f}",
            f"{found.seconds * 1e3:.0f}",
            f"{rate / 1e9:.0f}",
            f"{rate / most:.2f}",
            where,
        )
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
