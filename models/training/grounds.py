"""Hosts made ready for cutting crops: the lungs' box on disk, and places worth a look in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.training.simulation.hosts import TRAIN_SEEDS, Host, cached_lungs, real_hosts
from models.training.simulation.lidc import CACHE
from models.training.simulation.procedural import procedural_lung

Hu = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Kept around the lungs' box: half of the widest crop.
_MARGIN_MM = 44.0
# Distances and bright spots are found on voxels of about this edge.
_COARSE_MM = 1.2
_MOST_PLACES = 30_000
# A bright spot rises by this much above what surrounds it.
_LEAST_RISE_HU = 30.0
_SPOT_MM = 1.0
_SURROUND_MM = 3.0
_HU_RANGE = (-1000.0, 200.0)
# Lungs made by rule: voxels, and their edge in mm.
_BY_RULE = (160, 160, 160)
_BY_RULE_MM = 0.8
# Farther than this counts as far away.
_FAR_MM = 1000.0


@dataclass(frozen=True)
class Ground:
    """A host's lungs.

    Attributes
    ----------
    hu, lungs
        int16 and bool [z, y, x]: the lungs' box with a margin (memory maps).
    spacing
        mm along [z, y, x].
    slice_mm, noise_hu
        As in the host.
    start
        Index of `hu`'s first voxel on the host's own grid, [z, y, x].
    places
        Random lung voxels, float32 [n, 5]: index z, y, x in `hu`, depth below the lung's border in
        mm, distance to what must be left alone (real nodules) in mm.
    spots
        Bright spots such as vessels, float32 [m, 5], likewise.
    weight
        How often it is drawn, against the others.
    """

    name: str
    hu: Hu
    lungs: Mask
    spacing: tuple[float, float, float]
    slice_mm: float
    noise_hu: float
    start: tuple[int, int, int]
    places: Floats
    spots: Floats
    weight: float = 1.0


def pool(variants: int, procedural: int) -> list[Ground]:
    """Return the real hosts, `variants` of each, and lungs made by rule; from the cache, if there.

    The real pixels come more often than the others.
    """
    folder = CACHE / "grounds"
    makes: list[tuple[str, float, Callable[[], Host]]] = []
    makes += [(host.name, 3.0, partial(_itself, host)) for host in real_hosts()]
    makes += [
        (host.name, 1.0, partial(_itself, host)) for host in cached_lungs(TRAIN_SEEDS[:variants])
    ]
    makes += [
        (f"procedural-{seed}", 0.5, partial(procedural_lung, _BY_RULE, seed, _BY_RULE_MM))
        for seed in range(1, procedural + 1)
    ]
    return [replace(kept_ground(folder, name, make), weight=weight) for name, weight, make in makes]


def _itself(host: Host) -> Host:
    return host


def kept_ground(folder: Path, name: str, make: Callable[[], Host]) -> Ground:
    """Return a host's ground from the folder; made and kept there when it is missing."""
    home = folder / name
    about = home / "about.json"
    if not about.is_file():
        home.mkdir(parents=True, exist_ok=True)
        ground = make_ground(make(), np.random.default_rng(1))
        np.save(home / "hu.npy", ground.hu)
        np.save(home / "lungs.npy", ground.lungs)
        np.save(home / "places.npy", ground.places)
        np.save(home / "spots.npy", ground.spots)
        content = {
            "spacing": ground.spacing,
            "slice_mm": ground.slice_mm,
            "noise_hu": ground.noise_hu,
            "start": ground.start,
        }
        about.write_text(json.dumps(content))
    said = json.loads(about.read_text())
    return Ground(
        name,
        np.load(home / "hu.npy", mmap_mode="r"),
        np.load(home / "lungs.npy", mmap_mode="r"),
        tuple(said["spacing"]),
        said["slice_mm"],
        said["noise_hu"],
        tuple(said["start"]),
        np.load(home / "places.npy"),
        np.load(home / "spots.npy"),
    )


def make_ground(host: Host, random: np.random.Generator) -> Ground:
    """Cut the lungs' box out of a host and find places in it.

    Raises ValueError when the host has no lung.
    """
    boxes = ndimage.find_objects(host.lungs.view(np.uint8))
    if not boxes:
        raise ValueError(f"host {host.name} has no lung")
    margins = [int(np.ceil(_MARGIN_MM / mm)) for mm in host.spacing]
    box = tuple(
        slice(max(0, side.start - margin), min(n, side.stop + margin))
        for side, margin, n in zip(boxes[0], margins, host.hu.shape, strict=True)
    )
    hu, lungs, ignore = host.hu[box], host.lungs[box], host.ignore[box]
    steps = [max(1, round(_COARSE_MM / mm)) for mm in host.spacing]
    coarse = tuple(slice(None, None, step) for step in steps)
    voxel = np.multiply(steps, host.spacing)
    inside = lungs[coarse]
    depth = ndimage.distance_transform_edt(inside, sampling=voxel)
    left_alone = ignore[coarse]
    if left_alone.any():
        clear = ndimage.distance_transform_edt(~left_alone, sampling=voxel)
    else:
        clear = np.full(inside.shape, _FAR_MM)
    chosen = np.argwhere(inside)
    if len(chosen) > _MOST_PLACES:
        chosen = chosen[random.choice(len(chosen), _MOST_PLACES, replace=False)]
    spots = bright_spots(hu, lungs, host.spacing, steps)

    def described(index: npt.NDArray[np.int64]) -> Floats:
        at = tuple(index.T)
        columns = [index * steps, depth[at][:, None], np.minimum(clear[at], _FAR_MM)[:, None]]
        return np.hstack(columns).astype(np.float32)

    return Ground(
        host.name,
        np.ascontiguousarray(hu),
        np.ascontiguousarray(lungs),
        host.spacing,
        host.slice_mm,
        host.noise_hu,
        (box[0].start, box[1].start, box[2].start),
        described(chosen),
        described(spots),
    )


def bright_spots(
    hu: Hu, lungs: Mask, spacing: tuple[float, float, float], steps: list[int]
) -> npt.NDArray[np.int64]:
    """Return local maxima of a difference of Gaussians in and at the lungs.

    Index (n, 3) [z, y, x] on the grid that keeps every `steps`-th voxel.
    """
    coarse = tuple(slice(None, None, step) for step in steps)
    voxel = np.multiply(steps, spacing)
    clipped = np.clip(hu, *_HU_RANGE).astype(np.float32)
    fine = ndimage.gaussian_filter(clipped, np.divide(_SPOT_MM, spacing))[coarse]
    rise = fine - ndimage.gaussian_filter(fine, _SURROUND_MM / voxel)
    near = ndimage.binary_dilation(lungs[coarse], iterations=2)
    best = ndimage.maximum_filter(rise, size=5)
    return np.argwhere((rise == best) & (rise > _LEAST_RISE_HU) & near)
