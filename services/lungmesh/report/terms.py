"""The words of both languages for what the facts name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrase:
    """The same words in English and Chinese."""

    en: str
    zh: str


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


def named(table: dict[str, Phrase], code: str) -> Phrase:
    """Return the words for a code; a code without words speaks for itself in both languages."""
    known = table.get(code)
    if known is not None:
        return known
    plain = code.replace("_", " ")
    return Phrase(plain, plain)


def date(dicom_date: str) -> str:
    """Return a DICOM DA as YYYY-MM-DD, empty when there is none."""
    if len(dicom_date) != 8:
        return ""
    return f"{dicom_date[:4]}-{dicom_date[4:6]}-{dicom_date[6:]}"
