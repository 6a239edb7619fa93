"""Detectors that somebody else might bring: RetinaNets with analytic weights that find a ball.

Three levels as MONAI's `lung_nodule_ct_detection` has them (strides 4, 4, 2 and two and four times
that), scores first and then boxes. Weights are computed, not trained: the score compares a small
ball with a shell around it, the box comes of the brightness' centre and mass.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

RAS_SPACING = (0.703125, 0.703125, 1.25)
RAS_TILE = (80, 80, 64)
SHAPES = ((6, 8, 4), (8, 6, 5), (10, 10, 6))
SCALES = (1, 2, 4)
STRIDES = (4, 4, 2)
WINDOW = (-1024.0, 300.0)
LUNG_HU, SOFT_HU = -860.0, 40.0
# Radii of level 0 in mm: the core, the shell, and the ball whose mass is weighed.
_CORE_MM, _SHELL_MM, _MASS_MM = 2.5, (7.0, 9.0), 8.0
# The logit is the slope times (core - shell) less the offset; anchors and levels differ a little.
_SLOPE, _OFFSET = 16.0, 8.0


def write_network(
    path: Path, tile: tuple[int, int, int] | None = None, spacing: tuple[float, ...] = RAS_SPACING
) -> Path:
    """Write an ONNX RetinaNet: `image` [N, 1, a, b, c] in 0 … 1 to `output_0` … `output_5`.

    Parameters
    ----------
    tile
        The one image size that it takes; None takes any whose edges are multiples of 16.
    spacing
        mm along its axes.
    """
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, onnx.TensorProto] = {}

    def weight(name: str, value: npt.ArrayLike) -> str:
        weights[name] = numpy_helper.from_array(np.asarray(value, np.float32), name)
        return name

    def node(kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    lung, soft = ((hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0]) for hu in (LUNG_HU, SOFT_HU))
    # 0 in lung with its noise, 1 in soft tissue.
    low = lung + 0.2 * (soft - lung)
    bright = node("Div", node("Sub", "image", weight("low", low)), weight("span", soft - low))
    bright = node("Clip", bright, weight("zero", 0.0), weight("one", 1.0))
    for level, scale in enumerate(SCALES):
        field = bright
        if scale > 1:
            field = node("AveragePool", bright, kernel_shape=[scale] * 3, strides=[scale] * 3)
        bank = _bank(spacing)
        found = node(
            "Conv",
            field,
            weight(f"bank_{level}", bank),
            strides=list(STRIDES),
            pads=[edge // 2 for edge in bank.shape[2:]] * 2,
        )
        parts = _channels(node, weights, found)
        score = node("Sub", parts[0], parts[1])
        score = node("Mul", score, weight("slope", _SLOPE))
        biases = [-_OFFSET - 0.5 * anchor - level for anchor in range(len(SHAPES))]
        bias = weight(f"bias_{level}", np.reshape(biases, (1, -1, 1, 1, 1)))
        node("Add", score, bias, name=f"output_{level}")
        # The mass of a ball of 1 voxel at least: no division by nothing.
        mass = node("Max", parts[2], weight("least", 1.0))
        codes = []
        for shape in SHAPES:
            anchor = [2 * round(edge * scale / 2) for edge in shape]
            for axis in range(3):
                centre = node("Div", parts[3 + axis], mass)
                # A pooled voxel's middle lies half its edge less half a voxel behind its first.
                centre = node("Mul", centre, weight(f"scale_{level}", scale))
                centre = node("Add", centre, weight(f"shift_{level}", (scale - 1) / 2))
                edge = weight(f"edge_{anchor[axis]}", anchor[axis])
                codes.append(node("Div", centre, edge))
            for axis in range(3):
                # Diameter in voxels along this axis of a ball with this mass.
                volume = math.prod(spacing) * scale**3
                factor = 6 * volume / math.pi / (anchor[axis] * spacing[axis]) ** 3
                name = weight(f"factor_{level}_{anchor[axis]}_{axis}", factor)
                growth = node("Log", node("Mul", mass, name))
                codes.append(node("Mul", growth, weight("third", 1 / 3)))
        node("Concat", *codes, name=f"output_{level + len(SCALES)}", axis=1)
    edges = list(tile) if tile else ["A", "B", "C"]
    batch = 1 if tile else "N"
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "ball_finder",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, *edges])],
            [
                helper.make_tensor_value_info(f"output_{k}", TensorProto.FLOAT, [None] * 5)
                for k in range(2 * len(SCALES))
            ],
            list(weights.values()),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_heatmap(path: Path) -> Path:
    """Write an ONNX heatmap network: `x` [N, 1, a, b, c], HU / 1000, to `y`, logits, and `mm`.

    Cubic voxels of 1 mm, stride 2. Every diameter is 10 mm.
    """
    weights = {}

    def weight(name: str, value: npt.ArrayLike) -> str:
        weights[name] = numpy_helper.from_array(np.asarray(value, np.float32), name)
        return name

    reach = math.ceil(_SHELL_MM[1])
    places = np.meshgrid(*[np.arange(-reach, reach) + 0.5] * 3, indexing="ij")
    away = np.sqrt(sum(place**2 for place in places))
    # A core as large as the ball answers most in its middle; logits up to 4 still differ as halves.
    core = away <= 5.0
    shell = (away >= _SHELL_MM[0]) & (away <= _SHELL_MM[1])
    contrast = (core / core.sum() - shell / shell.sum())[None, None]
    filters = contrast * 10 * 1000 / (SOFT_HU - LUNG_HU)
    nodes = [
        helper.make_node(
            "Conv",
            ["x", weight("filter", filters), weight("bias", [-6.0])],
            ["y"],
            strides=[2] * 3,
            pads=[reach - 1] * 6,
        ),
        helper.make_node("Mul", ["y", weight("none", 0.0)], ["nothing"]),
        helper.make_node("Add", ["nothing", weight("ten", 10.0)], ["mm"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "heatmap",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "A", "B", "C"])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 5)
                for name in ("y", "mm")
            ],
            list(weights.values()),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def _channels(node: Any, weights: dict[str, onnx.TensorProto], found: str) -> list[str]:
    """Return the six channels of a bank's answer, each [N, 1, a, b, c]."""
    parts = []
    for channel in range(6):
        name = f"channel_{channel}"
        weights[name] = numpy_helper.from_array(np.array([channel], np.int64), name)
        parts.append(node("Gather", found, name, axis=1))
    return parts


