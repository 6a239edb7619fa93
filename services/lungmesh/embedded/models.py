"""The models: their cards, and the repository that Triton serves, written for a target.

A model is a folder below `models/`: `card.json`, `build.py` that makes it, `<version>/model.onnx`.
The same ONNX file serves every target; config.pbtxt differs, and is generated from the card.
"""

from __future__ import annotations

import json
import shutil
import sysconfig
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lungmesh.mesh.errors import MeshError

_CPU_BACKEND = "onnx_python_backend.py"


class Target(Enum):
    """What Triton runs on.

    Attributes
    ----------
    CPU
        The embedded Triton: its Python backend with ONNX Runtime inside.
    GPU
        NVIDIA's Triton image: its own ONNX Runtime backend.
    """

    CPU = "cpu"
    GPU = "gpu"


class ModelsMissing(MeshError):
    """The models folder is neither in the source tree nor installed."""


@dataclass(frozen=True)
class Model:
    """One version of a model, as its card says.

    Attributes
    ----------
    folder
        Where card, script and versions lie.
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
        return self.folder / self.version / "model.onnx"


def models_folder() -> Path:
    """Return `models/` of the source tree, or the copy that the wheel installs.

    Raises ModelsMissing.
    """
    source = Path(__file__).resolve().parents[3] / "models"
    installed = Path(sysconfig.get_path("data")) / "share" / "lungmesh" / "models"
    for folder in (source, installed):
        if (folder / _CPU_BACKEND).is_file():
            return folder
    raise ModelsMissing(f"there are no models at {source} or {installed}: install lungmesh again")


def read_models(folder: Path | None = None) -> list[Model]:
    """Return the models in order of name.

    Parameters
    ----------
    folder
        A folder of models; None takes `models_folder()`.
    """
    return [
        Model(card.parent, json.loads(card.read_text(encoding="utf-8")))
        for card in sorted((folder or models_folder()).glob("*/card.json"))
    ]


def write_repository(
    out: Path, target: Target, threads: int = 2, folder: Path | None = None
) -> list[Model]:
    """Write a Triton model repository that holds every model, replacing what was there.

    Parameters
    ----------
    threads
        CPU target: threads of one model instance.
    folder
        A folder of models; None takes `models_folder()`.
    """
    folder = folder or models_folder()
    models = read_models(folder)
    for model in models:
        place = out / model.name
        shutil.rmtree(place, ignore_errors=True)
        version = place / model.version
        version.mkdir(parents=True)
        shutil.copyfile(model.onnx, version / "model.onnx")
        if target is Target.CPU:
            shutil.copyfile(folder / _CPU_BACKEND, version / "model.py")
        (place / "config.pbtxt").write_text(config_pbtxt(model, target, threads))
    return models


def config_pbtxt(model: Model, target: Target, threads: int = 2) -> str:
    """Return Triton's model configuration.

    The card's parameters go in as JSON texts, so that a client can ask Triton for them.
    """
    card = model.card
    on_gpu = target is Target.GPU
    lines = [
        f'name: "{model.name}"',
        'backend: "onnxruntime"' if on_gpu else 'backend: "python"',
        f"max_batch_size: {card['max_batch_size']}",
        *(_tensor("input", item) for item in card["inputs"]),
        *(_tensor("output", item) for item in card["outputs"]),
        f"instance_group [{{ count: 1 kind: {'KIND_GPU' if on_gpu else 'KIND_CPU'} }}]",
        # A request that comes alone is not held back.
        "dynamic_batching { max_queue_delay_microseconds: 0 }",
        f"version_policy: {{ specific: {{ versions: [{model.version}] }} }}",
    ]
    parameters = {**card["parameters"], "sha256": card["sha256"]}
    if not on_gpu:
        parameters["threads"] = threads
    for name, value in parameters.items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f'parameters {{ key: "{name}" value: {{ string_value: "{text}" }} }}')
    return "\n".join(lines) + "\n"


def _tensor(kind: str, item: dict[str, Any]) -> str:
    dims = ", ".join(str(size) for size in item["dims"])
    return f'{kind} [{{ name: "{item["name"]}" data_type: TYPE_{item["type"]} dims: [{dims}] }}]'
