"""A foreign ONNX network as it comes: read, checked against its manifest, and run once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from lungmesh.cli.importing.manifest import HeatmapOutputs, Manifest
from lungmesh.mesh.errors import BadInput

# The nodes that we add read so from 13 on; the ONNX Runtime of Triton 24.10 knows 21 and IR 10.
_OPSETS = range(13, 22)
MOST_IR = 10
# A protobuf cannot hold more.
_MOST_BYTES = 2 * 1024**3 - 1
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_HEAT_STRIDES = (1, 2, 4, 8)

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Network:
    """A network that takes one image.

    Attributes
    ----------
    model
        The ONNX model, its weights inside.
    image
        Name of its input.
    has_channel
        Whether the input is [N, 1, a, b, c] rather than [N, a, b, c].
    element
        Type of the input as ONNX numbers it.
    fixed
        Whether it takes images of one size only.
    """

    model: onnx.ModelProto
    image: str
    has_channel: bool
    element: int
    fixed: bool


@dataclass(frozen=True)
class Maps:
    """Shapes of the outputs for one tile, by name.

    Attributes
    ----------
    edges
        Voxels along the network's axes.
    channels
        Channels; 1 for an output [N, a, b, c].
    without_channel
        The outputs [N, a, b, c].
    """

    edges: Mapping[str, tuple[int, int, int]]
    channels: Mapping[str, int]
    without_channel: frozenset[str]


def read_network(path: Path, manifest: Manifest) -> Network:
    """Read an ONNX file and check that it is the network that the manifest tells of.

    Raises BadInput: one sentence that says what is wrong.
    """
    called = path.name
    model = _load(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise BadInput(f"the ONNX checker refuses {called}: {first_line(error)}") from error
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset not in _OPSETS:
        raise BadInput(
            f"{called} is of ONNX opset {opset}: export it with one from {_OPSETS[0]} to "
            f"{_OPSETS[-1]}"
        )
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        raise BadInput(
            f"{called} has {len(inputs)} inputs ({names}): a detector has one, the image"
        )
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in _FLOATS:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise BadInput(f"input {inputs[0].name} of {called} is {kind}: it must be FLOAT or FLOAT16")
    dims = [item.dim_value if item.HasField("dim_value") else None for item in tensor.shape.dim]
    if len(dims) not in (4, 5) or (len(dims) == 5 and dims[1] not in (1, None)):
        shown = [size if size is not None else "?" for size in dims]
        raise BadInput(
            f"input {inputs[0].name} of {called} is {shown}: it must be [N, 1, a, b, c] or "
            "[N, a, b, c], one image of one channel"
        )
    if dims[0] not in (1, None):
        raise BadInput(f"{called} takes {dims[0]} images at once: export it for one")
    sizes = dims[-3:]
    if any(size not in (None, edge) for size, edge in zip(sizes, manifest.tile, strict=True)):
        raise BadInput(
            f"{called} takes images of {[size or '?' for size in sizes]} voxels, but the tile of "
            f"the manifest is {list(manifest.tile)}"
        )
    answers = [item.name for item in model.graph.output]
    for name in manifest.outputs.names:
        if name not in answers:
            raise BadInput(f"{called} has no output {name}: it has {', '.join(answers)}")
    return Network(
        model=model,
        image=inputs[0].name,
        has_channel=len(dims) == 5,
        element=tensor.elem_type,
        fixed=any(size is not None for size in sizes),
    )


def read_maps(network: Network, manifest: Manifest, called: str) -> Maps:
    """Run the network on one empty tile and check the shapes of what it answers.

    Parameters
    ----------
    called
        How the errors name its file.

    Raises BadInput: one sentence that says what is wrong.
    """
    session = session_of(network.model.SerializeToString(), called)
    shape = (1, 1, *manifest.tile) if network.has_channel else (1, *manifest.tile)
    kind = helper.tensor_dtype_to_np_dtype(network.element)
    names = manifest.outputs.names
    try:
        answers = session.run(names, {network.image: np.zeros(shape, kind)})
    except Exception as error:
        raise BadInput(
            f"{called} cannot take a tile of {list(manifest.tile)}: {first_line(error)}"
        ) from error
    edges: dict[str, tuple[int, int, int]] = {}
    channels, bare = {}, []
    for name, answer in zip(names, answers, strict=True):
        if answer.ndim not in (4, 5) or answer.shape[0] != 1:
            raise BadInput(
                f"output {name} of {called} has the shape {list(answer.shape)}: it must be "
                "[N, channels, a, b, c]"
            )
        a, b, c = answer.shape[-3:]
        edges[name] = (a, b, c)
        channels[name] = answer.shape[1] if answer.ndim == 5 else 1
        if answer.ndim == 4:
            bare.append(name)
        if any(tile % edge for tile, edge in zip(manifest.tile, (a, b, c), strict=True)):
            raise BadInput(
                f"output {name} of {called} is {[a, b, c]} for a tile of {list(manifest.tile)}: "
                "the tile must be a whole multiple"
            )
    maps = Maps(edges, channels, frozenset(bare))
    if isinstance(manifest.outputs, HeatmapOutputs):
        _check_heatmap(maps, manifest, manifest.outputs, called)
    else:
        for level in manifest.outputs.levels:
            count = len(level.anchors)
            _want_channels(maps, level.scores, count, called)
            _want_channels(maps, level.boxes, 6 * count, called)
            _want_same_edges(maps, level.scores, level.boxes, called)
    return maps


def session_of(content: bytes, called: str) -> Any:
    """Return an ONNX Runtime session on the CPU.

    Raises BadInput when the runtime cannot run the network.
    """
    options = onnxruntime.SessionOptions()
    # What it would log it also raises.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BadInput(f"ONNX Runtime cannot run {called}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise BadInput(f"{path.name} is not an ONNX file") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise BadInput(
            f"the weights of {path.name} that stand in a file beside it cannot be read: "
            f"{first_line(error)}"
        ) from error
    if not model.graph.node:
        raise BadInput(f"{path.name} is not an ONNX file")
    if model.ByteSize() > _MOST_BYTES:
        raise BadInput(f"{path.name} is larger than 2 GiB with its weights: ONNX cannot hold it")
    return model


def _check_heatmap(maps: Maps, manifest: Manifest, outputs: HeatmapOutputs, called: str) -> None:
    for name in outputs.names:
        _want_channels(maps, name, 3 if name == outputs.offset else 1, called)
        _want_same_edges(maps, outputs.heat, name, called)
    strides = {
        tile // edge for tile, edge in zip(manifest.tile, maps.edges[outputs.heat], strict=True)
    }
    if len(strides) != 1 or not strides <= set(_HEAT_STRIDES):
        raise BadInput(
            f"output {outputs.heat} of {called} is {list(maps.edges[outputs.heat])} for a tile of "
            f"{list(manifest.tile)}: its stride must be 1, 2, 4 or 8, the same on every axis"
        )


def _want_channels(maps: Maps, name: str, count: int, called: str) -> None:
    if maps.channels[name] != count:
        raise BadInput(
            f"output {name} of {called} has {maps.channels[name]} channels, but by the manifest "
            f"it must have {count}"
        )


def _want_same_edges(maps: Maps, one: str, other: str, called: str) -> None:
    if maps.edges[one] != maps.edges[other]:
        raise BadInput(
            f"outputs {one} and {other} of {called} belong together, but are "
            f"{list(maps.edges[one])} and {list(maps.edges[other])}"
        )
