"""Writes the trained networks as ONNX with their cards: `python -m models.training.export`.

Batch normalisation is folded into the convolutions, windows, sigmoids and casts are in the graph.
Each ONNX file is run beside its PyTorch network and must give the same answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from lungmesh.embedded import probe
from lungmesh.embedded.models import write_card
from models.training.networks import Detector, Reducer, Segmenter
from models.training.segmenter import inner, whole
from models.training.simulation.lidc import CACHE, ROOT

# What the ONNX Runtime inside Triton 24.10 reads.
_OPSET, _IR = 17, 8
# Largest difference between ONNX and PyTorch: half precision at the outputs rounds by as much.
_AGREE = 4e-3
_TILE = 192
_MADE_FOR: dict[str, Any] = {
    "purpose": "Decision support for a reader; research use, not a cleared device",
    "age_years": {"min": 18},
    "nodule_types": ["solid", "part_solid", "non_solid"],
    "nodule_diameter_mm": {"min": 3, "max": 30},
    "contrast": "with or without",
    "slice_thickness_mm": {"max": 3.0},
    "scanner": "any CT that gives HU; not made for cone-beam CT",
}


class _Detect(nn.Module):
    """Answers as the service reads them."""

    def __init__(self, network: Detector) -> None:
        super().__init__()
        self.network = network

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heat, size, offset = self.network(hu)
        return torch.sigmoid(heat).half(), size.half(), offset.half()


class _Reduce(nn.Module):
    def __init__(self, network: Reducer) -> None:
        super().__init__()
        self.network = network

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        # The mean of the crop and its mirror image is surer than either.
        nodule, kind = self.network(hu)
        other, kind_of_other = self.network(hu.flip(-1))
        return (
            (torch.sigmoid(nodule) + torch.sigmoid(other)) / 2,
            (torch.softmax(kind, 1) + torch.softmax(kind_of_other, 1)) / 2,
        )


class _Segment(nn.Module):
    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, hu: Tensor) -> Tensor:
        return whole(torch.sigmoid(self.network(inner(hu)))).half()


@dataclass(frozen=True)
class Recipe:
    """One network on its way from a checkpoint to a model folder.

    Attributes
    ----------
    shape
        Of an example without the batch axis.
    open_axes
        True where every request may choose the sizes.
    """

    name: str
    make: Callable[[], nn.Module]
    wrap: Callable[[Any], nn.Module]
    outputs: tuple[str, ...]
    shape: tuple[int, int, int]
    open_axes: bool
    title: str
    description: str
    parameters: dict[str, Any]
    warm_up: tuple[int, int, int]
    largest_batch: int
    gpu: dict[str, Any] = field(default_factory=dict)

    @property
    def script(self) -> str:
        """The module that trains it."""
        return self.name.removeprefix("nodule_")

    @property
    def checkpoint(self) -> Path:
        """Where its training leaves the weights."""
        return CACHE / f"{self.script}.pt"


RECIPES = (
    Recipe(
        "nodule_detector",
        Detector,
        _Detect,
        ("heat", "size", "offset"),
        (64, 64, 64),
        True,
        "Lung nodule detector, a heat map of centres",
        "Fully convolutional 3D network on 1 mm voxels, anchor-free. Trained on simulated nodules: "
        "shapes of LIDC-IDRI's readers in two real lungs, varied, and in lungs made by rule.",
        {
            "family": "heatmap",
            "grid_mm": 1.0,
            "tile": _TILE,
            "halo": 16,
            "stride": 2,
            "least_heat": 0.03,
        },
        (_TILE, _TILE, _TILE),
        2,
    ),
    Recipe(
        "nodule_reducer",
        Reducer,
        _Reduce,
        ("nodule", "kind"),
        (40, 40, 40),
        False,
        "False-positive reducer and nodule type",
        "3D network on a crop around a candidate: nodule or not, and solid, part-solid, non-solid "
        "or calcified. Trained on simulated nodules against what the detector takes for one.",
        {"step_mm": 0.8, "kinds": ["solid", "part_solid", "non_solid", "calcified"]},
        (40, 40, 40),
        16,
        {"preferred_batch": [8, 16], "queue_delay_us": 500},
    ),
    Recipe(
        "nodule_segmenter",
        Segmenter,
        _Segment,
        ("share",),
        (64, 64, 64),
        False,
        "Nodule segmenter: how much of each voxel is nodule, and its solid part",
        "Small 3D U-Net on a crop around a nodule, two channels. Trained on simulated nodules, "
        "whose truth is exact below a voxel.",
        {"least_step_mm": 0.5, "widest_diameters": 2.5, "channels": ["nodule", "solid_part"]},
        (64, 64, 64),
        8,
        {"preferred_batch": [4, 8], "queue_delay_us": 500},
    ),
)


def trained(recipe: Recipe, checkpoint: Path) -> nn.Module:
    """Return a network that takes and answers what its exported graph does."""
    network = recipe.make()
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    return recipe.wrap(network).eval()


def export(recipe: Recipe, checkpoint: Path, version: str, out: Path) -> float:
    """Write `<out>/<name>/<version>/model.onnx` and its card; return how far ONNX is off.

    Raises ValueError when ONNX and PyTorch do not agree.
    """
    wrapped = trained(recipe, checkpoint)
    target = out / recipe.name / version / "model.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    example = torch.zeros((1, *recipe.shape), dtype=torch.int16)
    axes = {0: "batch"} | ({1: "z", 2: "y", 3: "x"} if recipe.open_axes else {})
    torch.onnx.export(
        wrapped,
        (example,),
        str(target),
        input_names=["hu"],
        output_names=list(recipe.outputs),
        dynamic_axes={
            name: axes if name == "hu" else _out(axes, name) for name in ("hu", *recipe.outputs)
        },
        opset_version=_OPSET,
        dynamo=False,
    )
    graph = onnx.load(target)
    graph.ir_version = _IR
    onnx.save(graph, target)
    off = _difference(recipe, wrapped, target)
    if off > _AGREE:
        raise ValueError(f"{recipe.name}: ONNX is {off:.4f} off PyTorch, more than {_AGREE}")
    write_card(
        target,
        title=recipe.title,
        description=recipe.description,
        made_by=f"models/training/{recipe.script}.py",
        intended_use=_MADE_FOR,
        max_batch_size=recipe.largest_batch,
        parameters=recipe.parameters,
        shapes={"hu": recipe.shape},
        warm_up={"hu": recipe.warm_up},
        serving={"gpu": recipe.gpu} if recipe.gpu else None,
    )
    return off


def _out(axes: dict[int, str], name: str) -> dict[int, str]:
    if len(axes) == 1:
        return axes
    shift = 1 if name == "offset" else 0
    return {0: "batch"} | {axis + shift: f"{name}_{axes[axis]}" for axis in (1, 2, 3)}


def _difference(recipe: Recipe, wrapped: nn.Module, target: Path) -> float:
    """Return the largest difference on a phantom, as a share of the output's largest value."""
    ball = probe.phantom(recipe.shape, 3)[None]
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    ours = session.run(list(recipe.outputs), {"hu": ball})
    with torch.no_grad():
        theirs = wrapped(torch.from_numpy(ball))
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    return max(
        float(np.abs(a.astype(np.float32) - b.float().numpy()).max())
        / max(1.0, float(b.float().abs().max()))
        for a, b in zip(ours, theirs, strict=True)
    )


def main() -> None:
    """Export what has a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="name of one network")
    parser.add_argument("--version", default="1")
    parser.add_argument("--out", type=Path, default=ROOT / "models")
    asked = parser.parse_args()
    for recipe in RECIPES:
        checkpoint = recipe.checkpoint
        if asked.only in (None, recipe.name) and checkpoint.is_file():
            off = export(recipe, checkpoint, asked.version, asked.out)
            size = (asked.out / recipe.name / asked.version / "model.onnx").stat().st_size
            print(f"{recipe.name} {asked.version}: {size / 1e6:.1f} MB, off PyTorch by {off:.5f}")


if __name__ == "__main__":
    main()
