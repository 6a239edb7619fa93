"""The probe of a model: a phantom made by formula, and the figures that the network gave for it.

Trained weights cannot be made again in a test. So a card holds what the network answered when it
was exported, in a few figures an output; whoever serves it can see that it still answers so.

The phantom uses only operations that IEEE 754 rounds exactly: the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from lungmesh.mesh.errors import MeshError

LUNG_HU, SOFT_HU, NOISE_HU = -870.0, 40.0, 25.0
_SAMPLES = 8
# Below this an answer is zero for all that is done with it.
_LEAST_LIMIT = 1e-4
_TYPES = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT16": np.int16,
    "INT32": np.int32,
}
Arrays = dict[str, npt.NDArray[Any]]


class ProbeFailed(MeshError):
    """The network cannot be run on the phantom, or answers it with no number."""


@dataclass(frozen=True)
class Probe:
    """What the network is asked.

    Attributes
    ----------
    shapes
        By input, its shape without the batch axis; the last three axes are [z, y, x].
    ball_voxels
        Diameter of the phantom's ball, voxels.
    seed
        Of the phantom's noise.
    tolerance
        How far a figure may be off, as a share of the output's largest magnitude.
    """

    shapes: Mapping[str, tuple[int, ...]]
    ball_voxels: float = 10.0
    seed: int = 0
    tolerance: float = 0.01


def phantom(
    shape: tuple[int, int, int], seed: int = 0, ball_voxels: float = 10.0
) -> npt.NDArray[np.int16]:
    """Return noisy lung with a vessel along x and a ball in the middle, int16 HU [z, y, x].

    The ball's centre is at index (n - 1) / 2 of each axis; its edge, as the vessel's, is one voxel
    wide. The vessel, 4 voxels thick, passes at a quarter of z and y.
    """
    z, y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    away = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    ball = np.clip(ball_voxels / 2 + 0.5 - away, 0, 1)
    axis = np.sqrt((z[:, None, None] + shape[0] / 4) ** 2 + (y[:, None] + shape[1] / 4) ** 2)
    soft = np.maximum(ball, np.clip(2.5 - axis, 0, 1))
    clean = LUNG_HU + (SOFT_HU - LUNG_HU) * soft
    return np.asarray(np.rint(clean + NOISE_HU * _noise(shape, seed)), np.int16)


def _noise(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64]:
    """Return noise of mean 0 and deviation 1: sums of four uniform numbers.

    The numbers are the four quarters of SplitMix64 of the voxel's index (Steele, Lea, Flood,
    OOPSLA 2014), which stays the same when NumPy's generators change.
    """
    state = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(seed << 40)
    state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    quarters = state.view(np.uint16).reshape(*shape, 4).astype(np.float64)
    # A sum of four uniform numbers on 0 … 1 has mean 2 and variance 1 / 3.
    return np.asarray((quarters.sum(axis=-1) / 65535 - 2) * math.sqrt(3))


def feed(inputs: Sequence[Mapping[str, Any]], probe: Probe) -> Arrays:
    """Return the phantom as each input of a card wants it, with a batch axis of one.

    Raises ProbeFailed when an input is no volume.
    """
    arrays: Arrays = {}
    for item in inputs:
        shape = tuple(probe.shapes[item["name"]])
        if len(shape) < 3 or item["type"] not in _TYPES:
            raise ProbeFailed(
                f"input {item['name']} ({item['type']} {list(shape)}) is no volume of numbers"
            )
        made = phantom((shape[-3], shape[-2], shape[-1]), probe.seed, probe.ball_voxels)
        arrays[item["name"]] = np.ascontiguousarray(
            np.broadcast_to(made, (1, *shape)), dtype=_TYPES[item["type"]]
        )
    return arrays


def run(
    network: Path,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    probe: Probe,
) -> Arrays:
    """Return what a network answers to the phantom, in this process, without the batch axis.

    Raises ProbeFailed when ONNX Runtime refuses.
    """
    names = [item["name"] for item in outputs]
    try:
        session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
        answers = session.run(names, feed(inputs, probe))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise ProbeFailed(f"ONNX Runtime cannot run {network}: {error}") from error
    return {name: answer[0] for name, answer in zip(names, answers, strict=True)}


def figures(answers: Arrays) -> dict[str, dict[str, Any]]:
    """Return a few figures an output: mean, deviation, least, largest, evenly spread samples.

    Raises ProbeFailed when an answer is not finite.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, answer in answers.items():
        values = np.asarray(answer, np.float64).ravel()
        if not values.size or not np.isfinite(values).all():
            raise ProbeFailed(f"output {name} is empty or not finite on the phantom")
        places = (np.arange(_SAMPLES) * 2 + 1) * values.size // (2 * _SAMPLES)
        told[name] = {
            "mean": _short(values.mean()),
            "deviation": _short(values.std()),
            "least": _short(values.min()),
            "largest": _short(values.max()),
            "samples": [_short(value) for value in values[np.unique(places)]],
        }
    return told


def to_card(probe: Probe, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card's `probe`."""
    return {
        "shapes": {name: list(shape) for name, shape in probe.shapes.items()},
        "ball_voxels": probe.ball_voxels,
        "seed": probe.seed,
        "tolerance": probe.tolerance,
        "expected": dict(expected),
    }


def from_card(card: Mapping[str, Any]) -> Probe:
    """Return the probe of a card."""
    told = card["probe"]
    return Probe(
        {name: tuple(shape) for name, shape in told["shapes"].items()},
        told["ball_voxels"],
        told["seed"],
        told["tolerance"],
    )


def has_shape(answer: npt.NDArray[Any], dims: Sequence[int]) -> bool:
    """Whether an answer, without the batch axis, has a card's dims (-1 is open)."""
    return answer.ndim == len(dims) and all(
        wanted in (-1, size) for size, wanted in zip(answer.shape, dims, strict=True)
    )


def difference(card: Mapping[str, Any], answers: Arrays) -> str:
    """Return in words where answers differ from a card's figures; empty when they do not.

    Raises ProbeFailed.
    """
    tolerance = card["probe"]["tolerance"]
    found = figures(answers)
    for name, expected in card["probe"]["expected"].items():
        limit = max(tolerance * max(abs(expected["least"]), abs(expected["largest"])), _LEAST_LIMIT)
        for figure, value in expected.items():
            now = found[name][figure]
            off = float(np.max(np.abs(np.subtract(now, value))))
            if off > limit:
                return (
                    f"answers its probe otherwise: {figure} of {name} is {now}, "
                    f"not {value} ± {limit:.3g}"
                )
    return ""


def _short(value: float) -> float:
    return float(f"{value:.6g}")
