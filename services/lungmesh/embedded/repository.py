"""Triton's model repository: every version of every model, configured for a target.

The same ONNX file serves every target; config.pbtxt differs, and is generated from the cards.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

from lungmesh.embedded.models import (
    CPU_BACKEND,
    Model,
    ModelUnfit,
    checksum,
    models_folder,
    read_models,
)

# What all versions share, because Triton keeps one configuration a model.
_SHARED = ("inputs", "outputs", "max_batch_size")
_TENSORRT_WORKSPACE_BYTES = 1024**3
# Of Triton's ONNX Runtime backend.
_BY_HEURISTIC = 1


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


def write_repository(
    out: Path,
    target: Target,
    threads: int = 2,
    folders: Sequence[Path] = (),
    tensorrt: bool = False,
) -> list[Model]:
    """Write a Triton model repository that holds every version of every model.

    Models that the folder holds already are removed first.

    Parameters
    ----------
    threads
        CPU target: threads of one model instance.
    folders
        Folders of models; none takes those of `read_models`.
    tensorrt
        GPU target: let ONNX Runtime hand the graph to TensorRT, in half precision. It builds an
        engine for each new shape and keeps it in the server's working directory; its kernels are
        chosen by timing, so the last digits of an answer may differ between two builds.

    Raises ModelUnfit, ModelsMissing.
    """
    models = read_models(*folders)
    for old in out.glob("*/config.pbtxt"):
        shutil.rmtree(old.parent)
    for name, group in groupby(models, key=lambda model: model.name):
        versions = list(group)
        for model in versions:
            place = out / name / model.version
            place.mkdir(parents=True)
            shutil.copyfile(model.onnx, place / "model.onnx")
            if checksum(place / "model.onnx") != model.card["sha256"]:
                raise ModelUnfit(
                    f"the file of model {name} version {model.version} has not the checksum of "
                    "its card"
                )
            if target is Target.CPU:
                shutil.copyfile(models_folder() / CPU_BACKEND, place / "model.py")
        (out / name / "config.pbtxt").write_text(
            config_pbtxt(versions, target, threads, tensorrt), encoding="utf-8"
        )
    return models


def config_pbtxt(
    versions: Sequence[Model], target: Target, threads: int = 2, tensorrt: bool = False
) -> str:
    """Return Triton's configuration of a model, all of its versions served side by side.

    Each version's parameters and checksum go in as one JSON text, `card.<version>`, so that a
    client can ask Triton for them. How it is served is the newest version's say.

    Raises ModelUnfit when the versions do not share their tensors.
    """
    newest = versions[-1].card
    for model in versions[:-1]:
        for field in _SHARED:
            if model.card[field] != newest[field]:
                raise ModelUnfit(
                    f"versions {model.version} and {newest['version']} of model {model.name} "
                    f"differ in {field}: give the newer one a name of its own"
                )
    on_gpu = target is Target.GPU
    serving = newest.get("serving", {}).get(target.value, {})
    lines = [
        f'name: "{newest["name"]}"',
        'backend: "onnxruntime"' if on_gpu else 'backend: "python"',
        f"max_batch_size: {newest['max_batch_size']}",
        *(_tensor("input", item) for item in newest["inputs"]),
        *(_tensor("output", item) for item in newest["outputs"]),
        f"instance_group [{{ count: {serving.get('instances', 1)} "
        f"kind: {'KIND_GPU' if on_gpu else 'KIND_CPU'} }}]",
        _batching(serving),
        f"version_policy {{ specific {{ versions: {json.dumps(_numbers(versions))} }} }}",
        _warm_up(newest),
    ]
    if on_gpu and tensorrt:
        lines.append(_tensorrt())
    lines += [
        _parameter(
            f"card.{model.version}", {**model.card["parameters"], "sha256": model.card["sha256"]}
        )
        for model in versions
    ]
    # On the GPU the other way is to time every algorithm, at each new shape: slow, and whichever
    # wins decides the last digits.
    lines.append(
        _parameter("cudnn_conv_algo_search", _BY_HEURISTIC)
        if on_gpu
        else _parameter("threads", threads)
    )
    return "\n".join(lines) + "\n"


def _numbers(versions: Sequence[Model]) -> list[int]:
    return [int(model.version) for model in versions]


def _tensor(kind: str, item: dict[str, Any]) -> str:
    dims = ", ".join(str(size) for size in item["dims"])
    return f'{kind} [{{ name: "{item["name"]}" data_type: TYPE_{item["type"]} dims: [{dims}] }}]'


def _batching(serving: dict[str, Any]) -> str:
    """Requests that wait at the same time go together; by default none is held back for others."""
    preferred = serving.get("preferred_batch", [])
    sizes = f"preferred_batch_size: {json.dumps(preferred)} " if preferred else ""
    delay = serving.get("queue_delay_us", 0)
    return f"dynamic_batching {{ {sizes}max_queue_delay_microseconds: {delay} }}"


def _warm_up(card: dict[str, Any]) -> str:
    """One request of zeros (water) before the version counts as loaded."""
    shapes = card.get("warm_up") or {item["name"]: item["dims"] for item in card["inputs"]}
    inputs = " ".join(
        f'inputs {{ key: "{item["name"]}" value {{ data_type: TYPE_{item["type"]} '
        f"dims: {json.dumps(list(shapes[item['name']]))} zero_data: true }} }}"
        for item in card["inputs"]
    )
    return f'model_warmup [{{ name: "zeros" batch_size: 1 {inputs} }}]'


def _tensorrt() -> str:
    parameters = {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": str(_TENSORRT_WORKSPACE_BYTES),
        "trt_engine_cache_enable": "1",
    }
    listed = " ".join(
        f'parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items()
    )
    return (
        "optimization { execution_accelerators { gpu_execution_accelerator: "
        f'[{{ name: "tensorrt" {listed} }}] }} }}'
    )


def _parameter(name: str, value: Any) -> str:
    # JSON twice: the text format escapes a string as JSON does.
    text = json.dumps(json.dumps(value))
    return f'parameters {{ key: "{name}" value {{ string_value: {text} }} }}'
