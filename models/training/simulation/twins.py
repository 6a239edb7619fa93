"""Patients with follow-up CTs whose whole truth is known: breath, pose, scanner, every nodule.

Every exam of a patient is the same real CT, moved by a known map, as another scanner or dose would
have shown it, with nodules of LIDC readers' shapes that grow, come, go, merge and split. Simulated,
and every figure measured on it is labelled so. The chest wall moves with the lung: sliding along
the pleura is not simulated, and all patients have one of two real pairs of lungs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.mesh.geometry import Grid
from models.training.simulation.degrade import (
    measured_noise,
    rounded,
    sharp_kernel,
    soft_kernel,
    thick_slices,
    with_noise,
)
from models.training.simulation.hosts import Host
from models.training.simulation.plant import Planted, plant
from models.training.simulation.shapes import Shape
from models.training.simulation.twin_courses import Course, courses
from models.training.simulation.twin_motion import Motion, breathing

Hu = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
# Room around the lungs, mm.
_MARGIN_MM = 14.0
_SLICES_AT_ONCE = 24
# Greatest difference of two breath-holds at the diaphragm, mm.
MOST_BREATH_MM = 30.0
# Share of exams of another kernel, dose or slice, and of those that end within the lungs.
_OTHER_KERNEL, _LOW_DOSE, _THICK, _CUT = 0.3, 0.3, 0.2, 0.15
_THICK_MM = 2.5
# Noise that no two exams share: a resampled host keeps its own, and new is added.
_OWN_NOISE, _LOW_DOSE_NOISE = 0.7, 1.5


@dataclass(frozen=True)
class TwinExam:
    """One exam of a simulated patient.

    Attributes
    ----------
    days
        Since the patient's first exam.
    hu, lungs, ignore
        int16, bool, bool [z, y, x]: the CT, its closed lungs, what readers marked in the real CT.
    grid
        In LPS; index axes run along x, y, z.
    slice_mm, kernel, low_dose
        How it was scanned; kernel is "standard", "soft" or "sharp".
    breath_mm
        How much higher the diaphragm stands than in the real CT.
    nodules
        What was planted, by its name in this exam: that of one course, or of two that merged
        joined by "+".
    hidden
        Courses that would be there but lie outside the exam or in tissue that hides them.
    """

    name: str
    days: int
    hu: Hu
    lungs: Mask
    ignore: Mask
    grid: Grid
    slice_mm: float
    kernel: str
    low_dose: bool
    breath_mm: float
    motion: Motion
    nodules: Mapping[str, Planted]
    hidden: frozenset[str]

    @property
    def spacing(self) -> Triple:
        """Return mm along [z, y, x]."""
        x, y, z = self.grid.spacing
        return z, y, x

    def center(self, nodule: str) -> Triple:
        """Return a nodule's centre of mass, LPS mm."""
        x, y, z = self.grid.to_lps(self.nodules[nodule].center_zyx[::-1]).tolist()
        return x, y, z


def moved(points: npt.ArrayLike, start: TwinExam, end: TwinExam) -> Floats:
    """Map LPS points (…, 3) of one exam to the same tissue in another, mm: the exact truth."""
    host = start.motion.to_host(np.asarray(points, float)[..., ::-1])
    return end.motion.from_host(host)[..., ::-1]


def twin(host: Host, shapes: Sequence[Shape], seed: int, exams: int = 2) -> list[TwinExam]:
    """Return a simulated patient's exams in order of time; the same seed gives the same patient.

    Parameters
    ----------
    host
        A real host on its own grid.
    shapes
        Of one split.
    """
    random = np.random.default_rng([seed, 0x7714])
    days = np.cumsum([0, *random.choice((90, 180, 365, 365, 730), exams - 1)]).tolist()
    breaths = random.uniform(0, MOST_BREATH_MM, exams) - MOST_BREATH_MM / 6
    fates = courses(host, shapes, days, random)
    return [
        _exam(
            host,
            f"{host.name} twin {seed}.{number}",
            int(day),
            float(breath),
            fates,
            number,
            np.random.default_rng([seed, number, 0x3E]),
        )
        for number, (day, breath) in enumerate(zip(days, breaths, strict=True))
    ]