def _bank(spacing: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Return filters [6, 1, a, b, c]: core, shell, mass, and mass times place along each axis."""
    reach = [math.ceil(_SHELL_MM[1] / mm) for mm in spacing]
    places = np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij")
    away = np.sqrt(sum((place * mm) ** 2 for place, mm in zip(places, spacing, strict=True)))
    core = away <= _CORE_MM
    shell = (away >= _SHELL_MM[0]) & (away <= _SHELL_MM[1])
    mass = (away <= _MASS_MM).astype(float)
    bank = [core / core.sum(), shell / shell.sum(), mass, *(mass * place for place in places)]
    return np.stack(bank)[:, None]


def manifest_of(network: Path, **changes: Any) -> dict[str, Any]:
    """Return the manifest of `write_network`'s file, with some fields changed."""
    count = len(SCALES)
    return {
        "name": "ball_finder",
        "version": 1,
        "title": "A ball finder",
        "licence": "Apache-2.0",
        "sha256": hashlib.sha256(network.read_bytes()).hexdigest(),
        "intended_use": {"purpose": "tests"},
        "axes": "RAS",
        "spacing_mm": list(RAS_SPACING),
        "tile": list(RAS_TILE),
        "window": {"low": WINDOW[0], "high": WINDOW[1], "to": [0, 1]},
        "outputs": {
            "family": "retinanet",
            "levels": [
                {
                    "scores": f"output_{level}",
                    "boxes": f"output_{level + count}",
                    "anchors": [
                        [2 * round(edge * scale / 2) for edge in shape] for shape in SHAPES
                    ],
                }
                for level, scale in enumerate(SCALES)
            ],
        },
        **changes,
    }


def write_manifest(path: Path, content: dict[str, Any]) -> Path:
    """Write a manifest as YAML, or as JSON where the name says so."""
    text = json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content)
    path.write_text(text, encoding="utf-8")
    return path


def write_bundle(folder: Path) -> Path:
    """Write a bundle in the layout of MONAI's `lung_nodule_ct_detection`, with a tiny network."""
    write_network(folder / "models" / "model.onnx")
    configs = folder / "configs"
    configs.mkdir()
    (configs / "metadata.json").write_text(json.dumps(METADATA))
    (configs / "inference.json").write_text(json.dumps(INFERENCE))
    (configs / "train.json").write_text(json.dumps({"patch_size": list(RAS_TILE)}))
    return folder


METADATA: dict[str, Any] = {
    "version": "0.6.8",
    "monai_version": "1.4.0",
    "name": "Tiny nodule CT detection",
    "task": "CT lung nodule detection",
    "description": "An analytic ball finder in the layout of a bundle for LUNA16",
    "authors": "the test",
    "copyright": "none",
    "data_source": "https://luna16.grand-challenge.org/Home/",
    "intended_use": "tests",
}
INFERENCE: dict[str, Any] = {
    "spatial_dims": 3,
    "num_classes": 1,
    "infer_patch_size": [512, 512, 192],
    "anchor_generator": {
        "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
        "feature_map_scales": list(SCALES),
        "base_anchor_shapes": [list(shape) for shape in SHAPES],
    },
    "network_def": {"_target_": "RetinaNet", "num_classes": "@num_classes", "num_anchors": 3},
    "detector_ops": [
        "$@detector.set_target_keys(box_key='box', label_key='label')",
        "$@detector.set_box_selector_parameters(score_thresh=0.02,topk_candidates_per_level=1000,"
        "nms_thresh=0.22,detections_per_img=300)",
    ],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "_disabled_": "@whether_raw_luna16"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": list(RAS_SPACING)},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": WINDOW[0],
                "a_max": WINDOW[1],
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
        ],
    },
}
