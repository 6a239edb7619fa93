"""Two exams laid over each other: all that tracking needs of their pixels, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lungmesh.followup.registration import Exam, register
from lungmesh.followup.shown import shows
from lungmesh.v1 import followup_pb2
from lungmesh.v1.followup_pb2 import RegistrationMethod
from lungmesh.v1.volume_pb2 import VolumeReady

RULES = ("exam-laying", "3")
# A place this far outside the box around the lungs is not in them, mm.
_BEYOND_MM = 15.0
# Slices that differ by more than this share are unlike.
_THICKNESS_SHARE = 0.25
# Lungs that differ by more than this share hold another breath.
_BREATH_SHARE = 0.15
# A lobe with less is no lobe to measure places in, ml.
_LEAST_LOBE_ML = 50.0

Place = tuple[float, float, float]
Floats = npt.NDArray[np.float64]
Ends = tuple[Floats, Floats]
Box = tuple[slice, ...]


@dataclass(frozen=True)
class Limits:
    """Below which quality a registration is refused.

    Attributes
    ----------
    least_dice
        Overlap of the worse laid lung.
    most_inverse_error_mm
        Median distance between a place and where there and back leads.
    least_likeness
        Correlation of the vessels deep in the worse laid lung. In simulated pairs it is 0.9 for
        the same patient and 0.4 for two different ones.
    """

    least_dice: float = 0.80
    most_inverse_error_mm: float = 4.0
    least_likeness: float = 0.5


@dataclass(frozen=True)
class Laying:
    """How an earlier exam lies over the current one.

    Attributes
    ----------
    method
        LOBES where the registration was refused.
    dice, inverse_error_mm
        Of the registration, also of a refused one; dice of the worse laid lung.
    earlier_places
        By nodule id of the earlier exam: its place in the current exam's LPS, mm.
    earlier_visible
        Whether that place lies in the current exam's field of view and lungs' extent.
    current_visible
        By nodule id of the current exam: whether its place lies in the earlier one's.
    shown
        Nodule ids of both exams: the other exam shows something alike at the nodule's place,
        whether a nodule was found there or not. Empty where the registration was refused.
    warnings
        Codes of what makes the two exams unlike: kernel, slice_thickness, contrast, lung_volume.
    """

    method: RegistrationMethod.ValueType
    dice: float
    inverse_error_mm: float
    earlier_places: Mapping[str, Place]
    earlier_visible: Mapping[str, bool]
    current_visible: Mapping[str, bool]
    shown: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as text that `from_json` reads; equal layings give equal text."""
        return json.dumps(
            {
                "method": RegistrationMethod.Name(self.method),
                "dice": self.dice,
                "inverse_error_mm": self.inverse_error_mm,
                "earlier_places": dict(self.earlier_places),
                "earlier_visible": dict(self.earlier_visible),
                "current_visible": dict(self.current_visible),
                "shown": sorted(self.shown),
                "warnings": self.warnings,
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Laying:
        """Read what `to_json` wrote."""
        kept = json.loads(text)
        return cls(
            method=RegistrationMethod.Value(kept["method"]),
            dice=kept["dice"],
            inverse_error_mm=kept["inverse_error_mm"],
            earlier_places={name: _place(at) for name, at in kept["earlier_places"].items()},
            earlier_visible=kept["earlier_visible"],
            current_visible=kept["current_visible"],
            # Layings that an earlier version kept have none.
            shown=frozenset(kept.get("shown", ())),
            warnings=tuple(kept["warnings"]),
        )


def lay(
    earlier: Exam,
    current: Exam,
    earlier_centers: Mapping[str, Place],
    current_centers: Mapping[str, Place],
    limits: Limits,
    warnings: Sequence[str] = (),
    diameters: Mapping[str, float] = MappingProxyType({}),
) -> Laying:
    """Register two exams and say where the nodules of each lie in the other.

    Parameters
    ----------
    earlier_centers, current_centers
        By nodule id: LPS of its own exam, mm.
    warnings
        Of `unlike`.
    diameters
        Mean diameters by nodule id of both exams, mm; `shown` is told of these nodules.

    Raises ValueError when one of the exams has no lung.
    """
    laid = register(earlier, current)
    trusted = (
        laid.dice >= limits.least_dice
        and laid.inverse_error_mm <= limits.most_inverse_error_mm
        and (laid.likeness is None or laid.likeness >= limits.least_likeness)
    )
    then, now = _Extent(earlier), _Extent(current)
    places: dict[str, Place] = {}
    for name, center in earlier_centers.items():
        point = np.asarray(center, float)
        places[name] = _place(laid.to_current(point) if trusted else then.moved(point, now))
    back: dict[str, Place] = {}
    for name, center in current_centers.items():
        point = np.asarray(center, float)
        back[name] = _place(laid.to_earlier(point) if trusted else now.moved(point, then))
    shown = {
        name
        for exam, centers, other, at in (
            (earlier, earlier_centers, current, places),
            (current, current_centers, earlier, back),
        )
        for name in centers.keys() & diameters.keys()
        if trusted and shows(other, at[name], exam, centers[name], diameters[name])
    }
    return Laying(
        method=laid.method if trusted else followup_pb2.REGISTRATION_METHOD_LOBES,
        dice=laid.dice,
        inverse_error_mm=laid.inverse_error_mm,
        earlier_places=places,
        earlier_visible={name: now.shows(at) for name, at in places.items()},
        current_visible={name: then.shows(at) for name, at in back.items()},
        shown=frozenset(shown),
        warnings=tuple(warnings),
    )


def unlike(earlier: VolumeReady, current: VolumeReady) -> tuple[str, ...]:
    """Return the codes of what makes measurements of two exams unlike, in a fixed order.

    What a header does not state is not compared. Nodules change with the breath by their own
    density, so the volume of the lungs counts too.
    """
    then, now = earlier.volume.acquisition, current.volume.acquisition
    found = []
    if (
        then.convolution_kernel
        and now.convolution_kernel
        and then.convolution_kernel != now.convolution_kernel
    ):
        found.append("kernel")
    if _differ(then.slice_thickness_mm, now.slice_thickness_mm, _THICKNESS_SHARE):
        found.append("slice_thickness")
    if then.HasField("contrast") and now.HasField("contrast") and then.contrast != now.contrast:
        found.append("contrast")
    if _differ(earlier.lung_volume_ml, current.lung_volume_ml, _BREATH_SHARE):
        found.append("lung_volume")
    return tuple(found)


class _Extent:
    """Where an exam's lungs and lobes lie, in LPS."""

    def __init__(self, exam: Exam) -> None:
        self._exam = exam
        found = ndimage.find_objects(exam.lobes)
        self._lobes = {
            number: self._ends(part)
            for number, part in enumerate(found, start=1)
            if part is not None and _large(exam, number, part)
        }
        parts = [part for part in found if part is not None]
        if not parts:
            raise ValueError("the exam has no lung to lay over another")
        ends = [self._ends(part) for part in parts]
        self.lungs = np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], 0)

    def shows(self, place: Place) -> bool:
        """Return whether a place (LPS, mm) lies in the field of view and near the lungs."""
        index = self._exam.grid.to_index(place)
        if np.any(index < -0.5) or np.any(index > np.asarray(self._exam.grid.size) - 0.5):
            return False
        low, high = self.lungs
        at = np.asarray(place)
        return bool(np.all(at >= low - _BEYOND_MM) and np.all(at <= high + _BEYOND_MM))

    def moved(self, point: Floats, to: _Extent) -> Floats:
        """Return a place of this exam in another by its share of its lobe's box, or the lungs'."""
        (low, high), (to_low, to_high) = self.lungs, to.lungs
        number = self._lobe_at(point)
        if number in self._lobes and number in to._lobes:
            (low, high), (to_low, to_high) = self._lobes[number], to._lobes[number]
        place: Floats = to_low + (point - low) * (to_high - to_low) / (high - low)
        return place

    def _lobe_at(self, point: Floats) -> int:
        x, y, z = np.rint(self._exam.grid.to_index(point)).astype(int)
        inside = all(0 <= at < n for at, n in zip((x, y, z), self._exam.grid.size, strict=True))
        return int(self._exam.lobes[z, y, x]) if inside else 0

    def _ends(self, part: Box) -> Ends:
        # The box in index space suffices: axes of CT grids run along the body.
        z, y, x = part
        ends = self._exam.grid.to_lps(
            [[x.start, y.start, z.start], [x.stop - 1, y.stop - 1, z.stop - 1]]
        )
        return ends.min(axis=0), ends.max(axis=0)


def _large(exam: Exam, number: int, part: Box) -> bool:
    voxels = np.count_nonzero(exam.lobes[part] == number)
    return bool(voxels * exam.grid.voxel_volume_mm3 >= _LEAST_LOBE_ML * 1000)


def _differ(one: float, other: float, share: float) -> bool:
    return one > 0 and other > 0 and abs(one - other) > share * max(one, other)


def _place(at: npt.ArrayLike) -> Place:
    x, y, z = np.asarray(at, float).round(3).tolist()
    return x, y, z