def _exam(
    host: Host,
    name: str,
    days: int,
    breath_mm: float,
    fates: Sequence[Course],
    number: int,
    random: np.random.Generator,
) -> TwinExam:
    motion = breathing(host, breath_mm, random)
    cut = float(random.uniform(0.2, 0.35)) if random.random() < _CUT else 0.0
    low, size = _field_of_view(host, motion, cut)
    image, lungs, ignore = _resampled(host, motion, low, size)
    kernel = (
        str(random.choice(["soft", "sharp"])) if random.random() < _OTHER_KERNEL else "standard"
    )
    profile = host.profile(float({"soft": 0.85, "sharp": 0.5, "standard": 0.6}[kernel]))
    nodules: dict[str, Planted] = {}
    hidden = set()
    for course in fates:
        diameter = course.diameters_mm[number]
        if not diameter:
            continue
        place = (motion.from_host(np.asarray(course.place_mm)) - low) / host.spacing
        z, y, x = place.tolist()
        planted = None
        if np.all(place > 0) and np.all(place < np.asarray(size) - 1):
            planted = plant(
                image,
                lungs,
                host.spacing,
                course.shape,
                course.kind,
                (z, y, x),
                diameter,
                profile,
                np.random.default_rng(course.seed),
            )
        if planted is None:
            hidden.add(course.name)
        else:
            nodules[course.name] = planted
    nodules = _merged(nodules, fates, number, float(np.prod(host.spacing)))
    hu, low_dose = _scanned(rounded(image), host, lungs, kernel, random)
    spacing, slice_mm = host.spacing, host.slice_mm
    first = low
    if host.spacing[0] < 0.75 * _THICK_MM and random.random() < _THICK:
        change = thick_slices(hu, spacing, _THICK_MM)
        hu, spacing, slice_mm = change.hu, change.spacing, _THICK_MM
        lungs, ignore = change.moved(lungs), change.moved(ignore)
        nodules = {
            one: _thicker(planted, change.scale[0], change.offset[0], len(hu))
            for one, planted in nodules.items()
        }
        first = low + np.array([(spacing[0] - host.spacing[0]) / 2, 0, 0])
    depth, height, width = hu.shape
    grid = Grid(
        size=(width, height, depth),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=(float(first[2]), float(first[1]), float(first[0])),
        direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    return TwinExam(
        name,
        days,
        hu,
        lungs,
        ignore,
        grid,
        slice_mm,
        kernel,
        low_dose,
        breath_mm,
        motion,
        nodules,
        frozenset(hidden),
    )


def _field_of_view(host: Host, motion: Motion, cut: float) -> tuple[Floats, tuple[int, int, int]]:
    """Return the first voxel, mm along [z, y, x], and the size of an exam of the lungs.

    Parameters
    ----------
    cut
        Share of the lungs' height that the exam leaves away at the base.
    """
    some = np.argwhere(host.lungs[::4, ::8, ::8]) * (4, 8, 8) * np.asarray(host.spacing)
    places = motion.from_host(some)
    low, high = places.min(axis=0) - _MARGIN_MM, places.max(axis=0) + _MARGIN_MM
    if cut:
        low[0] += _MARGIN_MM + cut * (high[0] - low[0] - 2 * _MARGIN_MM)
    depth, height, width = np.ceil((high - low) / host.spacing).astype(int).tolist()
    return low, (depth, height, width)


def _resampled(
    host: Host, motion: Motion, low: Floats, size: tuple[int, int, int]
) -> tuple[Image, Mask, Mask]:
    """Return the real CT as it lies in the exam: HU, lungs, ignore, [z, y, x]."""
    spacing = np.asarray(host.spacing)
    source = host.hu.astype(np.float32)
    image = np.empty(size, np.float32)
    lungs, ignore = np.empty(size, bool), np.empty(size, bool)
    dense = motion.density()
    for start in range(0, size[0], _SLICES_AT_ONCE):
        part = slice(start, min(size[0], start + _SLICES_AT_ONCE))
        first = low + np.array([start * spacing[0], 0, 0])
        shape = (part.stop - part.start, *size[1:])
        at = np.stack(
            [
                motion.sampled(field, first, spacing, shape) / np.float32(mm)
                for field, mm in zip(motion.host, spacing, strict=True)
            ]
        )
        values = ndimage.map_coordinates(source, at, order=1, mode="constant", cval=-1000)
        near = np.rint(at)
        lungs[part] = ndimage.map_coordinates(host.lungs, near, order=0, mode="constant", cval=0)
        ignore[part] = ndimage.map_coordinates(host.ignore, near, order=0, mode="constant", cval=0)
        # The same tissue in less room is denser; what holds no air keeps its HU.
        share = np.clip((-500 - values) / 200, 0, 1) * lungs[part]
        more = (values + 1000) * (motion.sampled(dense, first, spacing, shape) - 1)
        image[part] = values + share * more
    return image, lungs, ignore


def _merged(
    nodules: Mapping[str, Planted], fates: Sequence[Course], number: int, voxel_mm3: float
) -> dict[str, Planted]:
    """Join couples that overlap in this exam into one nodule."""
    out = dict(nodules)
    for course in fates:
        if course.partner < course.name or not {course.name, course.partner} <= out.keys():
            continue
        one, other = out[course.name], out[course.partner]
        partner = next(item for item in fates if item.name == course.partner)
        reach = (course.diameters_mm[number] + partner.diameters_mm[number]) / 2
        if np.linalg.norm(np.subtract(course.place_mm, partner.place_mm)) < reach:
            del out[course.name], out[course.partner]
            out[f"{course.name}+{course.partner}"] = _union(one, other, voxel_mm3)
    return out


def _union(one: Planted, other: Planted, voxel_mm3: float) -> Planted:
    box = tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(one.box, other.box, strict=True)
    )
    total, solid = (np.zeros([part.stop - part.start for part in box], np.float32) for _ in "ts")
    for part in (one, other):
        where = tuple(
            slice(a.start - b.start, a.stop - b.start) for a, b in zip(part.box, box, strict=True)
        )
        np.maximum(total[where], part.total, out=total[where])
        np.maximum(solid[where], part.solid, out=solid[where])
    volume = float(total.sum()) * voxel_mm3
    places = np.stack(np.meshgrid(*(np.arange(p.start, p.stop) for p in box), indexing="ij"), -1)
    z, y, x = (np.average(places[..., axis], weights=total) for axis in range(3))
    return Planted(
        center_zyx=(float(z), float(y), float(x)),
        diameter_mm=float((6 / np.pi * volume) ** (1 / 3)),
        volume_mm3=volume,
        kind=one.kind,
        box=(box[0], box[1], box[2]),
        total=total,
        solid=solid,
        nodule=f"{one.nodule}+{other.nodule}",
    )


