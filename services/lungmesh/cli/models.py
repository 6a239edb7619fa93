"""`lungmesh models …`: what Triton serves, and whether it is what the cards say."""

from __future__ import annotations

import hashlib
import runpy
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from rich.table import Table

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.show import Show
from lungmesh.embedded.models import Model, read_models


def list_models(show: Show) -> None:
    """Show each model's card: name, version, checksum, what it was made for."""
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
        }
        for model in read_models()
    ]
    for row in rows:
        use = row["intended_use"]
        table.add_row(
            row["name"],
            row["version"],
            row["sha256"][:12],
            row["title"],
            f"{', '.join(use['nodule_types'])}; slices up to {use['slice_thickness_mm']['max']} mm",
        )
    show.table(table, "models", rows)


def verify_models(show: Show) -> None:
    """Check each model's file against its card and its script, and run it.

    Raises CommandError (BELOW_STANDARD) naming the first model that is not what its card says.
    """
    for model in read_models():
        for check in (_checksum, _same_when_built_again, _runs):
            problem = check(model)
            if problem:
                raise CommandError(
                    f"model {model.name} version {model.version} {problem}", Exit.BELOW_STANDARD
                )
        show.note(f"{model.name} version {model.version}: as its card says", name=model.name)


def _checksum(model: Model) -> str:
    found = hashlib.sha256(model.onnx.read_bytes()).hexdigest()
    return "" if found == model.card["sha256"] else "does not have the checksum of its card"


def _same_when_built_again(model: Model) -> str:
    build: Callable[[], bytes] = runpy.run_path(str(model.folder / "build.py"))["build"]
    same = build() == model.onnx.read_bytes()
    return "" if same else "is not what its build.py makes"


def _runs(model: Model) -> str:
    """Let the ONNX checker look at the graph, and run it once on air."""
    onnx.checker.check_model(onnx.load(model.onnx), full_check=True)
    session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
    feed = {
        item["name"]: np.full((1, *item["dims"]), -850, np.int16) for item in model.card["inputs"]
    }
    answers = session.run([item["name"] for item in model.card["outputs"]], feed)
    for item, answer in zip(model.card["outputs"], answers, strict=True):
        if list(answer.shape[1:]) != item["dims"]:
            return f"answers {item['name']} with the shape {answer.shape[1:]}"
    return ""
