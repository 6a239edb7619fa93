"""A foreign network rewritten for our wire: HU in, [z, y, x] maps out, whatever its own axes.

Cast, window, axes and flips become nodes of the graph, so a client and Triton treat it like ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from lungmesh.cli.importing.manifest import HeatmapOutputs, Manifest, RetinaNetOutputs
from lungmesh.cli.importing.network import MOST_IR, Maps, Network

T = TypeVar("T")

# Our axes z, y, x grow towards these; the first letter of each pair.
_OURS = "SPL"
_PAIRS = ("SI", "PA", "LR")
_END = np.iinfo(np.int64).max
# A probability is kept this far from 0 and 1, so that its logit is finite in half precision.
_LEAST_PROBABILITY = 1e-4


@dataclass(frozen=True)
class Axes:
    """How a network's axes stand to ours.

    Attributes
    ----------
    theirs
        For each of z, y, x: which of the network's axes it is.
    flipped
        For each of z, y, x: whether the network's index falls where ours grows.
    """

    theirs: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @classmethod
    def of(cls, letters: str) -> Axes:
        """Read three letters such as RAS."""
        z, y, x = (
            next(place for place, letter in enumerate(letters) if letter in pair) for pair in _PAIRS
        )
        return cls(
            (z, y, x), (letters[z] != _OURS[0], letters[y] != _OURS[1], letters[x] != _OURS[2])
        )

    def ours(self, triple: tuple[T, T, T]) -> tuple[T, T, T]:
        """Return a triple in the network's order along z, y, x."""
        z, y, x = (triple[axis] for axis in self.theirs)
        return z, y, x


