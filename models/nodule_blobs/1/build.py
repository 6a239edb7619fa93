"""Writes model.onnx: a bank of Gaussian second derivatives with a shape measure, weights fixed.

The network is scale-free: it knows voxels, not millimetres. The service gives it the same CT on
grids of 1.25, 2.5 and 5 mm, and so four scales become nine different ones from 4.3 to 34.6 mm.

    python models/nodule_blobs/1/build.py     writes model.onnx and its checksum in card.json

For each window (solid, ground glass) and scale sigma:

    H      = the six second derivatives of the clipped HU, Gaussian sigma, times sigma²
    T, M, D = its invariants: trace, sum of principal minors, determinant
    contrast = -T / gain          HU: exact for a sphere of diameter 2·sqrt(3)·sigma
    shape    = 27·D / T³          1 for a sphere, 0 for a tube or a plate; 0 unless H is negative
                                  definite (T < 0, M > 0, D < 0)
    response = contrast · shape

Scale-normalised derivatives: Lindeberg, Int J Comput Vis 1998;30:79. Hessian measures that part
blobs from lines and plates: Sato et al., Med Image Anal 1998;2:143; Li, Sone, Doi, Med Phys
2003;30:2040. The invariants stand here instead of eigenvalues: no branch, no trigonometry.

A convolution along an axis is a product with a banded matrix, which runs at the speed of a matrix
product; no padding, so what a voxel gets does not depend on how the CT was cut into tiles.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
TILE = 96
HALO = 8
CORE = TILE - 2 * HALO
# Each output voxel is the best of 2 x 2 x 2.
STRIDE = 2
OUT = CORE // STRIDE
SIGMAS = tuple(2.0 ** (step / 3) for step in range(4))
# HU windows: what lies outside is clipped. Solid tissue, and ground glass, which ends at -450.
WINDOWS = ((-700.0, 50.0), (-950.0, -450.0))
# -T of a ball of contrast 1 at its centre, sigma = r / sqrt(3): 4 pi r³ G(r).
SPHERE_GAIN = 4 * math.pi * 3**1.5 / (2 * math.pi) ** 1.5 * math.exp(-1.5)
# Opset and IR that the ONNX Runtime inside Triton 24.10 reads.
OPSET, IR_VERSION = 17, 8


def kernel(sigma: float, order: int) -> list[float]:
    """Return a Gaussian derivative on 2·HALO + 1 voxels, exact on polynomials of its order."""
    places = range(-HALO, HALO + 1)
    gauss = [math.exp(-(x * x) / (2 * sigma * sigma)) for x in places]
    total = math.fsum(gauss)
    smooth = [value / total for value in gauss]
    if order == 0:
        return smooth
    if order == 1:
        raw = [x * g for x, g in zip(places, smooth, strict=True)]
        norm = math.fsum(x * value for x, value in zip(places, raw, strict=True))
        return [value / norm for value in raw]
    variance = math.fsum(x * x * g for x, g in zip(places, smooth, strict=True))
    raw = [(x * x - variance) * g for x, g in zip(places, smooth, strict=True)]
    norm = math.fsum(x * x / 2 * value for x, value in zip(places, raw, strict=True))
    return [value / norm for value in raw]


def banded(weights: list[float]) -> npt.NDArray[np.float32]:
    """Return the CORE x TILE matrix that correlates along an axis without padding."""
    matrix = np.zeros((CORE, TILE), np.float32)
    for row in range(CORE):
        matrix[row, row : row + len(weights)] = weights
    return matrix


class _Graph:
    """Collects nodes and weights; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def __call__(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.weights.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def number(self, value: float) -> str:
        return self.weight(f"number_{value!r}", np.array(value, np.float32))

    def shape(self, *dims: int) -> str:
        return self.weight("shape_" + "_".join(map(str, dims)), np.array(dims, np.int64))

    def product(self, *factors: str) -> str:
        out = factors[0]
        for factor in factors[1:]:
            out = self("Mul", out, factor)
        return out


def _hessian(graph: _Graph, window: str, index: int, sigma: float) -> dict[str, str]:
    """Return the six second derivatives [N, CORE, CORE, CORE], times sigma²."""
    along = {
        order: graph.weight(f"gauss_{index}_d{order}", banded(kernel(sigma, order)))
        for order in (0, 1, 2)
    }
    across = {order: graph("Transpose", name, perm=[1, 0]) for order, name in along.items()}
    flat = graph("Reshape", window, graph.shape(-1, TILE, TILE * TILE))
    by_z = {
        z: graph("Reshape", graph("MatMul", along[z], flat), graph.shape(-1, CORE, TILE, TILE))
        for z in (0, 1, 2)
    }
    by_zy = {
        (z, y): graph("MatMul", along[y], by_z[z])
        for z in (0, 1, 2)
        for y in (0, 1, 2)
        if z + y <= 2
    }
    out = {}
    for (z, y), name in by_zy.items():
        x = 2 - z - y
        derivative = graph("MatMul", name, across[x])
        out["z" * z + "y" * y + "x" * x] = graph(
            "Mul", derivative, graph.number(float(np.float32(sigma * sigma)))
        )
    return out


def _response(graph: _Graph, h: dict[str, str]) -> str:
    """Return contrast · shape, [N, CORE, CORE, CORE]."""
    square = {name: graph.product(h[name], h[name]) for name in ("zy", "zx", "yx")}
    trace = graph("Add", graph("Add", h["zz"], h["yy"]), h["xx"])
    pairs = [
        graph("Sub", graph.product(h[a], h[b]), square[ab])
        for a, b, ab in (("zz", "yy", "zy"), ("zz", "xx", "zx"), ("yy", "xx", "yx"))
    ]
    minors = graph("Add", graph("Add", pairs[0], pairs[1]), pairs[2])
    # Determinant along the first row of [[zz, zy, zx], [zy, yy, yx], [zx, yx, xx]].
    determinant = graph("Mul", h["zz"], pairs[2])
    cofactor = graph("Sub", graph.product(h["zy"], h["xx"]), graph.product(h["yx"], h["zx"]))
    determinant = graph("Sub", determinant, graph.product(h["zy"], cofactor))
    cofactor = graph("Sub", graph.product(h["zy"], h["yx"]), graph.product(h["yy"], h["zx"]))
    determinant = graph("Add", determinant, graph.product(h["zx"], cofactor))
    dark = graph("Neg", trace)
    # At least 1 HU: no division by nothing in flat air.
    size = graph("Max", dark, graph.number(1.0))
    shape = graph("Div", graph("Neg", determinant), graph.product(size, size, size))
    shape = graph(
        "Clip", graph.product(shape, graph.number(27.0)), graph.number(0.0), graph.number(1.0)
    )
    definite = graph(
        "And",
        graph("Greater", dark, graph.number(1.0)),
        graph("Greater", minors, graph.number(0.0)),
    )
    contrast = graph("Div", dark, graph.number(float(np.float32(SPHERE_GAIN))))
    return graph("Where", definite, graph.product(contrast, shape), graph.number(0.0))


def build() -> bytes:
    """Return the model's bytes, the same at every call.

    Input ``hu``: int16 [N, 96, 96, 96], HU. Outputs ``response``: float16 [N, 2, 40, 40, 40], HU,
    for the windows solid and ground glass, and ``scale``: uint8, the index of its sigma. Output
    voxel (i, j, k) covers input voxels 8 + 2·i … 9 + 2·i and so on.
    """
    graph = _Graph()
    hu = graph("Cast", "hu", to=TensorProto.FLOAT)
    best, which = [], []
    for low, high in WINDOWS:
        window = graph("Clip", hu, graph.number(low), graph.number(high))
        scales = []
        for index, sigma in enumerate(SIGMAS):
            response = _response(graph, _hessian(graph, window, index, sigma))
            scales.append(graph("Reshape", response, graph.shape(-1, 1, CORE, CORE, CORE)))
        stacked = graph("Concat", *scales, axis=1)
        pooled = graph("MaxPool", stacked, kernel_shape=[STRIDE] * 3, strides=[STRIDE] * 3)
        best.append(graph("ReduceMax", pooled, axes=[1], keepdims=1))
        which.append(graph("ArgMax", pooled, axis=1, keepdims=1))
    response = graph("Concat", *best, axis=1)
    scale = graph("Concat", *which, axis=1)
    graph.nodes.append(
        helper.make_node("Cast", [response], ["response"], name="response", to=TensorProto.FLOAT16)
    )
    graph.nodes.append(
        helper.make_node("Cast", [scale], ["scale"], name="scale", to=TensorProto.UINT8)
    )
    out = ["N", len(WINDOWS), OUT, OUT, OUT]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "nodule_blobs",
            [helper.make_tensor_value_info("hu", TensorProto.INT16, ["N", TILE, TILE, TILE])],
            [
                helper.make_tensor_value_info("response", TensorProto.FLOAT16, out),
                helper.make_tensor_value_info("scale", TensorProto.UINT8, out),
            ],
            list(graph.weights.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="lungmesh",
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def main() -> None:
    """Write the model and its checksum."""
    content = build()
    card_path = HERE / "card.json"
    card = json.loads(card_path.read_text())
    card["sha256"] = hashlib.sha256(content).hexdigest()
    (HERE / "model.onnx").write_bytes(content)
    card_path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
