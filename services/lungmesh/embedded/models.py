"""The models: their versions and cards, where they lie, and the writing of a card.

A model is a folder below `models/`; each of its versions is a folder with `model.onnx` and the
`card.json` that says what it is. `models/README.md` lists the fields of a card. Triton's repository
is made of them by `repository.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from lungmesh.embedded import probe
from lungmesh.embedded.layout import DEFAULT_DATA
from lungmesh.mesh.errors import MeshError

CPU_BACKEND = "onnx_python_backend.py"
_TRITON_TYPES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "DOUBLE": "FP64",
    "INT8": "INT8",
    "INT16": "INT16",
    "INT32": "INT32",
    "INT64": "INT64",
    "UINT8": "UINT8",
}


class ModelsMissing(MeshError):
    """The models folder is neither in the source tree nor installed."""


class ModelUnfit(MeshError):
    """A model's folder, card or graph is not such that Triton could serve it."""


@dataclass(frozen=True)
class Model:
    """One version of a model, as its card says.

    Attributes
    ----------
    folder
        The version's folder: card, network, and `build.py` where a script makes it.
    card
        The content of card.json; see `models/README.md` for its fields.
    """

    folder: Path
    card: dict[str, Any]

    @property
    def name(self) -> str:
        """Name in results, and on Triton."""
        return str(self.card["name"])

    @property
    def version(self) -> str:
        """Version in results; the integer folder name that Triton wants."""
        return str(self.card["version"])

    @property
    def onnx(self) -> Path:
        """The network."""
        return self.folder / "model.onnx"


def models_folder() -> Path:
    """Return `models/` of the source tree, or the copy that the wheel installs.

    Raises ModelsMissing.
    """
    source = Path(__file__).resolve().parents[3] / "models"
    installed = Path(sysconfig.get_path("data")) / "share" / "lungmesh" / "models"
    for folder in (source, installed):
        if (folder / CPU_BACKEND).is_file():
            return folder
    raise ModelsMissing(f"there are no models at {source} or {installed}: install lungmesh again")


def user_folder(data: Path = DEFAULT_DATA) -> Path:
    """Return where imported models lie: `LUNGMESH_MODELS`, else a folder of the data directory."""
    named = os.environ.get("LUNGMESH_MODELS")
    return Path(named) if named else data / "imported-models"


def read_models(*folders: Path) -> list[Model]:
    """Return every version of every model, in order of name and version.

    Parameters
    ----------
    folders
        Folders of models, of which one may be missing; none takes `models_folder()` and
        `user_folder()`.

    Raises ModelUnfit when a card does not fit its place, or two folders hold the same version.
    """
    found: dict[tuple[str, int], Model] = {}
    for folder in folders or (models_folder(), user_folder()):
        for path in sorted(folder.glob("*/*/card.json")):
            model = Model(path.parent, json.loads(path.read_text(encoding="utf-8")))
            name, version = path.parts[-3:-1]
            if (model.name, model.version) != (name, version) or not version.isdecimal():
                raise ModelUnfit(
                    f"{path} is the card of {model.name} version {model.version}: it must lie at "
                    "<name>/<version>/card.json, the version an integer"
                )
            key = name, int(version)
            if key in found:
                raise ModelUnfit(
                    f"model {name} version {version} lies in {found[key].folder} and in "
                    f"{path.parent}: remove one of them, or give it another version"
                )
            found[key] = model
    return [found[key] for key in sorted(found)]


def write_card(
    network: Path,
    *,
    title: str,
    description: str,
    made_by: str,
    intended_use: Mapping[str, Any],
    max_batch_size: int,
    parameters: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]] | None = None,
    warm_up: Mapping[str, Sequence[int]] | None = None,
    ball_voxels: float = 10.0,
    seed: int = 0,
    tolerance: float = 0.01,
    serving: Mapping[str, Mapping[str, Any]] | None = None,
    licence: str = "Apache-2.0",
) -> Model:
    """Write the card of a network beside it: tensors from its graph, checksum, what it answers.

    Parameters
    ----------
    network
        `<name>/<version>/model.onnx`; its path names model and version.
    parameters
        What a client must know; JSON values. Detectors name their `family` here.
    shapes
        By input, the shape of the probe without the batch axis; needed where the graph leaves an
        axis open. None takes the graph's.
    warm_up
        By input, the shape that Triton warms up with; None takes `shapes`. Name the largest tile.
    ball_voxels, seed, tolerance
        Of the probe, see `probe.Probe`.
    serving
        Settings for `cpu` and `gpu` (`instances`, `preferred_batch`, `queue_delay_us`) that differ
        from the defaults of `repository.py`.

    Raises ModelUnfit, ProbeFailed, or OSError when the card cannot be written.
    """
    inputs, outputs = tensors(network)
    open_inputs = [item["name"] for item in inputs if -1 in item["dims"]]
    given = {item["name"]: item["dims"] for item in inputs} | dict(shapes or {})
    if any(-1 in dims for dims in given.values()):
        raise ModelUnfit(f"{network} leaves axes of {', '.join(open_inputs)} open: give `shapes`")
    asked = probe.Probe(
        {name: tuple(dims) for name, dims in given.items()}, ball_voxels, seed, tolerance
    )
    card: dict[str, Any] = {
        "name": network.parts[-3],
        "version": network.parts[-2],
        "title": title,
        "description": description,
        "made_by": made_by,
        "licence": licence,
        "intended_use": dict(intended_use),
        "inputs": inputs,
        "outputs": outputs,
        "max_batch_size": max_batch_size,
        "parameters": dict(parameters),
        "warm_up": {name: list(dims) for name, dims in (warm_up or given).items()},
        "serving": {target: dict(values) for target, values in (serving or {}).items()},
        "probe": probe.to_card(asked, probe.figures(probe.run(network, inputs, outputs, asked))),
        "sha256": checksum(network),
    }
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (network.parent / "card.json").write_text(text, encoding="utf-8")
    return Model(network.parent, card)


def checksum(network: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(network.read_bytes()).hexdigest()


def tensors(network: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a graph's inputs and outputs as a card lists them: name, type, dims (-1 is open).

    The first axis is the batch's and is not listed.

    Raises ModelUnfit when an axis of the batch is missing or a type is none of Triton's.
    """
    graph = onnx.load(network, load_external_data=False).graph
    weights = {item.name for item in graph.initializer}
    return (
        [_tensor(network, item) for item in graph.input if item.name not in weights],
        [_tensor(network, item) for item in graph.output],
    )


def _tensor(network: Path, item: Any) -> dict[str, Any]:
    tensor = item.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
    if kind not in _TRITON_TYPES:
        raise ModelUnfit(f"{network}: {item.name} is of type {kind}, which is not served")
    dims = [size.dim_value or -1 for size in tensor.shape.dim]
    if len(dims) < 2 or dims[0] != -1:
        raise ModelUnfit(f"{network}: {item.name} must have an open first axis, the batch's")
    return {"name": item.name, "type": _TRITON_TYPES[kind], "dims": dims[1:]}
