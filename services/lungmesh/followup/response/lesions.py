"""Lesions by RECIST 1.1 (Eisenhauer, Eur J Cancer 2009;45:228): sizes, targets, who is new."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

MOST_TARGETS = 5
MOST_TARGETS_OF_AN_ORGAN = 2
# A lesion that is seen but too small to measure counts as this long.
TOO_SMALL_MM = 5.0
_MEASURABLE_MM = 10.0
_MEASURABLE_NODE_MM = 15.0
_NORMAL_NODE_MM = 10.0
# Up to here 10 mm are measurable; in thicker slices it takes twice the slice.
_THIN_SLICE_MM = 5.0


@dataclass(frozen=True)
class Lesion:
    """A lesion in one exam.

    Attributes
    ----------
    tracking_uid
        The same in every exam.
    long_axis_mm, short_axis_mm
        None when the lesion is seen but too small to measure.
    organ
        A pair of organs is one: both lungs are `lung`.
    node
        A lymph node: its short axis counts.
    related_uids
        Lesions that it split off from or that merged into it.
    """

    tracking_uid: str
    long_axis_mm: float | None
    short_axis_mm: float | None
    volume_mm3: float
    organ: str = "lung"
    node: bool = False
    related_uids: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExamLesions:
    """What one exam shows of a patient's lesions.

    Attributes
    ----------
    study_date
        DICOM DA.
    lesions
        All that are seen; one that is in no earlier exam is new.
    not_evaluated
        Tracking UIDs whose place the exam does not show.
    slice_thickness_mm
        None when unknown: then slices are taken as thin.
    """

    study_id: str
    study_date: str
    lesions: tuple[Lesion, ...]
    not_evaluated: frozenset[str] = frozenset()
    slice_thickness_mm: float | None = None


@dataclass(frozen=True)
class Chosen:
    """Tracking UIDs of the baseline's lesions: targets, largest first, and all others."""

    targets: tuple[str, ...]
    non_targets: tuple[str, ...]
    node_targets: frozenset[str]


@dataclass(frozen=True)
class Seen:
    """The sizes of lesions in an exam: summed diameters in mm and volumes in mm³."""

    size_mm: float = 0.0
    volume_mm3: float = 0.0


@dataclass(frozen=True)
class Reading:
    """An exam's lesions, told apart.

    Attributes
    ----------
    targets, non_targets
        What is there of each baseline lesion, fragments together; one that is gone is missing.
    new
        Lesions that are none of the baseline's.
    missed_targets, missed_non_targets
        Whether the place of one of them was not shown.
    kept_as
        Under which lesion each tracking UID counts, here and from now on.
    """

    targets: Mapping[str, Seen]
    non_targets: Mapping[str, Seen]
    new: Mapping[str, Seen]
    measurable_new: frozenset[str]
    missed_targets: bool
    missed_non_targets: bool
    kept_as: Mapping[str, str]

    @property
    def sum_mm(self) -> float:
        """Sum of the targets' diameters."""
        return sum(seen.size_mm for seen in self.targets.values())


def size_mm(lesion: Lesion, slice_thickness_mm: float | None) -> float:
    """Return the diameter that counts: a node's short axis, else the long axis.

    A diameter below the slice's thickness is no measurement: the lesion is too small to measure.
    """
    axis = lesion.short_axis_mm if lesion.node else lesion.long_axis_mm
    if axis is None or axis < min(TOO_SMALL_MM, slice_thickness_mm or 0.0):
        return TOO_SMALL_MM
    return axis


def measurable(lesion: Lesion, slice_thickness_mm: float | None) -> bool:
    """Return whether a lesion can be a target: 10 mm, a node 15 mm, more in slices above 5 mm."""
    thickness = slice_thickness_mm or 0.0
    least = _MEASURABLE_NODE_MM if lesion.node else _MEASURABLE_MM
    if thickness > _THIN_SLICE_MM:
        least = max(least, 2 * thickness)
    return size_mm(lesion, slice_thickness_mm) >= least


