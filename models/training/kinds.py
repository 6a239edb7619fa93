"""What share of a nodule the segmenter calls solid, by type: `python -m models.training.kinds`.

The detection service tells types by it (`lungmesh/detection/kind.py`). Prints mean and deviation of
the share's logit over simulated nodules of the training patients' shapes, and how often the rule is
right on the validation patients'.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lungmesh.detection.describe import solid_core
from lungmesh.detection.family import Candidate
from lungmesh.detection.kind import classify, share_logit
from lungmesh.detection.region import Region, isolate
from models.training import reducer, segmenter
from models.training.export import RECIPES, trained
from models.training.grounds import pool
from models.training.samples import Drawer
from models.training.simulation.degrade import rounded
from models.training.simulation.plant import KINDS, TYPES, Kind
from models.training.simulation.shapes import load_shapes


@dataclass(frozen=True)
class Said:
    """A simulated nodule, and what the two networks say of it."""

    kind: Kind
    probabilities: tuple[float, ...]
    region: Region

    @property
    def solid_share(self) -> float:
        """Volume of the solid part over that of the whole."""
        return self.region.solid_volume_mm3 / self.region.volume_mm3


def said(drawer: Drawer, count: int) -> Iterator[Said]:
    """Give what the networks say of `count` nodules; those without an outline are left out."""
    _, judge, outliner = (trained(recipe, recipe.checkpoint) for recipe in RECIPES)
    for number in range(count):
        planting = drawer.planted(segmenter.CROP, KINDS[number % len(KINDS)])
        wide = drawer.sample(planting, segmenter.CROP)
        near = torch.from_numpy(_rounded(drawer.sample(planting, reducer.CROP).hu))[None]
        cube = _rounded(wide.hu)
        with torch.no_grad():
            _, kinds = judge(near)
            shares = outliner(torch.from_numpy(cube)[None])[0].float().numpy()
        middle = Candidate((0.0, 0.0, 0.0), wide.diameter_mm, 1.0)
        region = isolate(cube, shares[0], shares[1], wide.step_mm, middle)
        if region is not None:
            yield Said(wide.kind, tuple(kinds[0].tolist()), region)


def type_of(one: Said) -> int:
    """Return the type by the service's rule."""
    region = one.region
    return classify(
        one.probabilities,
        one.solid_share,
        bool(solid_core(region).any()),
        region.hu.astype(np.float32),
        region.mask,
        (region.mm,) * 3,
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m models.training.kinds")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--variants", type=int, default=2, help="varied lungs of each real one")
    parser.add_argument("--procedural", type=int, default=6, help="lungs made by rule")
    chosen = parser.parse_args()
    grounds = pool(chosen.variants, chosen.procedural)
    shares: dict[str, list[float]] = {}
    for one in said(Drawer(grounds, load_shapes("train"), 41), chosen.count):
        shares.setdefault("solid" if one.kind == "calcified" else one.kind, []).append(
            share_logit(one.solid_share)
        )
    print("logit of the solid share, SIMULATED nodules of the training patients' shapes")
    for name, found in shares.items():
        # Quartiles: a vessel taken for a core, or none found, is no matter of spread.
        low, middle, high = np.percentile(found, (25, 50, 75))
        print(f"{name:>12}  mean {middle:.2f}  deviation {(high - low) / 1.349:.2f}")
    print("types by the rule, SIMULATED nodules of the validation patients' shapes")
    judged: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    names: dict[int, str] = {number: kind for kind, number in TYPES.items()}
    for one in said(Drawer(grounds, load_shapes("validation"), 42), chosen.count):
        judged[one.kind][names.get(type_of(one), "other")] += 1
    for kind, counts in judged.items():
        total = sum(counts.values())
        print(f"{kind:>12}  right {counts[kind] / total:.2f}  {dict(counts.most_common())}")


def _rounded(hu: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    # PyTorch takes no array that is turned round.
    return np.ascontiguousarray(rounded(hu))


if __name__ == "__main__":
    main()
