"""What the team still has to find out, in Chinese and English."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lungmesh.v1 import study_pb2
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.mdt_pb2 import OpenQuestion
from lungmesh.v1.nodule_pb2 import Nodule

# In the order in which they are asked.
_TEXTS = {
    "prior_ct": (
        "Is there an earlier chest CT? None was compared, so growth is unknown.",
        "是否有既往胸部 CT？尚未与既往检查比较，增长情况未知。",
    ),
    "airway": (
        "Which airway does the airway nodule lie in (subsegmental, or more proximal)?",
        "气道结节位于哪一级支气管（亚段，或更近端）？",
    ),
    "cyst_wall": (
        "The cyst's wall: thin or thick, one chamber or several, changed since a prior?",
        "囊腔壁：薄壁或厚壁，单房或多房，较既往有无变化？",
    ),
    "cyst_multilocular": ("The cyst: one chamber or several?", "囊腔：单房或多房？"),
    "cyst_change": ("The cyst: has it changed since a prior?", "囊腔：较既往有无变化？"),
    "suspected_infection": ("Is an infection suspected?", "是否怀疑感染？"),
    "model_probability": (
        "The probability by C-Lung-RADS' multidimensional model, which is not published as a "
        "formula: 0.5 or more would raise the category.",
        "C-Lung-RADS 多维模型概率（公式未公开）：≥0.5 时分级将升高。",
    ),
    "brock_probability": (
        "The probability by the Brock model: patient facts are missing.",
        "Brock 模型概率：缺少患者信息。",
    ),
    "risk": ("The patient's risk of lung cancer: low or high?", "患者肺癌风险：低或高？"),
    "known_cancer": ("Does the patient have a known cancer?", "是否已知患有恶性肿瘤？"),
    "immunosuppressed": ("Is the patient immunosuppressed?", "是否存在免疫抑制？"),
    "nodule_type": (
        "The guideline has no row for a nodule of this type: judge it by eye.",
        "指南未涵盖此类结节：请人工判断。",
    ),
    "tumour_extent": (
        "T beyond size: pleura, chest wall, mediastinum, main bronchus, atelectasis, separate "
        "nodules were not judged and can raise it.",
        "除大小以外的 T 因素：胸膜、胸壁、纵隔、主支气管、肺不张、卫星结节尚未评估，"
        "可能使分期升高。",
    ),
    "n_category": (
        "N category: lymph nodes were not judged.",
        "N 分期：淋巴结尚未评估。",
    ),
    "m_category": (
        "M category: distant metastases were not judged.",
        "M 分期：远处转移尚未评估。",
    ),
    "fdg_uptake": (
        "PET/CT: the nodule's FDG uptake (none, faint, moderate, intense).",
        "PET/CT：结节 FDG 摄取程度（无、轻度、中度、高度）。",
    ),
    "histology": (
        "Histology: no tissue diagnosis is known.",
        "病理：尚无组织学诊断。",
    ),
    "lung_function": (
        "Lung function and fitness for biopsy, surgery or radiotherapy.",
        "肺功能及对活检、手术或放疗的耐受能力。",
    ),
    "age_years": ("Age.", "年龄。"),
    "sex": ("Sex.", "性别。"),
    "ever_smoker": ("Has the patient ever smoked?", "是否曾吸烟？"),
    "years_since_quitting": ("Years since quitting smoking.", "戒烟年数。"),
    "family_history_of_lung_cancer": (
        "Lung cancer in the family?",
        "是否有肺癌家族史？",
    ),
    "family_history_of_cancer": ("Cancer in the family?", "是否有恶性肿瘤家族史？"),
    "emphysema": ("Is there emphysema?", "是否有肺气肿？"),
    "extrathoracic_cancer": (
        "A cancer outside the chest more than five years ago?",
        "五年以前是否患过胸外恶性肿瘤？",
    ),
}
_WHEN_STAGED = ("tumour_extent", "n_category", "m_category")
_BEFORE_TREATMENT = ("histology", "lung_function")


def open_questions(
    event: FollowupUpdated, concerning: Sequence[Nodule], staged: bool
) -> list[OpenQuestion]:
    """Return what is still unknown.

    Parameters
    ----------
    concerning
        The nodules that ask for the team; without any, only a missing prior and what the
        guidelines need are asked for.
    staged
        Whether a T category is proposed, so that N and M matter.
    """
    asked = {need for category in event.exam_categories for need in category.needs}
    if not event.priors:
        asked.add("prior_ct")
    if staged:
        asked.update(_WHEN_STAGED)
    if concerning:
        asked.update(_BEFORE_TREATMENT)
        asked.update(_unknown_context(event.exam.clinical))
        asked.update(_missing_covariates(concerning))
    known = [name for name in _TEXTS if name in asked]
    others = sorted(asked - set(_TEXTS))
    return [_question(name) for name in (*known, *others)]


def _unknown_context(clinical: study_pb2.ClinicalContext) -> Iterable[str]:
    if clinical.fdg_uptake == study_pb2.FDG_UPTAKE_UNSPECIFIED:
        yield "fdg_uptake"
    if not clinical.HasField("ever_smoker"):
        yield "ever_smoker"


def _missing_covariates(nodules: Sequence[Nodule]) -> Iterable[str]:
    for nodule in nodules:
        for score in nodule.assessment.risks:
            yield from score.missing


def _question(name: str) -> OpenQuestion:
    words = name.replace("_", " ")
    english, chinese = _TEXTS.get(
        name,
        (f"Unknown to a risk model: {words}.", f"风险模型缺少变量：{words}。"),
    )
    return OpenQuestion(code=name, text_en=english, text_zh=chinese)