def disease(lesion: Lesion, slice_thickness_mm: float | None) -> bool:
    """Return whether it is a lesion at all: a node below 10 mm in its short axis is normal."""
    return not lesion.node or size_mm(lesion, slice_thickness_mm) >= _NORMAL_NODE_MM


def choose(baseline: ExamLesions) -> Chosen:
    """Choose the targets: the largest measurable ones, every organ's largest first.

    At most five, at most two an organ. The others, measurable or not, are non-targets.
    """
    thickness = baseline.slice_thickness_mm
    found = sorted(
        (lesion for lesion in baseline.lesions if disease(lesion, thickness)),
        key=lambda lesion: (-size_mm(lesion, thickness), lesion.tracking_uid),
    )
    ranks: list[tuple[int, int, Lesion]] = []
    of_organ: Counter[str] = Counter()
    for place, lesion in enumerate(found):
        if measurable(lesion, thickness) and of_organ[lesion.organ] < MOST_TARGETS_OF_AN_ORGAN:
            ranks.append((of_organ[lesion.organ], place, lesion))
            of_organ[lesion.organ] += 1
    ranks = sorted(ranks, key=lambda rank: rank[:2])[:MOST_TARGETS]
    targets = [lesion for _, _, lesion in sorted(ranks, key=lambda rank: rank[1])]
    uids = tuple(lesion.tracking_uid for lesion in targets)
    return Chosen(
        targets=uids,
        non_targets=tuple(i.tracking_uid for i in found if i.tracking_uid not in uids),
        node_targets=frozenset(i.tracking_uid for i in targets if i.node),
    )


def read(exam: ExamLesions, chosen: Chosen, kept_as: Mapping[str, str]) -> Reading:
    """Tell an exam's lesions apart.

    A fragment counts with the lesion that it split off from; of lesions that merged the whole
    counts with the first of them that is a target. What is nothing that was seen before is new.

    Parameters
    ----------
    kept_as
        Of the earlier exams.
    """
    thickness = exam.slice_thickness_mm
    known = {uid: uid for uid in (*chosen.targets, *chosen.non_targets)} | dict(kept_as)
    targets: dict[str, list[Lesion]] = defaultdict(list)
    non_targets: dict[str, list[Lesion]] = defaultdict(list)
    new: dict[str, list[Lesion]] = defaultdict(list)
    for lesion in exam.lesions:
        names = (lesion.tracking_uid, *lesion.related_uids)
        owners = [known[name] for name in names if name in known]
        owners.sort(key=lambda uid: uid not in chosen.targets)
        owner = owners[0] if owners else lesion.tracking_uid
        if owner in chosen.targets:
            targets[owner].append(lesion)
        elif not disease(lesion, thickness):
            continue
        else:
            (non_targets if owner in chosen.non_targets else new)[owner].append(lesion)
        known[lesion.tracking_uid] = owner

    def seen(lesions: Mapping[str, list[Lesion]]) -> dict[str, Seen]:
        return {
            uid: Seen(
                sum(size_mm(part, thickness) for part in parts),
                sum(part.volume_mm3 for part in parts),
            )
            for uid, parts in lesions.items()
        }

    return Reading(
        targets=seen(targets),
        non_targets=seen(non_targets),
        new=seen(new),
        measurable_new=frozenset(
            uid for uid, parts in new.items() if any(measurable(part, thickness) for part in parts)
        ),
        missed_targets=any(
            uid in exam.not_evaluated and uid not in targets for uid in chosen.targets
        ),
        missed_non_targets=any(
            uid in exam.not_evaluated and uid not in non_targets for uid in chosen.non_targets
        ),
        kept_as=known,
    )


def normal_nodes(reading: Reading, chosen: Chosen) -> bool:
    """Return whether all that is left of the targets are nodes of normal size."""
    return all(
        uid in chosen.node_targets and seen.size_mm < _NORMAL_NODE_MM
        for uid, seen in reading.targets.items()
    )
