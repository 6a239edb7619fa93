"""Trains the segmenter: how much of each voxel of a crop is nodule, and how much is solid.

`python -m models.training.segmenter --minutes 60`. All nodules are simulated: shapes that LIDC's
readers drew, put into real lungs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from models.training.grounds import pool
from models.training.loop import Batch, arguments, settings_of, train
from models.training.networks import Segmenter
from models.training.samples import Drawer, Sample, Wanted
from models.training.simulation.plant import KINDS
from models.training.simulation.shapes import load_shapes

Floats = npt.NDArray[np.float32]
# As the detection service cuts: 64 voxels of 0.5 mm, or 2.5 diameters, around a candidate.
CROP = Wanted(size=64, step_mm=0.5, widest=2.5, shift_share=0.25, spread=0.15)
USES = 3
_VALIDATED = 48
# The network sees the inner 48 voxels of the crop: 0.03 % of the nodules' volume lies outside
# (measured), and a step costs 0.42 of one on 64. It learns where the middle is from the border, so
# that training and use must agree: learned on 48 and used on 64, Dice fell from 0.79 to 0.42.
RIM = 8
# Voxels: what is smaller counts as if it were of this size in the cross-entropy.
_SMALL = 400.0
# Dice of a few voxels is noise.
_LEAST_SOLID = 20.0


def inner(hu: torch.Tensor) -> torch.Tensor:
    """Return what the network sees of crops [b, 64, 64, 64]: [b, 48, 48, 48]."""
    return hu[:, RIM:-RIM, RIM:-RIM, RIM:-RIM]


def whole(shares: torch.Tensor) -> torch.Tensor:
    """Return shares [b, 2, 48, 48, 48] on the whole crop [b, 2, 64, 64, 64], nothing in the rim."""
    return torch.nn.functional.pad(shares, [RIM] * 6)


def segmenter_losses(network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Return cross-entropy and Dice of shares between 0 and 1.

    The cross-entropy is a sum over voxels against the nodule's size, so that small ones count like
    large ones. Dice with squares (Milletari et al., V-Net, 3DV 2016, arXiv 1606.04797) has its best
    value where the answer equals a share between 0 and 1; without squares it would push to 0 or 1.

    Parameters
    ----------
    batch
        HU float32 [b, 64, 64, 64]; shares float32 [b, 2, 64, 64, 64]: nodule, solid part.
    """
    hu, truth = batch
    shares = truth[:, :, RIM:-RIM, RIM:-RIM, RIM:-RIM]
    logits = network(inner(hu)).float()
    axes = (2, 3, 4)
    size = shares.sum(axes)
    crossed = torch.nn.functional.binary_cross_entropy_with_logits(logits, shares, reduction="none")
    entropy = (crossed.sum(axes) / (size[:, :1] + _SMALL)).mean()
    answer = logits.sigmoid()
    both = (answer * shares).sum(axes)
    dice = (2 * both + 1) / ((answer**2).sum(axes) + (shares**2).sum(axes) + 1)
    counted = torch.ones_like(dice)
    counted[:, 1] = (size[:, 1] > _LEAST_SOLID).float()
    overlap = 1 - (dice * counted).sum() / counted.sum()
    return {"loss": entropy + overlap, "entropy": entropy, "overlap": overlap}


def figures(answers: Floats, samples: list[Sample]) -> dict[str, float]:
    """Return Dice at level 0.5, and errors of the volume and of the diameter it gives.

    Parameters
    ----------
    answers
        Shares float32 [n, 2, z, y, x], one a sample.
    """
    kinds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    parts, volumes, solids = [], [], []
    for answer, sample in zip(answers, samples, strict=True):
        kinds[sample.kind].append(_dice(answer[0], sample.total))
        volumes.append(float(answer[0].sum()) * sample.step_mm**3 / sample.volume_mm3)
        if sample.kind == "part_solid" and sample.solid.sum() > _LEAST_SOLID:
            parts.append(_dice(answer[1], sample.solid))
            solids.append(float(answer[1].sum() / sample.solid.sum()))
    out = {"dice": float(np.mean([dice for found in kinds.values() for dice in found]))}
    out |= {f"dice_{kind}": float(np.mean(found)) for kind, found in kinds.items() if found}
    if parts:
        out |= {
            "dice_solid_part": float(np.mean(parts)),
            "solid_part_bias": float(np.median(solids)) - 1,
        }
    wide = np.cbrt(volumes) - 1
    return out | {
        "volume_bias": float(np.median(volumes)) - 1,
        "diameter_error": float(np.median(np.abs(wide))),
    }


def _dice(answer: Floats, truth: Floats) -> float:
    one, other = answer > 0.5, truth > 0.5
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def batch_of(samples: list[Sample]) -> Batch:
    """Stack samples: HU [b, z, y, x] and shares [b, 2, z, y, x]."""
    hu = np.stack([sample.hu for sample in samples])
    shares = np.stack([np.stack([sample.total, sample.solid]) for sample in samples])
    return torch.from_numpy(hu), torch.from_numpy(np.clip(shares, 0, 1))


def main() -> None:
    """Train as the command line says."""
    parser = arguments("segmenter", rate=2e-3, batch=4)
    parser.add_argument("--uses", type=int, default=USES, help="times a planted nodule is seen")
    chosen = parser.parse_args()
    settings = settings_of("segmenter", chosen)
    grounds = pool(chosen.variants, chosen.procedural)
    drawer = Drawer(grounds, load_shapes("train"), settings.seed)
    judge = Drawer(grounds, load_shapes("validation"), settings.seed + 1)
    kinds = [KINDS[i % len(KINDS)] for i in range(_VALIDATED)]
    fixed = [judge.sample(judge.planted(CROP, kind), CROP) for kind in kinds]

    stream = drawer.stream(CROP, chosen.uses)

    def batches() -> Batch:
        return batch_of([next(stream) for _ in range(settings.batch)])

    def validate(network: torch.nn.Module) -> dict[str, float]:
        answers = [
            whole(network(inner(batch_of([one])[0])).float().sigmoid())[0].numpy() for one in fixed
        ]
        return figures(np.stack(answers), fixed)

    network = Segmenter()
    # Few voxels are nodule: the loss does not begin with a flood of false ones.
    torch.nn.init.constant_(network.head.bias, -4.0)
    train(network, batches, segmenter_losses, validate, settings)


if __name__ == "__main__":
    main()
