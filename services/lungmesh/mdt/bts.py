"""What BTS 2015 says of a nodule's risk and growth (CLINICAL section 6).

Its thresholds for Brock and Herder and for the volume doubling time are those of solid nodules.
"""

from __future__ import annotations

from dataclasses import dataclass

from lungmesh.v1 import nodule_pb2
from lungmesh.v1.nodule_pb2 import Nodule, RiskScore

RULES = ("BTS", "2015")
SOURCE = "BTS 2015 (Callister MEJ et al. Thorax 2015;70 Suppl 2:ii1)"

# Brock is asked from this size on, by diameter or volume.
_BROCK_DIAMETER_MM = 8.0
_BROCK_VOLUME_MM3 = 300.0
# A smaller change of volume is within measurement error (CLINICAL section 1).
_MEASURABLE_CHANGE_PERCENT = 25.0


@dataclass(frozen=True)
class Action:
    """One way to go on.

    Attributes
    ----------
    order
        Actions stand in this order.
    """

    order: int
    text_en: str
    text_zh: str


@dataclass(frozen=True)
class Reason:
    """Why an action concerns a nodule.

    Attributes
    ----------
    certain
        False when it holds only for some values of what is missing.
    """

    nodule_number: int
    text_en: str
    text_zh: str
    certain: bool


WORK_UP = Action(0, "Work-up of a growing nodule", "对增长结节进一步检查")
EXCISION = Action(1, "Excision or non-surgical treatment", "手术切除或非手术治疗")
BIOPSY = Action(2, "Biopsy (or excision, or CT surveillance)", "活检（或切除，或 CT 随访）")
BIOPSY_OR_SURVEILLANCE = Action(3, "Biopsy or CT surveillance", "活检或 CT 随访")
PET = Action(4, "PET/CT, then the Herder model", "PET/CT，其后以 Herder 模型再评估")
SURVEILLANCE = Action(5, "CT surveillance", "CT 随访")
SURVEILLANCE_OR_DISCHARGE = Action(6, "CT surveillance or discharge", "CT 随访或结束随访")

# From a probability on.
_BROCK_BANDS = ((0.0, SURVEILLANCE), (0.10, PET))
_HERDER_BANDS = ((0.0, SURVEILLANCE), (0.10, BIOPSY))
# Above, not from, this probability.
_HERDER_TREAT = 0.70


def advise(nodule: Nodule) -> list[tuple[Action, Reason]]:
    """Return the actions that the guideline names for a solid nodule, each with its reason."""
    if nodule.type != nodule_pb2.NODULE_TYPE_SOLID:
        return []
    return [*_by_growth(nodule), *_by_risk(nodule)]


def _by_growth(nodule: Nodule) -> list[tuple[Action, Reason]]:
    priors = nodule.tracking.priors
    if not priors:
        return []
    last = max(priors, key=lambda prior: prior.study_date)
    days = last.volume_doubling_time_days
    if (
        not last.HasField("volume_doubling_time_days")
        or days <= 0
        or last.volume_change_percent < _MEASURABLE_CHANGE_PERCENT
    ):
        return []
    if days <= 400:
        action = WORK_UP
    elif days <= 600:
        action = BIOPSY_OR_SURVEILLANCE
    else:
        action = SURVEILLANCE_OR_DISCHARGE
    reason = Reason(
        nodule.number,
        f"volume doubling time {days:.0f} days",
        f"体积倍增时间 {days:.0f} 天",
        certain=True,
    )
    return [(action, reason)]


def _by_risk(nodule: Nodule) -> list[tuple[Action, Reason]]:
    size = nodule.measurement
    if size.mean_diameter_mm < _BROCK_DIAMETER_MM and size.volume_mm3 < _BROCK_VOLUME_MM3:
        return []
    herder = risk_of(nodule, "herder")
    if herder is not None and "fdg_uptake" not in herder.missing:
        actions = _touched(herder, _HERDER_BANDS)
        if herder.high > _HERDER_TREAT:
            actions.append(EXCISION)
        if herder.low > _HERDER_TREAT:
            actions = [EXCISION]
        return _with_reason(nodule, "Herder", herder, actions)
    brock = risk_of(nodule, "brock")
    if brock is None:
        return []
    return _with_reason(nodule, "Brock", brock, _touched(brock, _BROCK_BANDS))


def risk_of(nodule: Nodule, model: str) -> RiskScore | None:
    """Return the score of the model whose name begins so, None when it was not computed."""
    for score in nodule.assessment.risks:
        if score.model.name.lower().startswith(model):
            return score
    return None


def percent(score: RiskScore) -> str:
    """Return the probability, or its range over what is missing, such as ``3-22 %``."""
    if score.HasField("probability"):
        return f"{100 * score.probability:.1f} %"
    return f"{100 * score.low:.1f}–{100 * score.high:.1f} %"


def _touched(score: RiskScore, bands: tuple[tuple[float, Action], ...]) -> list[Action]:
    """Return the actions of every band that the score's range reaches."""
    ends = [start for start, _ in bands[1:]] + [float("inf")]
    return [
        action
        for (start, action), end in zip(bands, ends, strict=True)
        if score.high >= start and score.low < end
    ]


def _with_reason(
    nodule: Nodule, model: str, score: RiskScore, actions: list[Action]
) -> list[tuple[Action, Reason]]:
    figure = f"{model} {percent(score)}"
    outside = bool(score.outside_intended_use)
    reason = Reason(
        nodule.number,
        figure + (", outside the model's intended use" if outside else ""),
        figure + ("，超出模型适用范围" if outside else ""),
        certain=len(actions) == 1,
    )
    return [(action, reason) for action in actions]
