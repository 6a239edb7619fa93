"""Branching trees of tubes that fill a lung: arteries, veins and the bronchi beside them.

A tree grows by halving: a branch serves a set of end points; it runs part of the way to their
centre, the set is cut in two, and each half gets a branch (Tawhai MH et al., J Appl Physiol
2004;97:2310-2321). Radii follow Murray's law: the cube of a parent's radius is the sum of its
children's, so that a branch to n end points has n^(1/3) times an end branch's radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
# mm between samples of a branch's middle line.
_STEP_MM = 1.5
_PIECES_AT_ONCE = 400_000


@dataclass(frozen=True)
class Tubes:
    """Straight pieces of tube.

    Attributes
    ----------
    start, end
        float32 [n, 3]: z, y, x in mm.
    radius
        float32 [n], mm.
    """

    start: Floats
    end: Floats
    radius: Floats

    def beside(self, gap: Floats, radius: Floats, least_mm: float) -> Tubes:
        """Return tubes that run beside those of at least `least_mm`.

        Parameters
        ----------
        gap
            float32 [3]: unit direction of the side; a tube that runs along it is taken too, shifted
            to where it no longer overlaps.
        radius
            float32 [n], mm: of the new tubes.
        """
        keep = self.radius >= least_mm
        shift = gap * (self.radius + 1.1 * radius)[keep, None]
        return Tubes(self.start[keep] + shift, self.end[keep] + shift, radius[keep])


def grow(
    root: Floats,
    ends: Floats,
    window: tuple[Floats, Floats],
    end_radius_mm: float,
    random: np.random.Generator,
) -> Tubes:
    """Grow one tree.

    Parameters
    ----------
    root
        Where it starts: z, y, x in mm.
    ends
        float32 [n, 3]: where its branches end, mm.
    window
        Lowest and highest corner in mm: branches that cannot meet it are left out.
    end_radius_mm
        Radius of a branch with one end.
    """
    low, high = window
    lines: list[Floats] = []
    radii: list[float] = []
    first = ends.mean(axis=0) - root
    todo = [(root, first / np.linalg.norm(first), ends)]
    while todo:
        place, heading, served = todo.pop()
        nearest = np.minimum(served.min(axis=0), place)
        furthest = np.maximum(served.max(axis=0), place)
        if (furthest < low).any() or (nearest > high).any():
            continue
        count = len(served)
        middle = served.mean(axis=0)
        share = 1.0 if count == 1 else random.uniform(0.3, 0.5)
        target = place + share * (middle - place)
        line = _bend(place, heading, target, random)
        lines.append(line)
        radii.append(end_radius_mm * count ** (1 / 3))
        if count == 1:
            continue
        last = line[-1] - line[-2]
        last /= np.linalg.norm(last) + 1e-6
        spread = served - middle
        axis = np.linalg.eigh(spread.T @ spread)[1][:, -1] + random.normal(0, 0.15, 3)
        # Mostly near halves; now and then a small side branch leaves a large vessel.
        cut = random.uniform(0.35, 0.65) if random.random() < 0.75 else random.uniform(0.05, 0.2)
        order = np.argsort(spread @ axis)
        at = min(max(1, round(cut * count)), count - 1)
        todo += [(target, last, served[order[:at]]), (target, last, served[order[at:]])]
    if not lines:
        nothing = np.zeros((0, 3), np.float32)
        return Tubes(nothing, nothing, np.zeros(0, np.float32))
    return Tubes(
        np.concatenate([line[:-1] for line in lines]).astype(np.float32),
        np.concatenate([line[1:] for line in lines]).astype(np.float32),
        np.repeat(np.array(radii, np.float32), [len(line) - 1 for line in lines]),
    )


def paint(cover: Floats, tubes: Tubes, corner: Floats, spacing_mm: float) -> None:
    """Raise `cover` (float32 [z, y, x], 0 to 1, in place) to the share of a voxel that tubes fill.

    Parameters
    ----------
    corner
        mm: z, y, x of the centre of voxel (0, 0, 0).
    spacing_mm
        Edge of the cubic voxels.
    """
    start = (tubes.start - corner) / spacing_mm
    end = (tubes.end - corner) / spacing_mm
    radius = tubes.radius / spacing_mm
    # A tube thinner than a voxel fills a share of it by its cross-section.
    wide = np.maximum(radius, 0.5)
    most = np.minimum(1.0, (radius / wide) ** 2)
    middle = (start + end) / 2
    reach = np.ceil(wide + 0.5 + np.linalg.norm(end - start, axis=1) / 2).astype(int)
    inside = ((middle > -reach[:, None]) & (middle < np.array(cover.shape) + reach[:, None])).all(1)
    flat = cover.reshape(-1)
    for size in np.unique(reach[inside]):
        edge = np.arange(-size, size + 1)
        cube = np.stack(np.meshgrid(edge, edge, edge, indexing="ij"), -1).reshape(-1, 3)
        which = np.flatnonzero(inside & (reach == size))
        at_once = max(1, _PIECES_AT_ONCE // len(cube))
        for i in range(0, len(which), at_once):
            some = which[i : i + at_once]
            voxels = np.rint(middle[some]).astype(np.int32)[:, None] + cube.astype(np.int32)
            share = _share(voxels, start[some], end[some], wide[some]) * most[some, None]
            kept = (share > 0) & ((voxels >= 0) & (voxels < cover.shape)).all(-1)
            z, y, x = voxels[kept].T
            np.maximum.at(flat, (z * cover.shape[1] + y) * cover.shape[2] + x, share[kept])


def _share(voxels: npt.NDArray[np.int32], start: Floats, end: Floats, wide: Floats) -> Floats:
    along = end - start
    offset = voxels - start[:, None]
    length = np.einsum("nc,nc->n", along, along) + 1e-6
    t = np.einsum("nvc,nc->nv", offset, along) / length[:, None]
    offset -= np.clip(t, 0, 1)[..., None] * along[:, None]
    distance = np.sqrt(np.einsum("nvc,nvc->nv", offset, offset))
    share: Floats = np.clip(0.5 + wide[:, None] - distance, 0, 1).astype(np.float32)
    return share


def _bend(place: Floats, heading: Floats, target: Floats, random: np.random.Generator) -> Floats:
    """Return a curve (quadratic Bézier) that leaves along `heading`: float32 [n, 3]."""
    length = float(np.linalg.norm(target - place))
    control = place + 0.3 * length * heading + 0.05 * length * random.normal(size=3)
    t = np.linspace(0, 1, 2 + int(length / _STEP_MM))[:, None]
    curve: Floats = (1 - t) ** 2 * place + 2 * t * (1 - t) * control + t**2 * target
    return curve
