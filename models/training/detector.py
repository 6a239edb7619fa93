"""Trains the detector: `python -m models.training.detector --minutes 90`.

Every patch is new: a piece of a varied lung with planted nodules of the training patients' shapes.
The loss is CenterNet's (Zhou et al., arXiv 1904.07850; focal with a penalty that fades near a
centre), size and place by L1.
"""

from __future__ import annotations

import math
import threading
from queue import Queue

import numpy as np
import torch
from torch.nn import functional

from models.training.loop import Batch, arguments, settings_of, train
from models.training.networks import Detector
from models.training.patches import SIZE, Image, Patch, Patches
from models.training.simulation.hosts import TRAIN_SEEDS, VALIDATION_SEEDS, cached_lungs
from models.training.simulation.procedural import procedural_lung
from models.training.simulation.shapes import load_shapes

_OUT = SIZE // 2
# A nodule cut by the patch's border is no question that can be answered.
_EDGE_MM = 4.0
_PROCEDURAL_SIZE = (128, 128, 128)
_VALIDATED = 128
# False peaks a patch, at which validation counts what is found: about 3 and 30 a CT.
_FALSE = (0.05, 0.5)


def targets(patch: Patch) -> tuple[Image, Image, Image]:
    """Return heat and weight of the negatives, [32³], and [5, 32³]: size, offset, their weight."""
    places = np.stack(np.meshgrid(*[np.arange(_OUT) * 2 + 0.5] * 3, indexing="ij"), 0)
    heat = np.zeros((_OUT,) * 3, np.float32)
    regression = np.zeros((5, *heat.shape), np.float32)
    weight = 1.0 - patch.ignore[::2, ::2, ::2].astype(np.float32)
    for nodule in patch.nodules:
        center = np.array(nodule.center_zyx)
        away = center[:, None, None, None] - places
        square = (away**2).sum(axis=0)
        if np.any(center < _EDGE_MM) or np.any(center > SIZE - 1 - _EDGE_MM):
            weight[square <= (nodule.diameter_mm / 2 + 2) ** 2] = 0
            continue
        sigma = max(1.4, 0.18 * nodule.diameter_mm)
        bump = np.exp(-square / (2 * sigma**2)).astype(np.float32)
        bump[np.unravel_index(int(square.argmin()), square.shape)] = 1.0
        near = (bump > 0.4) & (bump > regression[4])
        regression[0][near] = math.log(nodule.diameter_mm)
        for axis in range(3):
            regression[1 + axis][near] = away[axis][near]
        regression[4][near] = bump[near]
        np.maximum(heat, bump, out=heat)
        # Inside a large nodule, off its centre, is neither a hit nor a false alarm.
        inside = (square <= (nodule.diameter_mm / 2) ** 2) & (bump < 0.4)
        weight[inside] *= 0.25
        weight[bump == 1] = 1.0
    return heat, weight, regression


def detector_losses(network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Return CenterNet's loss, heat + 0.3 · size + 0.2 · place, and its parts.

    Parameters
    ----------
    batch
        HU [b, 64, 64, 64], and what `targets` makes of each patch.
    """
    hu, heat, weight, wanted = batch
    logit, size, offset = (part.float() for part in network(hu))
    centre = heat.eq(1).float()
    p = torch.sigmoid(logit)
    hit = functional.logsigmoid(logit) * (1 - p) ** 2 * centre
    miss = functional.logsigmoid(-logit) * p**2 * (1 - heat) ** 4 * (1 - centre) * weight
    heats = -(hit + miss).sum() / centre.sum().clamp(min=1)
    near = wanted[:, 4]
    total = near.sum().clamp(min=1)
    sizes = ((size - wanted[:, 0]).abs() * near).sum() / total
    places = ((offset - wanted[:, 1:4]).abs().sum(1) * near).sum() / total
    return {
        "loss": heats + 0.3 * sizes + 0.2 * places,
        "heat": heats,
        "size": sizes,
        "place": places,
    }


def batch_of(patches: Patches, count: int) -> Batch:
    """Return HU, heat, weight and regression of `count` new patches."""
    rows = [(patch.hu, *targets(patch)) for patch in (patches.one() for _ in range(count))]
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))


def found(network: torch.nn.Module, held: list[Batch]) -> dict[str, float]:
    """Return the share of nodules whose heat is above all but so many false peaks a patch."""
    hits: list[float] = []
    false: list[float] = []
    for hu, heat, weight, wanted in held:
        logit = network(hu)[0].float()
        peak = functional.max_pool3d(logit[:, None], 3, 1, 1)[:, 0] == logit
        for one, at, target, asked, reg in zip(logit, peak, heat, weight, wanted, strict=True):
            for place in (target == 1).nonzero():
                radius = max(1, int(torch.exp(reg[0][tuple(place)]).item() / 4))
                box = tuple(slice(max(0, int(p) - radius), int(p) + radius + 1) for p in place)
                hits.append(float(one[box].max()))
            false += one[at & (target < 0.05) & (asked == 1)].tolist()
    patches = sum(len(hu) for hu, *_ in held)
    ranked = np.sort(np.array([*false, -99.0, -99.0]))[::-1]
    levels = [ranked[min(len(ranked) - 1, int(rate * patches))] for rate in _FALSE]
    return {
        f"found_at_{rate:g}_false": float((np.array(hits) > level).mean())
        for rate, level in zip(_FALSE, levels, strict=True)
    }


def main() -> None:
    """Train as the command line says."""
    parser = arguments("detector", rate=2e-3, batch=8)
    chosen = parser.parse_args()
    settings = settings_of("detector", chosen)
    judge = Patches(cached_lungs(VALIDATION_SEEDS), load_shapes("validation"), 77)
    held = [batch_of(judge, settings.batch) for _ in range(_VALIDATED // settings.batch)]
    lungs = cached_lungs(TRAIN_SEEDS)
    lungs += [procedural_lung(_PROCEDURAL_SIZE, seed) for seed in range(chosen.procedural)]
    patches = Patches(lungs, load_shapes("train"), settings.seed)
    queue: Queue[Batch] = Queue(4)

    def fill() -> None:
        while True:
            queue.put(batch_of(patches, settings.batch))

    # While PyTorch computes, NumPy makes the next batch.
    threading.Thread(target=fill, daemon=True).start()
    train(Detector(), queue.get, detector_losses, lambda net: found(net, held), settings)


if __name__ == "__main__":
    main()