def wrapped(network: Network, manifest: Manifest, maps: Maps) -> bytes:
    """Return the model that is served.

    Input `hu`: INT16 [N, d, h, w]. Outputs FP16: `logit_k`, `delta_k` (`detection/retinanet.py`) or
    `heat`, `size`, `offset` (`detection/heatmap.py`).
    """
    inner = compose.add_prefix(network.model, "net/")
    graph = _Graph(inner, Axes.of(manifest.axes), maps)
    graph.image(f"net/{network.image}", network, manifest)
    if isinstance(manifest.outputs, HeatmapOutputs):
        graph.heatmap(manifest.outputs)
    else:
        graph.retinanet(manifest.outputs)
    model = graph.model(network, manifest)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class _Graph:
    """Collects nodes around a network; the methods that add one return the name of its output."""

    def __init__(self, inner: onnx.ModelProto, axes: Axes, maps: Maps) -> None:
        self._inner = inner
        self._axes = axes
        self._maps = maps
        self._before: list[onnx.NodeProto] = []
        self._after: list[onnx.NodeProto] = []
        self._nodes = self._before
        self._weights: dict[str, onnx.TensorProto] = {}
        # Each with its channels (none: no such axis) and its edges along z, y, x.
        self._outputs: list[tuple[str, list[int], tuple[int, int, int]]] = []

    def image(self, name: str, network: Network, manifest: Manifest) -> None:
        """Make the network's image of the HU."""
        window = manifest.window
        image = self._add("Cast", "hu", to=TensorProto.FLOAT)
        if window.clip:
            image = self._add("Clip", image, self._number(window.low), self._number(window.high))
        # Shifted first: the numbers stay small, and nothing is lost to rounding.
        gain = (window.to[1] - window.to[0]) / (window.high - window.low)
        image = self._add("Sub", image, self._number(window.low))
        image = self._add("Mul", image, self._number(gain))
        image = self._add("Add", image, self._number(window.to[0]))
        theirs = self._axes.theirs
        image = self._add("Transpose", image, perm=[0, *(1 + theirs.index(k) for k in range(3))])
        image = self._flipped(image, [1 + axis for axis in theirs])
        if network.has_channel:
            image = self._add("Unsqueeze", image, self._ints(1))
        self._before.append(helper.make_node("Cast", [image], [name], to=network.element))
        self._nodes = self._after

    def retinanet(self, outputs: RetinaNetOutputs) -> None:
        """Give logits and boxes of each level, axes and box code in our order."""
        theirs, flipped = self._axes.theirs, self._axes.flipped
        for number, level in enumerate(outputs.levels):
            count = len(level.anchors)
            scores = self._floats(level.scores)
            if outputs.scores_are == "probabilities":
                scores = self._logit(scores)
            self._give(f"logit_{number}", self._our_axes(scores), [count], level.scores)
            order = [
                6 * k + part + axis for k in range(count) for part in (0, 3) for axis in theirs
            ]
            signs = [-1.0 if flip else 1.0 for flip in flipped] + [1.0] * 3
            boxes = self._channels(self._floats(level.boxes), order, signs)
            self._give(f"delta_{number}", self._our_axes(boxes), [6 * count], level.boxes)

    def heatmap(self, outputs: HeatmapOutputs) -> None:
        """Give probability, ln of the diameter in mm, and offset in mm along z, y, x."""
        heat = self._map(outputs.heat)
        if outputs.heat_is == "logit":
            heat = self._add("Sigmoid", heat)
        size = self._map(outputs.size)
        if outputs.size_is == "mm":
            size = self._add("Log", self._add("Max", size, self._number(1e-3)))
        if outputs.offset:
            signs = [-1.0 if flip else 1.0 for flip in self._axes.flipped]
            offset = self._channels(self._floats(outputs.offset), list(self._axes.theirs), signs)
            offset = self._our_axes(offset)
        else:
            nothing = self._add("Unsqueeze", self._add("Sub", heat, heat), self._ints(1))
            offset = self._add("Concat", nothing, nothing, nothing, axis=1)
        for name, value, channels in (
            ("heat", heat, []),
            ("size", size, []),
            ("offset", offset, [3]),
        ):
            self._give(name, value, channels, outputs.heat)

    def model(self, network: Network, manifest: Manifest) -> onnx.ModelProto:
        """Return the whole model; its first axis is open, though the network may take one image."""
        inner = self._inner
        sizes = self._axes.ours(manifest.tile) if network.fixed else (None, None, None)
        graph = helper.make_graph(
            [*self._before, *inner.graph.node, *self._after],
            manifest.name,
            [helper.make_tensor_value_info("hu", TensorProto.INT16, ["N", *sizes])],
            [
                helper.make_tensor_value_info(
                    name,
                    TensorProto.FLOAT16,
                    ["N", *channels, *(edges if network.fixed else (None, None, None))],
                )
                for name, channels, edges in self._outputs
            ],
            [*inner.graph.initializer, *self._weights.values()],
        )
        graph.sparse_initializer.extend(inner.graph.sparse_initializer)
        model = helper.make_model(
            graph,
            opset_imports=inner.opset_import,
            functions=inner.functions,
            producer_name="lungmesh models import",
        )
        model.ir_version = min(inner.ir_version, MOST_IR)
        return model

    def _map(self, name: str) -> str:
        """Return a map of one channel as float32 [N, d, h, w]."""
        return self._add("Squeeze", self._our_axes(self._floats(name)), self._ints(1))

    def _floats(self, name: str) -> str:
        """Return an output of the network as float32 [N, channels, a, b, c]."""
        found = self._add("Cast", f"net/{name}", to=TensorProto.FLOAT)
        if name in self._maps.without_channel:
            found = self._add("Unsqueeze", found, self._ints(1))
        return found

    def _our_axes(self, name: str) -> str:
        """Return [N, channels, a, b, c] along z, y, x."""
        name = self._add("Transpose", name, perm=[0, 1, *(2 + axis for axis in self._axes.theirs)])
        return self._flipped(name, [2, 3, 4])

    def _flipped(self, name: str, places: list[int]) -> str:
        """Turn those of z, y, x round that are flipped; `places` are their axes in the tensor."""
        turned = [at for at, flip in zip(places, self._axes.flipped, strict=True) if flip]
        if not turned:
            return name
        count = len(turned)
        return self._add(
            "Slice",
            name,
            self._ints(*[_END] * count),
            self._ints(*[-_END] * count),
            self._ints(*turned),
            self._ints(*[-1] * count),
        )

    def _channels(self, name: str, order: list[int], signs: list[float]) -> str:
        """Reorder the channels and give them signs, which repeat."""
        name = self._add("Gather", name, self._ints(*order), axis=1)
        factors = np.resize(np.asarray(signs, np.float32), len(order)).reshape(1, -1, 1, 1, 1)
        return self._add("Mul", name, self._weight(f"signs_{len(self._weights)}", factors))

    def _logit(self, name: str) -> str:
        low = self._number(_LEAST_PROBABILITY)
        chance = self._add("Clip", name, low, self._number(1 - _LEAST_PROBABILITY))
        other = self._add("Sub", self._number(1.0), chance)
        return self._add("Sub", self._add("Log", chance), self._add("Log", other))

    def _give(self, name: str, value: str, channels: list[int], like: str) -> None:
        """Make a value an output; `like` is the network's output of the same edges."""
        self._nodes.append(helper.make_node("Cast", [value], [name], to=TensorProto.FLOAT16))
        self._outputs.append((name, channels, self._axes.ours(self._maps.edges[like])))

    def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"wire/{kind.lower()}_{len(self._before) + len(self._after)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _number(self, value: float) -> str:
        return self._weight(f"number_{value!r}", np.array(value, np.float32))

    def _ints(self, *values: int) -> str:
        return self._weight(
            "ints_" + "_".join(map(str, values)), np.asarray(values, np.int64).reshape(-1)
        )

    def _weight(self, name: str, value: npt.NDArray[np.generic]) -> str:
        name = f"wire/{name}"
        self._weights.setdefault(name, numpy_helper.from_array(value, name))
        return name
