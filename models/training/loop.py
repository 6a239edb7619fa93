"""The training loop that the crop networks share: time-limited, averaged, logged, resumable."""

from __future__ import annotations

import argparse
import copy
import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.training.simulation.lidc import CACHE, ROOT

# Share of the training in which the learning rate rises.
_WARM_UP = 0.03
# Where the cosine ends, as a share of the peak.
_FLOOR = 0.02
_CLIP_NORM = 2.0
# Batches that settle the normalisation at the end.
_SETTLING = 40
# So late the validation at the end is near enough.
_LAST_LOOK = 0.97

Batch = tuple[torch.Tensor, ...]
Batches = Callable[[], Batch]
Losses = Callable[[torch.nn.Module, Batch], dict[str, torch.Tensor]]
Validate = Callable[[torch.nn.Module], dict[str, float]]


@dataclass(frozen=True)
class LoopSettings:
    """How long and how a network is trained.

    Attributes
    ----------
    name
        Of `.lungmesh/training/<name>.pt` (the averaged weights), `<name>-state.pt` (what resuming
        needs) and `models/nodule_<name>/training.csv`.
    minutes, steps
        The training ends at whichever comes first; the learning rate follows the nearer end.
    rate
        Peak learning rate of AdamW.
    ema
        Decay of the averaged weights, a step.
    log_steps
        Steps between two rows of the log.
    save_minutes
        Minutes between two validations, each followed by a checkpoint.
    bf16
        Autocast the forward pass to bfloat16.
    resume
        Go on from the checkpoint, if there is one.
    """

    name: str
    minutes: float
    steps: int
    rate: float
    batch: int
    seed: int
    ema: float = 0.998
    log_steps: int = 50
    save_minutes: float = 2.0
    bf16: bool = True
    resume: bool = False

    @property
    def checkpoint(self) -> Path:
        """Where the weights go."""
        return CACHE / f"{self.name}.pt"

    @property
    def state(self) -> Path:
        """Where what resuming needs goes."""
        return CACHE / f"{self.name}-state.pt"

    @property
    def log(self) -> Path:
        """Where the curve goes."""
        return ROOT / "models" / f"nodule_{self.name}" / "training.csv"


def arguments(name: str, rate: float, batch: int) -> argparse.ArgumentParser:
    """Return a parser with the options that every loop knows."""
    parser = argparse.ArgumentParser(prog=f"python -m models.training.{name}")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=1_000_000, help="end after so many, too")
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fp32", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--variants", type=int, default=4, help="varied lungs of each real one")
    parser.add_argument("--procedural", type=int, default=6, help="lungs made by rule")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    return parser


def settings_of(name: str, chosen: argparse.Namespace) -> LoopSettings:
    """Return the loop's settings; sets the seed and the thread count of torch."""
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    return LoopSettings(
        name=name,
        minutes=chosen.minutes,
        steps=chosen.steps,
        rate=chosen.rate,
        batch=chosen.batch,
        seed=chosen.seed,
        bf16=not chosen.fp32,
        resume=chosen.resume,
    )