def _scanned(
    hu: Hu, host: Host, lungs: Mask, kernel: str, random: np.random.Generator
) -> tuple[Hu, bool]:
    """Return the exam with noise of its own and its kernel, and whether its dose was low."""
    low_dose = random.random() < _LOW_DOSE
    times = _LOW_DOSE_NOISE if low_dose else _OWN_NOISE
    noise = measured_noise(hu, host.spacing, lungs)
    out = with_noise(hu, host.spacing, noise, times, int(random.integers(2**31))).hu
    if kernel == "soft":
        out = soft_kernel(out, host.spacing).hu
    elif kernel == "sharp":
        out = sharp_kernel(out, host.spacing, boost=0.8).hu
    return out, low_dose


def _thicker(planted: Planted, scale: float, offset: float, depth: int) -> Planted:
    """Return a nodule on slices that average the exam's; `scale` and `offset` map z."""
    z, y, x = planted.box
    ends = (np.arange(z.start, z.stop + 1) - 0.5) * scale + offset
    low, high = max(0, int(ends[0] + 0.5)), min(depth, int(np.ceil(ends[-1] + 0.5)))
    edge = np.arange(low, high)[:, None] - 0.5
    shared = np.minimum(edge + 1, ends[1:]) - np.maximum(edge, ends[:-1])
    weights = np.clip(shared, 0, None).astype(np.float32)
    at, row, column = planted.center_zyx
    return replace(
        planted,
        center_zyx=(at * scale + offset, row, column),
        box=(slice(low, high), y, x),
        total=np.tensordot(weights, planted.total, 1),
        solid=np.tensordot(weights, planted.solid, 1),
    )
