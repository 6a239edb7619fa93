"""`lungmesh models …`: what Triton serves, and whether it is what the cards say."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from rich.table import Table

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.show import Show
from lungmesh.embedded import probe
from lungmesh.embedded.layout import DEFAULT_DATA
from lungmesh.embedded.models import (
    Model,
    ModelUnfit,
    checksum,
    models_folder,
    read_models,
    tensors,
    user_folder,
)
from lungmesh.embedded.repository import Target, write_repository


def list_models(show: Show, data: Path = DEFAULT_DATA) -> None:
    """Show each version's card: name, version, checksum, what it was made for.

    Parameters
    ----------
    data
        Data directory, where imported models lie; `LUNGMESH_MODELS` goes before it.

    Raises CommandError (BELOW_STANDARD) when two cards are at odds.
    """
    table = Table(title="models", title_justify="left")
    for column in ("name", "version", "sha256", "what it is", "made for"):
        table.add_column(column)
    rows = [
        {
            "name": model.name,
            "version": model.version,
            "sha256": model.card["sha256"],
            "title": model.card["title"],
            "intended_use": model.card["intended_use"],
            "folder": str(model.folder),
        }
        for model in _read(data)
    ]
    for row in rows:
        table.add_row(
            row["name"],
            row["version"],
            row["sha256"][:12],
            row["title"],
            _made_for(row["intended_use"]),
        )
    show.table(table, "models", rows)


def verify_models(show: Show, data: Path = DEFAULT_DATA) -> None:
    """Check each version's file against its card, its script if it has one, and its probe.

    Parameters
    ----------
    data
        Data directory, where imported models lie; `LUNGMESH_MODELS` goes before it.

    Raises CommandError (BELOW_STANDARD) naming the first version that is not what its card says.
    """
    for model in _read(data):
        for check in (_checksum, _same_when_built_again, _graph, _answers_its_probe):
            problem = check(model)
            if problem:
                raise CommandError(
                    f"model {model.name} version {model.version} {problem}", Exit.BELOW_STANDARD
                )
        show.note(
            f"{model.name} version {model.version}: as its card says",
            name=model.name,
            version=model.version,
        )


def write_models(
    out: Path, target: Target, tensorrt: bool, show: Show, data: Path = DEFAULT_DATA
) -> None:
    """Write the model repository for a Triton that others run.

    Parameters
    ----------
    tensorrt
        GPU target: let TensorRT run the networks.
    data
        Data directory, where imported models lie; `LUNGMESH_MODELS` goes before it.

    Raises CommandError when a model is unfit or the folder cannot be written.
    """
    try:
        models = write_repository(out, target, folders=_folders(data), tensorrt=tensorrt)
    except ModelUnfit as error:
        raise CommandError(str(error), Exit.BELOW_STANDARD) from error
    except OSError as error:
        raise CommandError(
            f"{out} cannot be written ({error.strerror}): choose another folder", Exit.OUTPUT
        ) from error
    listed = ", ".join(f"{model.name} {model.version}" for model in models)
    show.note(
        f"{out} is for Triton on the {target.value}: {listed}",
        folder=str(out),
        target=target.value,
    )


def _read(data: Path) -> list[Model]:
    try:
        return read_models(*_folders(data))
    except ModelUnfit as error:
        raise CommandError(str(error), Exit.BELOW_STANDARD) from error


def _folders(data: Path) -> tuple[Path, Path]:
    return models_folder(), user_folder(data)


def _made_for(use: dict[str, Any]) -> str:
    told = [", ".join(use.get("nodule_types", []))]
    if "slice_thickness_mm" in use:
        told.append(f"slices up to {use['slice_thickness_mm']['max']} mm")
    return "; ".join(part for part in told if part) or "not said"


def _checksum(model: Model) -> str:
    found = checksum(model.onnx)
    return "" if found == model.card["sha256"] else "does not have the checksum of its card"


def _same_when_built_again(model: Model) -> str:
    script = model.folder / "build.py"
    if not script.is_file():
        return ""
    build: Callable[[], bytes] = runpy.run_path(str(script))["build"]
    same = build() == model.onnx.read_bytes()
    return "" if same else "is not what its build.py makes"


def _graph(model: Model) -> str:
    """Let the ONNX checker look at the graph, and compare its tensors with the card's."""
    try:
        onnx.checker.check_model(model.onnx, full_check=True)
        inputs, outputs = tensors(model.onnx)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return f"is refused by the ONNX checker: {str(error).splitlines()[0]}"
    except ModelUnfit as error:
        return f"cannot be served: {error}"
    for side, found in (("inputs", inputs), ("outputs", outputs)):
        told = model.card[side]
        if [(item["name"], item["type"]) for item in found] != [
            (item["name"], item["type"]) for item in told
        ] or not all(map(_fits, found, told)):
            return f"has the {side} {found}, which is not what its card says"
    return ""


def _fits(found: dict[str, Any], told: dict[str, Any]) -> bool:
    """An axis that the graph leaves open, the card may fix."""
    return len(found["dims"]) == len(told["dims"]) and all(
        size in (-1, wanted) for size, wanted in zip(found["dims"], told["dims"], strict=True)
    )


def _answers_its_probe(model: Model) -> str:
    card = model.card
    asked = probe.from_card(card)
    try:
        answers = probe.run(model.onnx, card["inputs"], card["outputs"], asked)
        for item in card["outputs"]:
            if not probe.has_shape(answers[item["name"]], item["dims"]):
                return f"answers {item['name']} with the shape {answers[item['name']].shape}"
        return probe.difference(card, answers)
    except probe.ProbeFailed as error:
        return f"fails its probe: {error}"
