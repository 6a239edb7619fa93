"""TorchScript to ONNX, by PyTorch where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.importing.network import first_line
from lungmesh.mesh.errors import BadInput

SUFFIXES = (".ts", ".pt", ".pth", ".torchscript")
_OPSET = 17


def to_onnx(path: Path, tile: tuple[int, int, int], out: Path) -> None:
    """Convert a TorchScript network that takes one image [1, 1, a, b, c] of a tile's size.

    Its tensors become `output_0`, `output_1`, … in the order in which the network gives them, lists
    and dictionaries opened.

    Raises CommandError (USAGE) when PyTorch is not installed; BadInput when the file is no
    TorchScript or cannot be converted.
    """
    if importlib.util.find_spec("torch") is None:
        raise CommandError(
            f"{path.name} is TorchScript, and PyTorch, which converts it to ONNX, is not "
            "installed: run `pip install torch` beside lungmesh, or export the network to ONNX "
            "yourself (torch.onnx.export) and import that file",
            Exit.USAGE,
        )
    # Only here, and without types: it is large, and no dependency of lungmesh.
    torch: Any = importlib.import_module("torch")

    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(
            f"{path.name} is not TorchScript: a checkpoint of weights alone holds no network, so "
            "export it with torch.jit.script or torch.onnx.export"
        ) from error

    # A module, because a trace only knows what is registered in one.
    flat = type("Flat", (torch.nn.Module,), {"forward": _forward})()
    flat.network = network
    image = torch.zeros(1, 1, *tile)
    try:
        with torch.no_grad():
            names = [f"output_{number}" for number in range(len(flat(image)))]
            traced = torch.jit.trace(flat, image, check_trace=False, strict=False)
            torch.onnx.export(
                traced,
                (image,),
                str(out),
                dynamo=False,
                opset_version=_OPSET,
                input_names=["image"],
                output_names=names,
            )
    except Exception as error:
        raise BadInput(
            f"{path.name} cannot be converted to ONNX ({first_line(error)}): use torch.onnx.export "
            "where its Python code is, and import that file"
        ) from error


def _forward(self: Any, image: Any) -> Any:
    return tuple(_tensors(self.network(image)))


def _tensors(answer: Any) -> list[Any]:
    """Return the tensors of nested lists and dictionaries, in order."""
    if isinstance(answer, dict):
        return [item for value in answer.values() for item in _tensors(value)]
    if isinstance(answer, (list, tuple)):
        return [item for value in answer for item in _tensors(value)]
    return [answer]
