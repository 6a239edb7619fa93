"""The case as the team should see it: stage by size, options with their source, what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from lungmesh.mdt import bts, staging
from lungmesh.mdt.bts import Action, Reason
from lungmesh.mdt.questions import open_questions
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.mdt_pb2 import MdtOption, MdtRecommended, Staging
from lungmesh.v1.nodule_pb2 import Category, Nodule
from lungmesh.v1.volume_pb2 import ModelVersion

RULES = ("mdt-referral", "1")
# Categories that name work-up or referral (CLINICAL sections 2 and 5), by guideline.
_FOR_THE_TEAM = {
    "Lung-RADS": frozenset({"4A", "4B", "4X"}),
    "C-Lung-RADS": frozenset({"3", "4"}),
}
# The modifier of a significant other finding; it changes nothing of the nodule's category.
_OTHER_FINDING = "S"


def recommend(event: FollowupUpdated) -> MdtRecommended:
    """Return what the team needs to decide about an exam; it recommends, the team decides.

    Sizes of the T category are greatest dimensions; every option names the guideline and edition
    that supports it.
    """
    concerning = [nodule for nodule in event.nodules if asks_for_the_team(nodule.categories)]
    stages = _stages(concerning)
    return MdtRecommended(
        study=event.study,
        discussion_needed=asks_for_the_team(event.exam_categories) or bool(concerning),
        staging=stages,
        options=[*_of_guidelines(event.exam_categories), *_of_bts(concerning)],
        open_questions=open_questions(event, concerning, staged=bool(stages)),
        models=[
            ModelVersion(name=name, version=version)
            for name, version in (RULES, staging.EDITION, bts.RULES)
        ],
    )


def asks_for_the_team(categories: Sequence[Category]) -> bool:
    """Return whether any guideline's category names work-up or referral."""
    return any(
        category.category.removesuffix(_OTHER_FINDING)
        in _FOR_THE_TEAM.get(category.guideline.name, ())
        for category in categories
    )


def _stages(nodules: Sequence[Nodule]) -> list[Staging]:
    found = []
    for nodule in nodules:
        size = nodule.measurement
        stage = staging.stage_by_size(nodule.type, size.long_axis_mm, size.solid_long_axis_mm)
        if stage is not None:
            found.append(
                Staging(
                    nodule_id=nodule.nodule_id,
                    t_category=f"c{stage.t_category}",
                    size_mm=stage.size_mm,
                    size_of=stage.size_of,
                    stage_if_n0_m0=stage.stage_if_n0_m0,
                    edition=ModelVersion(name=staging.EDITION[0], version=staging.EDITION[1]),
                )
            )
    return found


def _of_guidelines(categories: Sequence[Category]) -> list[MdtOption]:
    """Return the management of the exam's category in each guideline, as that guideline says it."""
    options = []
    for category in categories:
        name = f"{category.guideline.name} {category.guideline.version}"
        if category.category:
            english, chinese = category.management_en, category.management_zh
            label = f"{name} {category.category}"
        else:
            needs = ", ".join(need.replace("_", " ") for need in category.needs)
            english, chinese = f"no category yet; it needs {needs}", f"尚不能分类，需要：{needs}"
            label = name
        options.append(
            MdtOption(
                text_en=f"{label}: {english}",
                text_zh=f"{label}：{chinese}",
                source=category.source,
            )
        )
    return options


def _of_bts(nodules: Sequence[Nodule]) -> list[MdtOption]:
    reasons: dict[Action, list[Reason]] = {}
    for nodule in nodules:
        for action, reason in bts.advise(nodule):
            reasons.setdefault(action, []).append(reason)
    return [
        option
        for action in sorted(reasons, key=lambda action: action.order)
        for option in _options(action, reasons[action])
    ]


def _options(action: Action, reasons: list[Reason]) -> list[MdtOption]:
    """Return the action once for nodules where it is certain, once for those where it is not."""
    options = []
    for certain, if_en, if_zh in (
        (True, "", ""),
        (False, ", if what is missing settles the risk so", "（取决于尚缺的信息）"),
    ):
        chosen = [reason for reason in reasons if reason.certain is certain]
        if chosen:
            english = "; ".join(f"nodule {item.nodule_number}: {item.text_en}" for item in chosen)
            chinese = "；".join(f"结节 {item.nodule_number}：{item.text_zh}" for item in chosen)
            options.append(
                MdtOption(
                    text_en=f"{action.text_en}{if_en} ({english})",
                    text_zh=f"{action.text_zh}{if_zh}（{chinese}）",
                    source=bts.SOURCE,
                )
            )
    return options
