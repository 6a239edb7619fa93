"""Simulated scans of the test split, and what other scanners would have made of them.

The nodules' shapes are of LIDC patients that no training saw, and the lungs are bent as no training
bent them; but all are variants of two real pairs of lungs, which training varies too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bench.referee.cases import Case, finding_of, moved
from models.training.simulation import degrade
from models.training.simulation.hosts import CHOICE_SEEDS, TEST_SEEDS, real_hosts
from models.training.simulation.scans import simulated_scan
from models.training.simulation.shapes import load_shapes

SPLIT = "test"
NODULES = 16
AS_SCANNED = "as scanned"
# What a scan is asked for under: the report warns from 2.5 mm on, and refuses above 5 mm.
SLICES_MM = (2.5, 3.0, 5.0)


def simulated_cases(count: int, split: str = SPLIT) -> Iterator[Case]:
    """Give simulated scans; the same number gives the same scan.

    Parameters
    ----------
    split
        Whose shapes: "test", or "validation", on which thresholds are chosen, in lungs of its own.

    Raises DataMissing without the readers' contours, ValueError for more scans than seeds.
    """
    seeds = TEST_SEEDS if split == SPLIT else CHOICE_SEEDS
    if not 0 < count <= len(seeds):
        raise ValueError(f"there are 1 to {len(seeds)} simulated scans, not {count}")
    hosts, shapes = real_hosts(), load_shapes(split)
    for number, seed in enumerate(seeds[:count]):
        scan = simulated_scan(hosts[number % len(hosts)], shapes, seed, NODULES)
        yield Case(
            name=scan.name,
            simulated=True,
            hu=scan.hu,
            lungs=scan.lungs,
            spacing=scan.spacing,
            slice_mm=scan.spacing[0],
            findings=tuple(finding_of(nodule) for nodule in scan.nodules),
            ignore=scan.ignore,
        )


def conditions() -> dict[str, Callable[[Case], Case | None]]:
    """Return what is done to the scans, by name; the first leaves them as they are.

    None comes of a scan that cannot be changed so: its slices are that thick already.
    """
    return {
        AS_SCANNED: lambda case: case,
        "quarter dose": lambda case: _changed(
            case, degrade.quarter_dose(case.hu, case.spacing, case.lungs, seed=1)
        ),
        "sharp kernel": lambda case: _changed(case, degrade.sharp_kernel(case.hu, case.spacing)),
        "soft kernel": lambda case: _changed(case, degrade.soft_kernel(case.hu, case.spacing)),
        **{f"{mm:g} mm slices": partial(_thick, mm=mm) for mm in SLICES_MM},
        "mirrored left to right": lambda case: _changed(
            case, degrade.flipped(case.hu, case.spacing, 2)
        ),
        "mirrored head to foot": lambda case: _changed(
            case, degrade.flipped(case.hu, case.spacing, 0)
        ),
        "prone": lambda case: _changed(case, degrade.prone(case.hu, case.spacing, case.lungs)),
        "cropped field of view": lambda case: _changed(
            case, degrade.cropped_field(case.hu, case.spacing, case.lungs)
        ),
    }


def _changed(case: Case, change: degrade.Degraded) -> Case:
    return moved(case, change, case.slice_mm)


def _thick(case: Case, mm: float) -> Case | None:
    if case.slice_mm >= mm:
        return None
    return moved(case, degrade.thick_slices(case.hu, case.spacing, mm), mm)
