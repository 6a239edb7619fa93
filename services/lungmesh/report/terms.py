"""The words of both languages for what the facts name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Phrase:
    """The same words in English and Chinese."""

    en: str
    zh: str

    def said(self, language: Language) -> str:
        """Return the words of a language."""
        return self.en if language == "en" else self.zh


NODULE_TYPES = {
    "solid": Phrase("solid", "实性"),
    "part_solid": Phrase("part-solid", "部分实性"),
    "non_solid": Phrase("non-solid (pure ground-glass)", "非实性（纯磨玻璃）"),
    "calcified": Phrase("calcified", "钙化"),
    "fat_containing": Phrase("fat-containing", "含脂肪"),
    "airway": Phrase("airway", "气道内"),
    "atypical_cyst": Phrase("atypical pulmonary cyst", "非典型肺囊肿"),
}
LOBES = {
    "right_upper": Phrase("right upper lobe", "右肺上叶"),
    "right_middle": Phrase("right middle lobe", "右肺中叶"),
    "right_lower": Phrase("right lower lobe", "右肺下叶"),
    "left_upper": Phrase("left upper lobe", "左肺上叶"),
    "left_lower": Phrase("left lower lobe", "左肺下叶"),
}
GROWTH = {
    "baseline": Phrase("baseline (no prior exam)", "基线（无既往检查）"),
    "new": Phrase("new since the prior exam", "较前新发"),
    "stable": Phrase("stable", "稳定"),
    "growing": Phrase("growing", "增大"),
    "slowly_growing": Phrase("slowly growing", "缓慢增大"),
    "shrinking": Phrase("shrinking", "缩小"),
    "not_evaluable": Phrase("not evaluable", "无法评估"),
}
SEVERITIES = {
    "note": Phrase("note", "提示"),
    "warn": Phrase("warning", "警告"),
    "refuse": Phrase("not readable", "不可判读"),
}
SIGNS = {
    "spiculation": Phrase("spiculation", "毛刺征"),
    "lobulation": Phrase("lobulation", "分叶征"),
    "calcification": Phrase("calcification", "钙化"),
    "fat": Phrase("fat", "脂肪密度"),
    "juxtapleural": Phrase("juxtapleural position", "邻近胸膜"),
    "perifissural": Phrase("perifissural position", "邻近叶间裂"),
    "pleural_retraction": Phrase("pleural retraction", "胸膜凹陷征"),
    "clear_border": Phrase("clear border", "边界清楚"),
    "round_shape": Phrase("round shape", "类圆形"),
    "smooth_margin": Phrase("smooth margin", "边缘光滑"),
    "cavity": Phrase("cavity", "空洞"),
    "cavitation": Phrase("cavitation", "空洞"),
    "vacuole": Phrase("vacuole sign", "空泡征"),
    "air_bronchogram": Phrase("air bronchogram", "支气管充气征"),
    "upper_lobe": Phrase("upper lobe", "位于上叶"),
    "solid_component": Phrase("solid component", "实性成分"),
    "emphysema": Phrase("emphysema", "肺气肿"),
}
FEATURES = {
    "diameter_mm": Phrase("diameter", "直径"),
    "elongation": Phrase("elongation", "延长度"),
    "flatness": Phrase("flatness", "扁平度"),
    "notches": Phrase("notches", "切迹"),
    "protrusions": Phrase("protrusions", "突起"),
    "outline_fill": Phrase("filling of the outline", "轮廓充盈度"),
    "outline_lobes": Phrase("lobes of the outline", "轮廓分叶"),
    "outline_spikes": Phrase("spikes of the outline", "轮廓毛刺"),
    "nodule_type": Phrase("density type", "密度类型"),
}
FACTS = {
    "age": Phrase("age", "年龄"),
    "age_years": Phrase("age", "年龄"),
    "sex": Phrase("sex", "性别"),
    "ever_smoker": Phrase("smoking history", "吸烟史"),
    "years_since_quitting": Phrase("years since quitting smoking", "戒烟年数"),
    "family_history_of_lung_cancer": Phrase("family history of lung cancer", "肺癌家族史"),
    "family_history_of_cancer": Phrase("family history of cancer", "肿瘤家族史"),
    "emphysema": Phrase("emphysema", "肺气肿"),
    "extrathoracic_cancer": Phrase(
        "extrathoracic cancer more than five years ago", "五年以前胸外恶性肿瘤史"
    ),
    "fdg_uptake": Phrase("FDG uptake on PET", "PET FDG 摄取"),
    "spiculation": Phrase("spiculation", "毛刺征"),
    "calcification": Phrase("calcification", "钙化"),
    "clear_border": Phrase("clear border", "边界清楚"),
    "upper_lobe": Phrase("upper lobe", "位于上叶"),
    "nodule_count": Phrase("number of nodules", "结节数目"),
    "nodule_type": Phrase("nodule type", "结节类型"),
    "prior_exam": Phrase("prior exam", "既往检查"),
    "type": Phrase("nodule type", "结节类型"),
    "mean_diameter_mm": Phrase("mean diameter", "平均直径"),
    "solid_mean_diameter_mm": Phrase("mean diameter of the solid part", "实性成分平均直径"),
    "long_axis_mm": Phrase("long axis", "长径"),
    "volume_mm3": Phrase("volume", "体积"),
    "solid_volume_mm3": Phrase("volume of the solid part", "实性成分体积"),
    "growth": Phrase("course", "变化"),
    "vdt_days": Phrase("volume doubling time", "体积倍增时间"),
    "volume_change_percent": Phrase("change of volume", "体积变化"),
    "doubled_in_a_year": Phrase("doubled within a year", "一年内倍增"),
    "days_in_category": Phrase("time in this category", "处于该分级的时间"),
    "days_since_first": Phrase("time since first seen", "距首次发现时间"),
    "several": Phrase("several nodules", "多发结节"),
    "several_subsolid": Phrase("several subsolid nodules", "多发亚实性结节"),
    "round": Phrase("screening round", "筛查轮次"),
    "risk": Phrase("risk of lung cancer", "肺癌风险"),
    "known_cancer": Phrase("known cancer", "已知恶性肿瘤"),
    "immunosuppressed": Phrase("immunosuppression", "免疫抑制"),
    "suspected_infection": Phrase("suspected infection", "疑似感染"),
    "proven_benign": Phrase("proven benign", "已证实良性"),
    "brock_probability": Phrase("probability by Brock", "Brock 模型概率"),
    "herder_probability": Phrase("probability by Herder", "Herder 模型概率"),
    "model_probability": Phrase("probability by the multidimensional model", "多维模型概率"),
    "airway": Phrase("place in the airway", "气道位置"),
    "cyst_wall": Phrase("wall of the cyst", "囊壁"),
    "cyst_multilocular": Phrase("multilocular cyst", "多房囊腔"),
    "cyst_change": Phrase("change of the cyst", "囊腔变化"),
    "earlier_type": Phrase("type in the earlier exam", "前次类型"),
    "earlier_mean_diameter_mm": Phrase("mean diameter in the earlier exam", "前次平均直径"),
    "earlier_solid_mean_diameter_mm": Phrase(
        "solid part in the earlier exam", "前次实性成分平均直径"
    ),
    "earlier_category": Phrase("category in the earlier exam", "前次分级"),
    "resolved_category": Phrase("category of a resolved nodule", "已消失结节的分级"),
    "category": Phrase("category by size and growth", "按大小与变化的分级"),
    "crossed_threshold": Phrase("crossed a size threshold", "跨越大小界值"),
    "no_nodules": Phrase("no nodule", "无结节"),
    "new_nodules": Phrase("new nodules", "新发结节数"),
    "lungs_cut_off": Phrase("lungs cut off", "肺部未完整覆盖"),
    "one_lung": Phrase("only one lung", "仅见一侧肺"),
    "missing_slices": Phrase("missing slices", "缺层"),
    "prior_awaited": Phrase("prior exam awaited", "等待既往检查"),
    "smooth_margin": Phrase("smooth margin", "边缘光滑"),
    "juxtapleural": Phrase("juxtapleural position", "邻近胸膜"),
    "lobulation": Phrase("lobulation", "分叶征"),
    "lymphadenopathy": Phrase("lymphadenopathy", "淋巴结肿大"),
    "metastasis": Phrase("metastasis", "转移"),
}
# What a guideline's facts can be, beside numbers.
FACT_VALUES = {
    "true": Phrase("yes", "是"),
    "false": Phrase("no", "否"),
    "low": Phrase("low", "低"),
    "high": Phrase("high", "高"),
    "annual": Phrase("annual", "年度"),
    "subsegmental": Phrase("subsegmental", "亚段"),
    "proximal": Phrase("segmental or more proximal", "段及以上"),
    "thin": Phrase("thin", "薄"),
    "thick": Phrase("thick", "厚"),
    "larger": Phrase("larger", "增大"),
    "multilocular": Phrase("multilocular", "变为多房"),
    "wall": Phrase("thicker or more nodular wall", "壁增厚或结节增多"),
    "content": Phrase("more chambers or opacity", "分房或密度增多"),
    "none": Phrase("none", "无"),
    **NODULE_TYPES,
    **GROWTH,
    "baseline": Phrase("baseline", "基线"),
    "new": Phrase("new", "新发"),
}
UNITS = {
    "days": Phrase("days", "天"),
    "years": Phrase("years", "岁"),
    "mm3": Phrase("mm³", "mm³"),
}
PLANES = {
    "axial": Phrase("axial", "轴位"),
    "coronal": Phrase("coronal", "冠状位"),
    "sagittal": Phrase("sagittal", "矢状位"),
}
METHODS = {
    "affine": Phrase("lungs registered by an affine map", "双肺仿射配准"),
    "deformable": Phrase("lungs registered by a deformable map", "双肺弹性配准"),
}
OUTCOMES = {
    "split": Phrase(
        "split: one nodule of the earlier exam is several now", "分裂：前次一个结节现为多个"
    ),
    "merged": Phrase(
        "merged: several nodules of the earlier exam are this one now",
        "融合：前次多个结节现合为一个",
    ),
    "not_evaluable": Phrase(
        "not evaluable: no earlier exam shows the place, or the exams cannot be put in order",
        "无法评估：既往检查未显示该部位，或检查先后无法确定",
    ),
}
# What makes two exams unlike.
UNLIKE = {
    "kernel": Phrase("reconstruction kernel", "重建算法"),
    "slice_thickness": Phrase("slice thickness", "层厚"),
    "contrast": Phrase("contrast medium", "对比剂"),
    "lung_volume": Phrase("depth of breath (lung volume)", "吸气深度（肺容积）"),
}
CORRECTIONS = {
    "confirm": Phrase("confirmed", "确认"),
    "reject": Phrase("rejected", "排除"),
    "remeasure": Phrase("measured by hand", "手工测量"),
    "retype": Phrase("type changed by hand", "手工更改类型"),
    "link": Phrase("tied by hand to a nodule of an earlier exam", "手工与既往结节关联"),
    "unlink": Phrase("parted by hand from a nodule of an earlier exam", "手工与既往结节解除关联"),
}
VALUES = {
    True: Phrase("yes", "有"),
    False: Phrase("no", "无"),
    "female": Phrase("female", "女"),
    "male": Phrase("male", "男"),
    "other": Phrase("other", "其他"),
    "none": Phrase("none", "无摄取"),
    "faint": Phrase("faint", "轻度"),
    "moderate": Phrase("moderate", "中度"),
    "intense": Phrase("intense", "明显"),
}
# Why a nodule or patient is outside what a model was made for, by the model's own sentence.
OUTSIDE_USE = {
    en: Phrase(en, zh)
    for en, zh in (
        ("the model was made for a solitary nodule", "该模型针对单发结节建立"),
        (
            "no model is asked where calcium or fat says benign (BTS 2015)",
            "钙化或脂肪提示良性时不使用模型（BTS 2015）",
        ),
        (
            "the model was made on nodules found on chest radiographs, not on subsolid ones",
            "该模型基于胸片发现的结节建立，不含亚实性结节",
        ),
        ("larger than 30 mm: a mass, not a nodule", "大于 30 mm，属肿块而非结节"),
        (
            "the model was made on people of 50 to 75 years",
            "该模型基于 50 至 75 岁人群建立",
        ),
        (
            "the model was made on current and former smokers",
            "该模型基于现吸烟者与既往吸烟者建立",
        ),
        (
            "the model was made on nodules of 4 to 30 mm",
            "该模型基于 4 至 30 mm 的结节建立",
        ),
        (
            "the model was made on nodules of 7 to 30 mm",
            "该模型基于 7 至 30 mm 的结节建立",
        ),
        (
            "the model was made on veterans, nearly all of them men",
            "该模型基于退伍军人建立，几乎均为男性",
        ),
        ("PET/CT is advised from 8 mm on (BTS 2015)", "8 mm 及以上方建议PET/CT（BTS 2015）"),
        (
            "the score was made on nodules of 3 to 30 mm",
            "该评分基于 3 至 30 mm 的结节建立",
        ),
        (
            "the score knows solid, part-solid, non-solid and calcified nodules only",
            "该评分仅适用于实性、部分实性、非实性及钙化结节",
        ),
    )
}


def named(table: Mapping[Any, Phrase], code: Any) -> Phrase:
    """Return the words for a code; a code without words speaks for itself in both languages."""
    known = table.get(code)
    if known is not None:
        return known
    plain = str(code).replace("_", " ")
    return Phrase(plain, plain)


def date(dicom_date: str) -> str:
    """Return a DICOM DA as YYYY-MM-DD, empty when there is none."""
    if len(dicom_date) != 8:
        return ""
    return f"{dicom_date[:4]}-{dicom_date[4:6]}-{dicom_date[6:]}"