def train(
    network: torch.nn.Module,
    batches: Batches,
    losses: Losses,
    validate: Validate,
    settings: LoopSettings,
) -> torch.nn.Module:
    """Train and return the network with averaged weights, as it was saved last.

    Parameters
    ----------
    batches
        Gives what `losses` takes.
    losses
        Named parts of the loss; "loss" is the one that is minimised.
    validate
        Figures of the averaged network, called without gradients.
    """
    # Convolutions of few channels are faster here with channels last (measured).
    network = network.to(memory_format=torch.channels_last_3d)
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=1e-4)
    step = 0
    if settings.resume and settings.state.is_file():
        kept = torch.load(settings.state, weights_only=True)
        network.load_state_dict(kept["raw"])
        averaged.load_state_dict(kept["averaged"])
        optimizer.load_state_dict(kept["optimizer"])
        step = int(kept["step"])
    log = _Log(settings.log, fresh=step == 0)
    first, started = step, time.monotonic()
    saved, running, data_seconds = started, _Means(), 0.0
    network.train()
    while True:
        now = time.monotonic()
        done = max((now - started) / 60 / settings.minutes, (step - first) / settings.steps)
        if done >= 1:
            break
        rate = settings.rate * _schedule(done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = batches()
        data_seconds += time.monotonic() - now
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            parts = losses(network, batch)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
        optimizer.step()
        step += 1
        _average(averaged, network, min(settings.ema, (1 + step) / (10 + step)))
        running.add({name: float(part.detach()) for name, part in parts.items()})
        figures = {}
        if time.monotonic() - saved > 60 * settings.save_minutes and done < _LAST_LOOK:
            figures = _validated(averaged, validate, settings)
            _save(settings, network, averaged, optimizer, step, figures)
            saved = time.monotonic()
        if figures or step % settings.log_steps == 0:
            spent = time.monotonic() - started
            row = {
                "step": float(step),
                "minutes": spent / 60,
                "rate": rate,
                "seconds_a_step": spent / (step - first),
                "data_share": data_seconds / spent,
            }
            log.write(row | running.take() | figures)
    _settle(averaged, batches, losses, settings)
    spent = time.monotonic() - started
    figures = _validated(averaged, validate, settings)
    _save(settings, network, averaged, optimizer, step, figures)
    log.write({"step": float(step), "minutes": spent / 60} | figures)
    return averaged


def _schedule(done: float) -> float:
    """Return the learning rate as a share of its peak: a short rise, then a cosine."""
    if done < _WARM_UP:
        return max(done / _WARM_UP, _FLOOR)
    return _FLOOR + (1 - _FLOOR) * 0.5 * (
        1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))
    )


def _average(averaged: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move every weight, and the statistics of the normalisation, towards the network's."""
    new = network.state_dict()
    for name, kept in averaged.state_dict().items():
        if kept.is_floating_point():
            kept.lerp_(new[name], 1 - decay)


def _settle(
    averaged: torch.nn.Module, batches: Batches, losses: Losses, settings: LoopSettings
) -> None:
    """Measure the statistics of the normalisation again: averaged weights have others."""
    norms = [part for part in averaged.modules() if isinstance(part, torch.nn.BatchNorm3d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    averaged.train()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
        for _ in range(_SETTLING):
            losses(averaged, batches())


def _validated(
    averaged: torch.nn.Module, validate: Validate, settings: LoopSettings
) -> dict[str, float]:
    averaged.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
        return validate(averaged)


def _save(
    settings: LoopSettings,
    network: torch.nn.Module,
    averaged: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    figures: dict[str, float],
) -> None:
    """Write beside the old checkpoint and rename: a reader never sees half a file."""
    content: dict[str, Any] = {
        "averaged": averaged.state_dict(),
        "raw": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seed": settings.seed,
        "validation": figures,
    }
    settings.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    for path, whole in ((settings.checkpoint, content["averaged"]), (settings.state, content)):
        part = path.with_suffix(".part")
        torch.save(whole, part)
        part.replace(path)


class _Means:
    """Running means of named figures."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def take(self) -> dict[str, float]:
        """Return the means since the last call."""
        means = {name: value / max(1, self._count) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


class _Log:
    """A small CSV: one column a figure, the columns of the first two kinds of row together."""

    def __init__(self, path: Path, fresh: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows: list[dict[str, str]] = []
        if not fresh and path.is_file():
            with path.open(newline="") as file:
                self._rows = list(csv.DictReader(file))

    def write(self, figures: dict[str, float]) -> None:
        """Add a row and print it."""
        row = {name: f"{value:.5g}" for name, value in figures.items()}
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        self._rows.append(row)
        names = list(dict.fromkeys(name for one in self._rows for name in one))
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
