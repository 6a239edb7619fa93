"""RECIST 1.1: targets, non-targets, response tables (Eisenhauer, Eur J Cancer 2009;45:228)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lungmesh.followup.response.lesions import Chosen, Reading, normal_nodes

RULES = ("RECIST", "1.1")
CR, PR, SD, PD, NE = "CR", "PR", "SD", "PD", "NE"
NON_CR_NON_PD = "non-CR/non-PD"
# No such lesions at baseline.
NONE = "none"

_PARTIAL = 0.7
_PROGRESSED = 1.2
_PROGRESSED_MM = 5.0
# "An increase in tumour burden representing an additional 73 % increase in volume (equivalent to a
# 20 % increase in diameter)" is unequivocal progression of what cannot be summed.
_PROGRESSED_VOLUME = 1.73
# Four weeks: a response counts as confirmed when it is there again after that time.
CONFIRMED_DAYS = 28.0
# Six weeks: how long a disease must have been stable to be called so as the best response.
STABLE_DAYS = 42.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Row:
    """A row of a response table; an empty set means any."""

    name: str
    targets: frozenset[str]
    non_targets: frozenset[str]
    new: bool | None
    response: str


def _row(name: str, targets: str, non_targets: str, new: bool | None, response: str) -> Row:
    return Row(name, frozenset(targets.split()), frozenset(non_targets.split()), new, response)


# In the order in which they speak: progression first.
TABLE_1 = (
    _row("Table 1: target PD, any non-target, new or no new lesions", PD, "", None, PD),
    _row("Table 1: any target, non-target PD, new or no new lesions", "", PD, None, PD),
    _row("Table 1: any target, any non-target, new lesions", "", "", True, PD),
    _row("Table 1: target CR, non-target CR, no new lesions", CR, "CR none", False, CR),
    _row(
        "Table 1: target CR, non-target non-CR/non-PD, no new lesions",
        CR,
        NON_CR_NON_PD,
        False,
        PR,
    ),
    _row("Table 1: target CR, non-target not evaluated, no new lesions", CR, NE, False, PR),
    _row("Table 1: target PR, non-target non-PD, no new lesions", PR, "", False, PR),
    _row("Table 1: target SD, non-target non-PD, no new lesions", SD, "", False, SD),
    _row("Table 1: target not all evaluated, non-target non-PD, no new lesions", NE, "", False, NE),
)
TABLE_2 = (
    _row("Table 2: non-target PD, new or no new lesions", NONE, PD, None, PD),
    _row("Table 2: any non-target, new lesions", NONE, "", True, PD),
    _row("Table 2: non-target CR, no new lesions", NONE, CR, False, CR),
    _row(
        "Table 2: non-target non-CR/non-PD, no new lesions",
        NONE,
        NON_CR_NON_PD,
        False,
        NON_CR_NON_PD,
    ),
    _row("Table 2: non-target not all evaluated, no new lesions", NONE, NE, False, NE),
    _row("no lesion at baseline, no new lesions", NONE, NONE, False, NE),
)


def overall(targets: str, non_targets: str, new: bool) -> Row:
    """Return the row of Table 1 (targets at baseline) or Table 2 (none) for an exam.

    Parameters
    ----------
    targets
        CR, PR, SD, PD, NE, or `none`.
    non_targets
        CR, non-CR/non-PD, PD, NE, or `none`.
    """
    for row in TABLE_2 if targets == NONE else TABLE_1:
        if (
            (not row.targets or targets in row.targets)
            and (not row.non_targets or non_targets in row.non_targets)
            and row.new in (None, new)
        ):
            return row
    raise ValueError(f"no such state: target {targets!r}, non-target {non_targets!r}")


def target_response(
    reading: Reading, chosen: Chosen, baseline_mm: float, smallest_mm: float
) -> str:
    """Return the targets' response.

    Parameters
    ----------
    smallest_mm
        The smallest complete sum before this exam, the baseline's among them.

    Of targets that were not all evaluated only progression is told: what is missing cannot undo it.
    """
    if not chosen.targets:
        return NONE
    total = reading.sum_mm
    if not reading.missed_targets and normal_nodes(reading, chosen):
        return CR
    if progressed(total, smallest_mm):
        return PD
    if reading.missed_targets:
        return NE
    return PR if total <= _PARTIAL * baseline_mm + _ROUNDING else SD


def progressed(total_mm: float, smallest_mm: float) -> bool:
    """Return whether a sum is 20 % and 5 mm above the smallest one."""
    return (
        total_mm >= _PROGRESSED * smallest_mm - _ROUNDING
        and total_mm - smallest_mm >= _PROGRESSED_MM - _ROUNDING
    )


def non_target_response(
    reading: Reading, chosen: Chosen, smallest_mm: float, smallest_mm3: float
) -> str:
    """Return the non-targets' response.

    Unequivocal progression is a reader's word in the paper. Measured, it is taken as its 73 % of
    volume together with the 5 mm that it asks of targets, so that noise is none.

    Parameters
    ----------
    smallest_mm, smallest_mm3
        The non-targets' summed diameters and volumes where the volumes were smallest so far.
    """
    if not chosen.non_targets:
        return NONE
    total_mm, total_mm3 = non_target_burden(reading)
    if (
        total_mm3 >= _PROGRESSED_VOLUME * smallest_mm3
        and total_mm - smallest_mm >= _PROGRESSED_MM - _ROUNDING
    ):
        return PD
    if reading.missed_non_targets:
        return NE
    return NON_CR_NON_PD if reading.non_targets else CR


def non_target_burden(reading: Reading) -> tuple[float, float]:
    """Return the non-targets' summed diameters (mm) and volumes (mm³)."""
    seen = reading.non_targets.values()
    return sum(item.size_mm for item in seen), sum(item.volume_mm3 for item in seen)


def best_overall(timepoints: Sequence[tuple[float, str]]) -> str:
    """Return the best overall response, a response being confirmed four weeks later (Table 3).

    Parameters
    ----------
    timepoints
        Days since the baseline and the response, in order.

    After a complete response any disease is progression (Table 3, note a).
    """
    responses: list[tuple[float, str]] = []
    for days, response in timepoints:
        gone_before = any(earlier == CR for _, earlier in responses)
        back = gone_before and response not in (CR, NE)
        responses.append((days, PD if back else response))
        if responses[-1][1] == PD:
            break
    for best, good in ((CR, (CR,)), (PR, (CR, PR))):
        if _confirmed(responses, good):
            return best
    if any(r in (CR, PR, SD) and days >= STABLE_DAYS for days, r in responses):
        return SD
    if any(r == NON_CR_NON_PD for _, r in responses):
        return NON_CR_NON_PD
    return PD if any(r == PD for _, r in responses) else NE


def _confirmed(responses: Sequence[tuple[float, str]], good: tuple[str, ...]) -> bool:
    """Return whether a response is there again after four weeks, with nothing worse between."""
    since: float | None = None
    for days, response in responses:
        if response in good:
            since = days if since is None else since
            if days - since >= CONFIRMED_DAYS:
                return True
        elif response != NE:
            since = None
    return False
