"""`lungmesh models …`: what Triton serves, and whether it is what the cards say."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from typing import Any

import onnx
from rich.table import Table

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.show import Show
from lungmesh.embedded import probe
from lungmesh.embedded.models import Model, ModelUnfit, checksum, read_models, tensors


def list_models(show: Show) -> None:
    """Show each version's card: name, version, checksum, what it was made for."""
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
        for model in read_models()
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


def verify_models(show: Show) -> None:
    """Check each version's file against its card, its script if it has one, and its probe.

    Raises CommandError (BELOW_STANDARD) naming the first version that is not what its card says.
    """
    for model in read_models():
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
