"""Trains the reducer: is a candidate a nodule, and of which kind.

`python -m models.training.reducer --minutes 60`, best after the detector, whose peaks in lungs
without planted nodules are the hard negatives. All nodules are simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.training.grounds import pool
from models.training.loop import Batch, arguments, settings_of, train
from models.training.negatives import Negatives, detector_peaks
from models.training.networks import Reducer
from models.training.samples import Drawer, Sample, Wanted
from models.training.simulation.lidc import CACHE
from models.training.simulation.plant import KINDS
from models.training.simulation.shapes import load_shapes

Floats = npt.NDArray[np.float32]
# As the detection service cuts: 40 voxels of 0.8 mm; the detector's place errs by about a voxel.
CROP = Wanted(size=40, step_mm=0.8, shift_mm=1.5)
USES = 4
_POSITIVE_SHARE = 0.4
_KIND_WEIGHT = 0.3
_VALIDATED = (96, 288)
_SMALL_MM = 6.0
# A crop without a nodule has no kind.
_NO_KIND = -1


@dataclass(frozen=True)
class Fixed:
    """What the network is validated on: crops [n, z, y, x]; None stands for a negative."""

    crops: Floats
    samples: list[Sample | None]


def reducer_losses(nodule: torch.Tensor, kind: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the nodule, and that of the kind where there is one.

    Parameters
    ----------
    nodule, kind
        Logits [b, 1] and [b, 4].
    wanted
        Number of the kind, int64 [b]; -1 is no nodule.
    """
    is_nodule = (wanted != _NO_KIND).float()
    loss = functional.binary_cross_entropy_with_logits(nodule[:, 0].float(), is_nodule)
    if is_nodule.any():
        loss = loss + _KIND_WEIGHT * functional.cross_entropy(
            kind.float(), wanted, ignore_index=_NO_KIND
        )
    return loss


def area(positive: Floats, negative: Floats) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative."""
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / 2 / len(order))


def figures(scores: Floats, kinds: npt.NDArray[np.int64], fixed: Fixed) -> dict[str, float]:
    """Return AUC over all, small and ground-glass nodules, hits at 2 % false, right kinds.

    Parameters
    ----------
    scores
        Probability of a nodule, float32 [n].
    kinds
        Number of the likeliest kind, [n].
    """
    negative = scores[[sample is None for sample in fixed.samples]]
    found = [(i, sample) for i, sample in enumerate(fixed.samples) if sample is not None]
    positive = scores[[i for i, _ in found]]
    small = scores[[i for i, sample in found if sample.diameter_mm < _SMALL_MM]]
    glass = scores[[i for i, sample in found if sample.kind == "ground_glass"]]
    return {
        "auc": area(positive, negative),
        "auc_small": area(small, negative),
        "auc_ground_glass": area(glass, negative),
        "found_at_2_percent": float((positive > np.quantile(negative, 0.98)).mean()),
        "kind_right": float(np.mean([KINDS[kinds[i]] == sample.kind for i, sample in found])),
    }


class Crops:
    """Gives batches of nodules and of what is none."""

    def __init__(self, drawer: Drawer, negatives: Negatives, uses: int, batch: int) -> None:
        self._drawer = drawer
        self._negatives = negatives
        self._stream = drawer.stream(CROP, uses)
        self._positive = round(batch * _POSITIVE_SHARE)
        self._negative = batch - self._positive

    def batch(self) -> Batch:
        """Return HU [b, z, y, x], the kind's number [b], and the negative's number [b], or -1."""
        samples = [next(self._stream) for _ in range(self._positive)]
        numbers = self._negatives.draw(self._negative, self._drawer.random)
        bare = [bare_crop(self._drawer, self._negatives, number) for number in numbers]
        hu = np.stack([*(sample.hu for sample in samples), *bare])
        wanted = [*(KINDS.index(sample.kind) for sample in samples), *[_NO_KIND] * len(bare)]
        places = [*[-1] * len(samples), *numbers]
        return torch.from_numpy(hu), torch.tensor(wanted), torch.tensor(places)

    def losses(self, network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the loss, and remember which negatives fooled the network."""
        hu, wanted, places = batch
        nodule, kind = network(hu)
        bare = places >= 0
        said = nodule.detach()[bare, 0].float().sigmoid()
        self._negatives.learn(places[bare].tolist(), said.tolist())
        return {"loss": reducer_losses(nodule, kind, wanted), "fooled": said.mean()}


def bare_crop(drawer: Drawer, negatives: Negatives, number: int) -> Floats:
    """Cut out a negative."""
    row = negatives.where[number]
    return drawer.bare(negatives.grounds[int(row[0])], row[1:], CROP)


def held_crops(drawer: Drawer, negatives: Negatives) -> Fixed:
    """Return nodules of the validation patients, and places that training never draws."""
    positive, negative = _VALIDATED
    kinds = [KINDS[i % len(KINDS)] for i in range(positive)]
    samples = [drawer.sample(drawer.planted(CROP, kind), CROP) for kind in kinds]
    numbers = negatives.draw(negative, drawer.random, held=True)
    bare = [bare_crop(drawer, negatives, number) for number in numbers]
    crops = np.stack([*(sample.hu for sample in samples), *bare])
    return Fixed(crops, [*samples, *[None] * negative])


def main() -> None:
    """Train as the command line says."""
    parser = arguments("reducer", rate=2e-3, batch=16)
    parser.add_argument("--uses", type=int, default=USES, help="times a planted nodule is seen")
    parser.add_argument("--detector", type=Path, default=CACHE / "detector.pt")
    chosen = parser.parse_args()
    settings = settings_of("reducer", chosen)
    grounds = pool(chosen.variants, chosen.procedural)
    peaks = None
    if chosen.detector.is_file():
        peaks = detector_peaks(grounds, chosen.detector, CACHE / "grounds")
    negatives = Negatives(grounds, peaks)
    print(f"{len(negatives.where)} places without a nodule; detector: {peaks is not None}")
    drawer = Drawer(grounds, load_shapes("train"), settings.seed)
    judge = Drawer(grounds, load_shapes("validation"), settings.seed + 1)
    crops = Crops(drawer, negatives, chosen.uses, settings.batch)
    fixed = held_crops(judge, negatives)

    def validate(network: torch.nn.Module) -> dict[str, float]:
        answers = [network(part) for part in torch.from_numpy(fixed.crops).split(32)]
        scores = torch.cat([nodule[:, 0].float().sigmoid() for nodule, _ in answers])
        kinds = torch.cat([kind.float().argmax(1) for _, kind in answers])
        return figures(scores.numpy(), kinds.numpy(), fixed)

    train(Reducer(), crops.batch, crops.losses, validate, settings)


if __name__ == "__main__":
    main()
