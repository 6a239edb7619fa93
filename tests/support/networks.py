"""Analytic networks for detection's tests: they obey the contract of the trained ones, untrained.

Made for phantoms: even balls in even lung. What they answer can be worked out by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lungmesh.embedded.models import write_card

LUNG_HU = -860.0
DETECTOR, REDUCER, SEGMENTER = "test_detector", "test_reducer", "test_segmenter"
# Balls that the detector has kernels for, mm.
BALLS_MM = (4.0, 7.0, 12.0)
_KERNEL = 9
_STRIDE = 2
_OPSET, _IR = 17, 8
Floats = npt.NDArray[np.float32]


class _Graph:
    """Collects nodes and constants; every call returns the name of the output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(
        self, kind: str, *inputs: str | float | npt.NDArray[np.generic], **more: Any
    ) -> str:
        name = more.pop("out", f"{kind.lower()}_{len(self.nodes)}")
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        self.nodes.append(helper.make_node(kind, names, [str(name)], **more))
        return str(name)

    def constant(self, value: float | npt.NDArray[np.generic]) -> str:
        array = np.asarray(value, np.float32) if np.isscalar(value) else np.asarray(value)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def write(
        self, path: Path, size: Sequence[str | int], outputs: dict[str, tuple[int, list[str | int]]]
    ) -> None:
        graph = helper.make_graph(
            self.nodes,
            path.parts[-3],
            [helper.make_tensor_value_info("hu", TensorProto.INT16, ["N", *size])],
            [
                helper.make_tensor_value_info(name, kind, ["N", *dims])
                for name, (kind, dims) in outputs.items()
            ],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR
        onnx.checker.check_model(model, full_check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString(deterministic=True))


def write_networks(folder: Path, versions: Sequence[str] = ("1",)) -> None:
    """Write the three networks and their cards below a folder of models.

    Versions other than 1 have a detector that is half as sure of everything.
    """
    for version in versions:
        _detector(folder / DETECTOR / version / "model.onnx", 1.0 if version == "1" else 0.5)
    _reducer(folder / REDUCER / "1" / "model.onnx")
    _segmenter(folder / SEGMENTER / "1" / "model.onnx")


def _card(path: Path, parameters: dict[str, object], **more: Any) -> None:
    write_card(
        path,
        title="Analytic network of the tests",
        description="Not trained.",
        made_by="tests/support/networks.py",
        intended_use={},
        max_batch_size=4,
        parameters=parameters,
        **more,
    )


def _detector(path: Path, sureness: float) -> None:
    """Brightness of a ball against the shell around it, for each size; the best one answers."""
    graph = _Graph()
    x = graph("Cast", "hu", to=TensorProto.FLOAT)
    x = graph("Clip", x, LUNG_HU, 40.0)
    x = graph("Mul", graph("Sub", x, LUNG_HU), 1 / (40.0 - LUNG_HU))
    x = graph("Unsqueeze", x, np.array([1]))
    x = graph("AveragePool", x, kernel_shape=[_STRIDE] * 3, strides=[_STRIDE] * 3)
    at = ((np.arange(_KERNEL) - _KERNEL // 2) * _STRIDE).astype(np.float32)
    away = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2)
    kernels = []
    for ball in BALLS_MM:
        inner = away <= ball / 2
        shell = (away > ball / 2 + 1.0) & (away <= ball / 2 + 3.0)
        kernels.append(inner / inner.sum() - shell / shell.sum())
    # The brightness near the place, and its first moment: where its middle lies.
    near = (away <= 4.0).astype(np.float32)
    kernels += [near, near * at[:, None, None], near * at[:, None], near * at]
    weights = np.stack(kernels)[:, None].astype(np.float32)
    maps = graph("Conv", x, weights, kernel_shape=[_KERNEL] * 3, pads=[_KERNEL // 2] * 6)
    answers, mass, moment = (
        graph("Slice", maps, np.array([a]), np.array([b]), np.array([1]))
        for a, b in ((0, 3), (3, 4), (4, 7))
    )
    best = graph("ReduceMax", answers, axes=[1], keepdims=0)
    heat = graph("Clip", graph("Mul", best, sureness), 0.0, 1.0)
    graph("Cast", heat, to=TensorProto.FLOAT16, out="heat")
    which = graph("ArgMax", answers, axis=1, keepdims=0)
    sizes = graph("Gather", np.log(np.array(BALLS_MM, np.float32)), which)
    graph("Cast", sizes, to=TensorProto.FLOAT16, out="size")
    offset = graph("Clip", graph("Div", moment, graph("Max", mass, 1e-3)), -3.0, 3.0)
    graph("Cast", offset, to=TensorProto.FLOAT16, out="offset")
    dims: list[str | int] = ["D2", "H2", "W2"]
    graph.write(
        path,
        ["D", "H", "W"],
        {
            "heat": (TensorProto.FLOAT16, dims),
            "size": (TensorProto.FLOAT16, dims),
            "offset": (TensorProto.FLOAT16, [3, *dims]),
        },
    )
    _card(
        path,
        {
            "family": "heatmap",
            "grid_mm": 1.0,
            "tile": 80,
            "halo": 16,
            "stride": _STRIDE,
            "least_heat": 0.1,
        },
        shapes={"hu": (32, 32, 32)},
    )


def _middle(graph: _Graph, x: str, size: int, mm: float, radius_mm: float) -> str:
    """Return the mean over a ball in the middle, [N, 1, 1, 1]."""
    at = (np.arange(size) - (size - 1) / 2) * mm
    away = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2)
    inside = (away <= radius_mm).astype(np.float32)
    total = graph("Mul", x, inside / inside.sum())
    return graph("ReduceSum", total, np.array([1, 2, 3]), keepdims=1)


def _reducer(path: Path) -> None:
    """Brighter than lung: a nodule. Its kind by the HU in the middle, see `kinds`."""
    graph = _Graph()
    x = graph("Cast", "hu", to=TensorProto.FLOAT)
    level = graph("Reshape", _middle(graph, x, 40, 0.8, 1.0), np.array([-1, 1]))
    contrast = graph("Mul", graph("Sub", level, LUNG_HU), 1 / 200.0)
    graph("Clip", contrast, 0.0, 1.0, out="nodule")
    dense, solid = graph("Greater", level, 200.0), graph("Greater", level, -300.0)
    kinds = {
        "dense": np.array([[0.1, 0.0, 0.0, 0.9]], np.float32),
        "solid": np.array([[0.5, 0.4, 0.0, 0.1]], np.float32),
        "glass": np.array([[0.0, 0.3, 0.7, 0.0]], np.float32),
    }
    lower = graph("Where", solid, kinds["solid"], kinds["glass"])
    graph("Where", dense, kinds["dense"], lower, out="kind")
    graph.write(
        path, [40] * 3, {"nodule": (TensorProto.FLOAT, [1]), "kind": (TensorProto.FLOAT, [4])}
    )
    _card(path, {"family": "reducer"})


def _segmenter(path: Path) -> None:
    """How far a voxel's HU lie between lung and tissue; solid part: between -600 HU and tissue.

    Tissue is ground glass of -600 HU where most of what is brighter than lung around the middle is
    no brighter than that, else 40 HU.
    """
    graph = _Graph()
    x = graph("Cast", "hu", to=TensorProto.FLOAT)

    def between(low: float, high: float) -> str:
        return graph("Clip", graph("Mul", graph("Sub", x, low), 1 / (high - low)), 0.0, 1.0)

    glass, solid, core = between(LUNG_HU, -600.0), between(LUNG_HU, 40.0), between(-600.0, 40.0)
    some, full = (_middle(graph, one, 64, 1.0, 16.0) for one in (glass, solid))
    share = graph("Where", graph("Greater", full, graph("Mul", some, 0.45)), solid, glass)
    channels = [graph("Unsqueeze", one, np.array([1])) for one in (share, core)]
    graph("Cast", graph("Concat", *channels, axis=1), to=TensorProto.FLOAT16, out="share")
    graph.write(path, [64] * 3, {"share": (TensorProto.FLOAT16, [2, 64, 64, 64])})
    _card(path, {"family": "segmenter"})
