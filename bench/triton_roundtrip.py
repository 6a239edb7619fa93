"""One tile through the real Triton over gRPC, against ONNX Runtime in this process.

Same model file, same input, same number of threads, in one run; medians.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from tritonclient import grpc as triton

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.embedded.models import read_models
from tests.support.triton import running_triton

ROUNDS = 15


def main() -> None:
    """Print both times and their ratio."""
    (model,) = read_models()
    tile = np.random.default_rng(0).integers(-1000, 200, (1, 96, 96, 96), np.int16)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, os.cpu_count() or 1)
    # As the server has it: spinning threads would fight the other runner here.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    with tempfile.TemporaryDirectory() as folder, running_triton(Path(folder)) as address:
        client = triton.InferenceServerClient(address)
        request = triton.InferInput("hu", tile.shape, "INT16")

        def over_triton() -> None:
            request.set_data_from_numpy(tile)
            client.infer(model.name, [request]).as_numpy("response")

        def in_process() -> None:
            session.run(None, {"hu": tile})

        # In turn, so that what else the machine does meets both.
        times: dict[Callable[[], None], list[float]] = {over_triton: [], in_process: []}
        for _ in range(ROUNDS):
            for run, seconds in times.items():
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
        client.close()
    remote, local = (statistics.median(seconds[2:]) for seconds in times.values())
    print(f"{model.name} {model.version}, one tile of 96³ int16, median of {ROUNDS - 2}")
    print(f"Triton over gRPC        {remote * 1e3:8.1f} ms")
    print(f"onnxruntime in process  {local * 1e3:8.1f} ms")
    print(f"ratio                   {remote / local:8.3f}")


if __name__ == "__main__":
    main()
