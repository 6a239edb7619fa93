"""What the reducer must not take for a nodule: a detector's peaks, vessels, and plain lung."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, spatial
from torch.nn import functional

from models.training.grounds import Ground
from models.training.networks import Detector

Floats = npt.NDArray[np.float32]
# Nearer to what readers marked than this is no sure negative, mm.
_CLEAR_MM = 8.0
# The next of the places whose distance is known may lie this far away, mm.
_PLACES_MM = 6.0
_CORE, _HALO = 96, 16
_LEAST_HEAT = 0.02
# Every so many is kept for validation.
_HELD = 10
# Shares of the sorts: the detector's peaks, bright spots, anywhere in the lungs.
_SHARES = (0.6, 0.25, 0.15)
# An easy negative still comes this often, against one that fools the network.
_LEAST_HARDNESS = 0.05


class Negatives:
    """Places without a nodule in all grounds, the hard ones drawn more often.

    Attributes
    ----------
    grounds
        The hosts.
    where
        float32 [n, 4]: number of the ground, and index z, y, x in it.
    """

    def __init__(self, grounds: list[Ground], peaks: list[Floats] | None) -> None:
        """Collect the places.

        Parameters
        ----------
        peaks
            The detector's in each ground, float32 [m, 3]; None when there is no detector yet.
        """
        self.grounds = grounds
        rows: list[Floats] = []
        sorts: list[npt.NDArray[np.intp]] = []
        for number, ground in enumerate(grounds):
            found = [
                np.empty((0, 3), np.float32) if peaks is None else _clear(ground, peaks[number]),
                *(
                    places[places[:, 4] > _CLEAR_MM, :3]
                    for places in (ground.spots, ground.places[:4000])
                ),
            ]
            for sort, places in enumerate(found):
                rows.append(np.insert(places, 0, number, axis=1))
                sorts.append(np.full(len(places), sort))
        self.where = np.concatenate(rows)
        self._sort = np.concatenate(sorts)
        self._hardness = np.full(len(self.where), 0.5)
        self._held = np.arange(len(self.where)) % _HELD == 0

    def draw(self, count: int, random: np.random.Generator, held: bool = False) -> list[int]:
        """Return numbers of places: of those to learn from, or of those held for validation."""
        weights = (_LEAST_HARDNESS + self._hardness) * (self._held == held)
        for sort, share in enumerate(_SHARES):
            mine = self._sort == sort
            weights[mine] *= share / max(float(weights[mine].sum()), 1e-9)
        chosen = random.choice(len(weights), count, p=weights / weights.sum())
        return [int(number) for number in chosen]

    def learn(self, numbers: list[int], probabilities: list[float]) -> None:
        """Remember how much the network took these places for nodules."""
        for number, probability in zip(numbers, probabilities, strict=True):
            self._hardness[number] += 0.5 * (probability - self._hardness[number])


def detector_peaks(grounds: list[Ground], checkpoint: Path, folder: Path) -> list[Floats]:
    """Return the peaks of a detector in each ground, index z, y, x, float32 [n, 3].

    Parameters
    ----------
    checkpoint
        Its weights.
    folder
        Where the peaks are kept, by the weights' checksum.
    """
    content = checkpoint.read_bytes()
    name = hashlib.sha256(content).hexdigest()[:12]
    network = Detector()
    network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    network = network.eval().to(memory_format=torch.channels_last_3d)
    found = []
    for ground in grounds:
        path = folder / ground.name / f"peaks-{name}.npy"
        if not path.is_file():
            np.save(path, _peaks(network, ground))
        found.append(np.load(path))
    return found


def _peaks(network: torch.nn.Module, ground: Ground) -> Floats:
    """Run the detector on voxels of 1 mm, tile by tile, where there is lung."""
    spacing = np.array(ground.spacing)
    size = np.ceil(ground.hu.shape * spacing).astype(int)
    hu = ndimage.affine_transform(
        ground.hu.astype(np.float32), 1 / spacing, output_shape=tuple(size), order=1, mode="nearest"
    )
    hu = np.pad(hu, [(_HALO, _CORE + _HALO)] * 3, constant_values=-1000)
    cores = np.unique((ground.places[:, :3] * spacing // _CORE).astype(int), axis=0)
    rows = []
    for core in cores:
        start = core * _CORE
        tile = hu[tuple(slice(a, a + _CORE + 2 * _HALO) for a in start)]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logit, _, offset = network(torch.from_numpy(np.ascontiguousarray(tile))[None])
        heat = logit.float().sigmoid()
        peak = (functional.max_pool3d(heat[:, None], 3, 1, 1)[:, 0] == heat) & (heat > _LEAST_HEAT)
        at = peak[0].nonzero().numpy()
        inner = 2 * at + 0.5
        keep = np.all((inner >= _HALO) & (inner < _HALO + _CORE), axis=1)
        moved = offset[0].float().numpy()[(slice(None), *at.T)].T
        rows.append((start + inner + moved - _HALO)[keep] / spacing)
    return np.concatenate(rows).astype(np.float32)


def _clear(ground: Ground, places: Floats) -> Floats:
    """Keep the places in the lungs that are far from what readers marked."""
    known = np.concatenate([ground.places, ground.spots])
    away, nearest = spatial.KDTree(known[:, :3] * ground.spacing).query(places * ground.spacing)
    clear: Floats = places[(away < _PLACES_MM) & (known[nearest, 4] > _CLEAR_MM + _PLACES_MM)]
    return clear
