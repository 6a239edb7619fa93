"""The real embedded Triton for tests: one server a session, with the models of the repository."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from lungmesh.embedded import triton
from lungmesh.embedded.layout import Layout
from lungmesh.embedded.program import Child
from lungmesh.embedded.services import choose_ports


@contextmanager
def running_triton(root: Path, limit_seconds: float = 60) -> Iterator[str]:
    """Run Triton over a folder while the block lasts; yields its gRPC host:port."""
    for module in ("pytriton", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"wheel of module {module} is not installed (embedded.txt)")
    layout = Layout(root)
    layout.create()
    ports = choose_ports([], None)
    child = Child(triton.program(layout, ports), lambda pid, alive: None)
    child.start()
    try:
        limit = time.monotonic() + limit_seconds
        while not child.look():
            assert child.exited() is None, f"Triton ended: {child.last_words()}"
            assert time.monotonic() < limit, f"Triton was not ready in {limit_seconds:g} s"
            time.sleep(0.05)
        yield f"127.0.0.1:{ports.triton_grpc}"
    finally:
        # First ask: a killed Triton leaves its shared memory behind.
        child.terminate()
        limit = time.monotonic() + 10
        while child.exited() is None and child.pid is not None and time.monotonic() < limit:
            time.sleep(0.05)
        child.kill()


def write_network(path: Path, gain: float = 1.0, divisor: int = 2) -> Path:
    """Write a small network for volumes of any even size.

    Input `hu` INT16 [N, D, H, W]; outputs `heat` FP16 [N, D/2, H/2, W/2], means of 2 x 2 x 2 voxels
    times `gain` / 1000, and `mean` FP32 [N, 1], the same over all.

    Parameters
    ----------
    divisor
        Edges that are no multiple of it are refused by the network at run time.
    """
    volume = ["N", "D", "H", "W"]
    half = ["N", "D2", "H2", "W2"]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["hu"], ["float"], to=TensorProto.FLOAT),
            # The edge of x is split and joined again: a wrong one cannot be.
            helper.make_node("Shape", ["float"], ["shape"]),
            helper.make_node("Slice", ["shape", "zero", "three"], ["front"]),
            helper.make_node("Concat", ["front", "blocks"], ["split"], axis=0),
            helper.make_node("Reshape", ["float", "split"], ["parts"]),
            helper.make_node("Reshape", ["parts", "shape"], ["whole"]),
            helper.make_node("Mul", ["whole", "gain"], ["scaled"]),
            helper.make_node("Unsqueeze", ["scaled", "one"], ["channel"]),
            helper.make_node(
                "AveragePool", ["channel"], ["pooled"], kernel_shape=[2] * 3, strides=[2] * 3
            ),
            helper.make_node("Squeeze", ["pooled", "one"], ["single"]),
            helper.make_node("Cast", ["single"], ["heat"], to=TensorProto.FLOAT16),
            helper.make_node("ReduceMean", ["scaled"], ["flat"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["flat", "one"], ["mean"]),
        ],
        "test",
        [helper.make_tensor_value_info("hu", TensorProto.INT16, volume)],
        [
            helper.make_tensor_value_info("heat", TensorProto.FLOAT16, half),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 1]),
        ],
        [
            helper.make_tensor("gain", TensorProto.FLOAT, [], [gain / 1000]),
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("three", TensorProto.INT64, [1], [3]),
            helper.make_tensor("blocks", TensorProto.INT64, [2], [-1, divisor]),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="lungmesh tests"
    )
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
