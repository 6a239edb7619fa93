"""Trains the detector: `python -m models.training.detector --minutes 90`.

Every patch is new: a piece of a varied lung with planted nodules of the training patients' shapes.
The loss is CenterNet's (Zhou et al., arXiv 1904.07850; focal with a penalty that fades near a
centre), size and place by L1. The weights that ship are the moving average.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import threading
import time
from pathlib import Path
from queue import Queue

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.training.networks import Detector
from models.training.patches import SIZE, Image, Patch, Patches
from models.training.simulation.hosts import TRAIN_SEEDS, VALIDATION_SEEDS, Host, cached_lungs
from models.training.simulation.lidc import CACHE, ROOT
from models.training.simulation.procedural import procedural_lung
from models.training.simulation.shapes import load_shapes

CHECKPOINT = CACHE / "detector.pt"
LOG = ROOT / "models" / "nodule_detector" / "training.csv"
_BATCH = 8
_RATE = 2e-3
_OUT = SIZE // 2
# A nodule cut by the patch's border is no question that can be answered.
_EDGE_MM = 4.0
# Batches that settle the normalisation of the averaged weights.
_SETTLE = 40
# Made-up lungs beside the varied real ones.
_PROCEDURAL = 8


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


def loss(
    answer: tuple[Tensor, Tensor, Tensor], heat: Tensor, weight: Tensor, wanted: Tensor
) -> Tensor:
    """CenterNet's loss: heat + 0.3 · size + 0.2 · place."""
    logit, size, offset = (part.float() for part in answer)
    centre = heat.eq(1).float()
    p = torch.sigmoid(logit)
    hit = functional.logsigmoid(logit) * (1 - p) ** 2 * centre
    miss = functional.logsigmoid(-logit) * p**2 * (1 - heat) ** 4 * (1 - centre) * weight
    count = centre.sum().clamp(min=1)
    near = wanted[:, 4]
    total = near.sum().clamp(min=1)
    sizes = ((size - wanted[:, 0]).abs() * near).sum() / total
    places = ((offset - wanted[:, 1:4]).abs().sum(1) * near).sum() / total
    return -(hit + miss).sum() / count + 0.3 * sizes + 0.2 * places


def batches(patches: Patches, queue: Queue[tuple[Tensor, ...]], stop: threading.Event) -> None:
    """Fill the queue with batches."""
    while not stop.is_set():
        queue.put(batch(patches, _BATCH))


def batch(patches: Patches, count: int) -> tuple[Tensor, ...]:
    """Return hu, heat, weight and regression of `count` patches."""
    made = [patches.one() for _ in range(count)]
    rows = [(patch.hu, *targets(patch)) for patch in made]
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))


@torch.no_grad()
def settle(model: torch.nn.Module, patches: Patches, count: int) -> None:
    """Measure the statistics of the normalisation again: averaged weights make others."""
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm3d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    for _ in range(count):
        model(batch(patches, _BATCH)[0])
    model.eval()


@torch.no_grad()
def sensitivity(model: torch.nn.Module, held: list[tuple[Tensor, ...]]) -> tuple[float, float]:
    """Return the share of validation nodules found at 0.05 and 0.5 false peaks a patch."""
    hits: list[float] = []
    false: list[float] = []
    patches = 0
    for hu, heat, weight, wanted in held:
        logit = model(hu)[0].float()
        peak = functional.max_pool3d(logit[:, None], 3, 1, 1)[:, 0] == logit
        patches += len(hu)
        for one, at, target, asked, reg in zip(logit, peak, heat, weight, wanted, strict=True):
            for place in (target == 1).nonzero():
                radius = max(1, int(torch.exp(reg[0][tuple(place)]).item() / 4))
                box = tuple(slice(max(0, int(p) - radius), int(p) + radius + 1) for p in place)
                hits.append(float(one[box].max()))
            wrong = at & (target < 0.05) & (asked == 1)
            false += one[wrong].tolist()
    ranked = np.sort(np.array([*false, -99.0, -99.0]))[::-1]
    scores = np.array(hits)
    levels = (ranked[min(len(ranked) - 1, int(rate * patches))] for rate in (0.05, 0.5))
    low, high = (float((scores > level).mean()) for level in levels)
    return low, high


def main() -> None:
    """Train for a time, and keep the moving average of the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    held_patches = Patches(cached_lungs(VALIDATION_SEEDS), load_shapes("validation"), 77)
    held = [batch(held_patches, 8) for _ in range(16)]
    patches = Patches(_hosts(), load_shapes("train"), asked.seed)
    model = Detector().to(memory_format=torch.channels_last_3d)
    if asked.resume:
        model.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), _RATE, weight_decay=1e-2)
    queue: Queue[tuple[Tensor, ...]] = Queue(4)
    stop = threading.Event()
    threading.Thread(target=batches, args=(patches, queue, stop), daemon=True).start()
    started = time.monotonic()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["step", "minutes", "loss", "found_at_0.05_false", "found_at_0.5_false"])
        _train(model, average, optimizer, queue, held, log, file, started, asked.minutes)
    stop.set()
    settle(average.module, Patches(_hosts(), load_shapes("train"), asked.seed + 1), _SETTLE)
    _keep(average)


def _train(model, average, optimizer, queue, held, log, file, started, minutes) -> None:  # type: ignore[no-untyped-def]
    losses: list[float] = []
    step = 0
    next_look = 300.0
    while (spent := time.monotonic() - started) < minutes * 60:
        done = spent / (minutes * 60)
        rate = _RATE * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, 1e-5)
        hu, heat, weight, wanted = queue.get()
        with torch.autocast("cpu", torch.bfloat16):
            answer = model(hu)
        value = loss(answer, heat, weight, wanted)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        average.update_parameters(model)
        losses.append(float(value.detach()))
        step += 1
        if step % 25 == 0:
            print(step, f"{spent / 60:.1f} min  loss {np.mean(losses[-100:]):.3f}", flush=True)
        if spent > next_look:
            next_look = spent + 300
            average.eval()
            found = sensitivity(average, held)
            shown = (
                f"{spent / 60:.1f}",
                f"{np.mean(losses[-200:]):.4f}",
                *map("{:.3f}".format, found),
            )
            log.writerow([step, *shown])
            file.flush()
            print("validation", *found, flush=True)
            _keep(average)


def _keep(average: AveragedModel) -> None:
    part = Path(f"{CHECKPOINT}.part")
    torch.save(average.module.state_dict(), part)
    os.replace(part, CHECKPOINT)


def _hosts() -> list[Host]:
    """Return the varied real lungs, and procedural ones for variety."""
    real = cached_lungs(TRAIN_SEEDS)
    return [*real, *(procedural_lung((128, 128, 128), seed) for seed in range(_PROCEDURAL))]


if __name__ == "__main__":
    main()
