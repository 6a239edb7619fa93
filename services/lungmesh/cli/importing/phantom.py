"""The phantom of an import: a ball in simulated lung, which a lung nodule detector must see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.cli.exits import CommandError, Exit
from lungmesh.cli.importing.manifest import Between, Use
from lungmesh.detection.family import Candidate, Family, Hu, Shape, Tile, Triple

Places = npt.NDArray[np.float64]
Answer = Callable[[Mapping[str, npt.NDArray[Any]]], Mapping[str, npt.NDArray[Any]]]

_LUNG_HU, _SOFT_HU = -860.0, 40.0
# Noise as a soft kernel leaves it: deviation, and the width of its grain in mm.
_NOISE_HU, _GRAIN_MM = 25.0, 0.7
# Blur of every edge, mm.
_EDGE_MM = 0.4
_SEED = 20261124
# The ball's diameter where the manifest allows it, mm, and the room that it needs in a tile's core.
_BALL_MM, _ROOM_MM = 10.0, 2.5
# Where in the core the ball lies: in the middle of no axis, so that a place along the wrong one
# misses it.
_BALL_AT = (0.4, 0.62, 0.45)
# A size this many times off speaks of a wrong unit, spacing or anchor.
_MOST_SIZE_ERROR = 2.0
# What the ball must add to the logit of the best candidate at its place.
_LEAST_GAIN = 1.0
# Vessels and the wall may look like nodules to a good network, but not many of them.
_MOST_AS_HIGH = 5
# Of the candidates that are looked at.
LEAST_SCORE = 1e-3


@dataclass(frozen=True)
class Seen:
    """What a network answers to the phantom.

    Attributes
    ----------
    ball_mm
        Diameter of the ball.
    score, diameter_mm, off_mm
        Of the best candidate within the ball.
    without_ball
        Best score at the ball's place in the same lung without it.
    elsewhere
        Best score away from the ball.
    as_high
        Places away from the ball that score as high as it.
    """

    ball_mm: float
    score: float
    diameter_mm: float
    off_mm: float
    without_ball: float
    elsewhere: float
    as_high: int


def look(family: Family, least_score: float, use: Use, answer: Answer, called: str) -> Seen:
    """Show the phantom to a network, with and without its ball.

    Parameters
    ----------
    family
        The detector's reader, which must not drop low scores.
    least_score
        The score that the ball must have.
    answer
        Runs the network on the inputs of one tile; both without a batch axis.

    Raises CommandError (BELOW_STANDARD) when the network does not see the ball where it is, sees
    the same lung without it as well, or says a size that is far off.
    """
    sizes = use.nodule_diameter_mm or Between()
    ball_mm = min(max(_BALL_MM, sizes.min or 0), sizes.max or _BALL_MM)
    core = _core(family)
    room = [side.stop - side.start for side in core]
    if any(n * mm < _ROOM_MM * ball_mm for n, mm in zip(room, family.grid_mm, strict=True)):
        raise CommandError(
            f"{called} cannot be tried: the core of its tile is {room} voxels, too small for a "
            f"ball of {ball_mm:g} mm, so give it a larger tile or a smaller halo",
            Exit.BELOW_STANDARD,
        )
    z, y, x = (
        side.start + round(at * (side.stop - side.start))
        for side, at in zip(core, _BALL_AT, strict=True)
    )
    center = (float(z), float(y), float(x))
    found = []
    for with_ball in (True, False):
        hu = phantom(family.tile, family.grid_mm, center, ball_mm if with_ball else None)
        tile = Tile(hu=hu, start=(0, 0, 0), core=core)
        found.append(family.candidates(family.tile, [(tile, answer(family.inputs(hu)))]))
    here = [item for item in found[0] if _away(item, center, family.grid_mm) <= ball_mm / 2]
    there = [item for item in found[0] if _away(item, center, family.grid_mm) > ball_mm]
    before = [item for item in found[1] if _away(item, center, family.grid_mm) <= ball_mm / 2]
    if not here:
        raise CommandError(
            f"{called} does not see a ball of {ball_mm:g} mm in simulated lung: compare window, "
            "spacing, axes and outputs with how it was trained",
            Exit.BELOW_STANDARD,
        )
    best = max(here, key=lambda item: item.score)
    seen = Seen(
        ball_mm=ball_mm,
        score=best.score,
        diameter_mm=best.diameter_mm,
        off_mm=_away(best, center, family.grid_mm),
        without_ball=max((item.score for item in before), default=LEAST_SCORE),
        elsewhere=max((item.score for item in there), default=0.0),
        as_high=sum(item.score >= best.score for item in there),
    )
    _judge(seen, least_score, called)
    return seen


def phantom(shape: Shape, mm: Triple, center: Triple, ball_mm: float | None) -> Hu:
    """Return simulated lung with vessels, a chest wall and perhaps a ball, int16 HU [z, y, x].

    Parameters
    ----------
    mm
        Voxel edges along [z, y, x].
    center
        Index of the ball's centre.
    ball_mm
        Its diameter, mm; None leaves it out.
    """
    random = np.random.default_rng(_SEED)
    noise = ndimage.gaussian_filter(
        random.standard_normal(shape).astype(np.float32), [_GRAIN_MM / edge for edge in mm]
    )
    noise *= _NOISE_HU / noise.std()
    z, y, x = (
        ((np.arange(n) - at) * edge).reshape(view)
        for n, at, edge, view in zip(
            shape, center, mm, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True
        )
    )
    # Two vessels that run past the ball, along z and across x, and the chest wall at the back.
    inside = np.maximum(
        np.maximum(
            _within(1.5 - np.hypot(y - 14.0, x + 6.0)), _within(1.0 - np.hypot(z + 11.0, y + 9.0))
        ),
        _within(y - y.max() + 4.0),
    )
    if ball_mm is not None:
        inside = np.maximum(inside, _within(ball_mm / 2 - np.sqrt(z * z + y * y + x * x)))
    hu: Hu = np.rint(_LUNG_HU + (_SOFT_HU - _LUNG_HU) * inside + noise).astype(np.int16)
    return hu


def _core(family: Family) -> tuple[slice, slice, slice]:
    z, y, x = (
        slice(
            family.halo,
            family.halo + (edge - 2 * family.halo) // family.multiple * family.multiple,
        )
        for edge in family.tile
    )
    return z, y, x


def _within(depth: Places) -> Places:
    """Return the share of a voxel that is inside, by its depth below the surface in mm."""
    return np.asarray(1 / (1 + np.exp(-np.clip(depth / _EDGE_MM, -50, 50))))


def _away(candidate: Candidate, center: Triple, mm: Triple) -> float:
    return math.dist(np.multiply(candidate.place, mm), np.multiply(center, mm))


def _judge(seen: Seen, least_score: float, called: str) -> None:
    ball = f"a ball of {seen.ball_mm:g} mm in simulated lung"
    if seen.score < least_score:
        raise CommandError(
            f"{called} gives {ball} a score of {seen.score:.3f}, below its own least score of "
            f"{least_score:g}",
            Exit.BELOW_STANDARD,
        )
    if _logit(seen.score) - _logit(seen.without_ball) < _LEAST_GAIN:
        raise CommandError(
            f"{called} gives {ball} a score of {seen.score:.3f} and the same lung without it "
            f"{seen.without_ball:.3f}: it does not tell them apart",
            Exit.BELOW_STANDARD,
        )
    if seen.as_high > _MOST_AS_HIGH:
        raise CommandError(
            f"{called} gives {ball} a score of {seen.score:.3f} and as much to {seen.as_high} "
            "other places of that lung: it does not tell them apart",
            Exit.BELOW_STANDARD,
        )
    ratio = seen.diameter_mm / seen.ball_mm
    if not 1 / _MOST_SIZE_ERROR <= ratio <= _MOST_SIZE_ERROR:
        raise CommandError(
            f"{called} says that {ball} measures {seen.diameter_mm:.1f} mm: compare spacing, "
            "anchors and the unit of its sizes with how it was trained",
            Exit.BELOW_STANDARD,
        )


def _logit(score: float) -> float:
    score = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(score / (1 - score))
