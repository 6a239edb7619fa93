"""A tile of the detector through the real Triton, against ONNX Runtime in this process.

Same model file, same input, same number of threads, in one run, in turn: the median of wall time,
and the mean of processor time (client and server together), which other work on the machine touches
less. The way to Triton is the detection service's own: over gRPC, and through system shared memory.

    python bench/triton_roundtrip.py [--model nodule_detector] [--version N] [--tile D H W]

Ends with status 1 when shared memory, which the service uses on one node, is above the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.detection.triton import Network, Triton, Wanted, connected
from lungmesh.embedded.models import Model, read_models, user_folder
from tests.support.triton import running_triton

LIMIT = 1.15
# Buffers grow and shared memory is made in the first rounds.
UNCOUNTED = 2
WAYS = ("onnxruntime in process", "Triton over gRPC", "Triton, shared memory")


def main() -> int:
    """Print the three times and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nodule_detector")
    parser.add_argument("--version", help="default: the newest")
    parser.add_argument("--tile", type=int, nargs="+", help="default: what it is warmed up with")
    parser.add_argument("--rounds", type=int, default=13, help="counted rounds")
    options = parser.parse_args()
    model = _chosen(options.model, options.version)
    (name,) = model.card["warm_up"]
    tile = tuple(options.tile or model.card["warm_up"][name])
    hu = np.random.default_rng(0).integers(-1000, 200, (1, *tile), np.int16)
    # The server's data directory is another, where it would not find imported models.
    os.environ["LUNGMESH_MODELS"] = str(user_folder().absolute())
    with tempfile.TemporaryDirectory() as folder, running_triton(Path(folder)) as address:
        times = asyncio.run(_measure(address, model, {name: hu}, options.rounds))
    size = " x ".join(map(str, tile))
    print(f"{model.name} {model.version}, a tile of {size}, {options.rounds} rounds")
    print(f"{'':24}{'wall':>10}{'ratio':>8}{'processor':>12}{'ratio':>8}")
    wall, processor = (
        {way: figure([pair[column] for pair in pairs]) for way, pairs in times.items()}
        for column, figure in enumerate((statistics.median, statistics.mean))
    )
    first = WAYS[0]
    for way in WAYS:
        print(
            f"{way:24}{wall[way]:8.3f} s{wall[way] / wall[first]:8.3f}"
            f"{processor[way]:10.3f} s{processor[way] / processor[first]:8.3f}"
        )
    ratio = wall[WAYS[2]] / wall[first]
    print(f"limit of the ratio of wall times, shared memory: {LIMIT}, ", end="")
    print("kept" if ratio <= LIMIT else "missed")
    return int(ratio > LIMIT)


def _chosen(name: str, version: str | None) -> Model:
    models = [model for model in read_models() if model.name == name]
    if version is not None:
        models = [model for model in models if model.version == version]
    if not models:
        raise SystemExit(f"there is no model {name} {version or ''}: see `lungmesh models list`")
    return models[-1]


async def _measure(
    address: str, model: Model, arrays: dict[str, np.ndarray], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Return wall and processor seconds of every counted round, by way."""
    outputs = [item["name"] for item in model.card["outputs"]]
    session = _session(model)
    wanted = Wanted(model.name, model.version)
    async with (
        connected(address, 1, 600, shared_memory=False) as by_grpc,
        connected(address, 1, 600, shared_memory=True) as by_memory,
    ):
        network = await by_grpc.network(wanted)

        async def in_process() -> None:
            session.run(outputs, arrays)

        async def through(triton: Triton, network: Network) -> None:
            await triton.infer(network, arrays, outputs)

        times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds + UNCOUNTED):
            # In turn, so that what else the machine does meets all.
            calls = (in_process(), through(by_grpc, network), through(by_memory, network))
            for way, call in zip(WAYS, calls, strict=True):
                start, worked = time.perf_counter(), _processor_seconds()
                await call
                times[way].append((time.perf_counter() - start, _processor_seconds() - worked))
    return {way: pairs[UNCOUNTED:] for way, pairs in times.items()}


def _processor_seconds() -> float:
    """Return what this process and the server, its child, have used so far."""
    this = psutil.Process()
    spent = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(times.user + times.system for times in spent)


def _session(model: Model) -> onnxruntime.InferenceSession:
    """Open the network as the server does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    sys.exit(main())
