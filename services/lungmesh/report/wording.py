"""The report in words: every sentence is made once, in both languages, from the same facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lungmesh.report import course
from lungmesh.report.content import Category, Content, Nodule, ReaderScore, Risk, Sign
from lungmesh.report.terms import (
    FACTS,
    FEATURES,
    LOBES,
    NODULE_TYPES,
    SEVERITIES,
    SIGNS,
    VALUES,
    Phrase,
    named,
)

TITLE = Phrase("Chest CT: pulmonary nodule report", "胸部CT肺结节报告")
NOTICE = Phrase(
    "Research use and decision support; not a cleared medical device. A radiologist must confirm "
    "every finding.",
    "仅供科研与辅助决策，非获批医疗器械；所有结果须由放射科医师确认。",
)

# So many inputs are named that moved the readers' score most.
_DRIVERS = 3


@dataclass(frozen=True)
class Section:
    """A heading and its sentences; `items` are paragraphs with a heading of their own."""

    heading: Phrase
    lines: tuple[Phrase, ...] = ()
    items: tuple[Section, ...] = ()


def sections(content: Content) -> tuple[Section, ...]:
    """Return the report's sections in reading order."""
    return (
        Section(Phrase("Examination and technique", "检查与技术"), tuple(_technique(content))),
        Section(Phrase("Image quality", "图像质量"), tuple(_quality(content))),
        Section(Phrase("Comparison", "对比检查"), tuple(course.comparison(content))),
        Section(
            Phrase("Findings", "影像所见"),
            (*_findings(content), *course.rejections(content)),
            tuple(_nodule(nodule, content) for nodule in content.nodules),
        ),
        Section(
            Phrase("Guideline categories", "指南分级与处理建议"),
            tuple(_guidelines(content)),
        ),
        Section(Phrase("Impression", "印象"), tuple(_impression(content))),
        Section(Phrase("Limits", "说明与局限"), tuple(_limits(content))),
    )


def nodule_name(nodule: Nodule) -> Phrase:
    """Return type and place of a nodule."""
    kind, lobe = NODULE_TYPES[nodule.type], LOBES[nodule.lobe]
    return Phrase(f"{kind.en} nodule, {lobe.en}", f"{lobe.zh}{kind.zh}结节")


def category_name(category: Category) -> Phrase:
    """Return guideline, edition and category, or what is missing for one."""
    name = f"{category.guideline.name} {category.guideline.version}"
    if category.category:
        return Phrase(f"{name}: category {category.category}", f"{name}：{category.category} 类")
    needs = course.listed(named(FACTS, need) for need in category.needs)
    return Phrase(
        f"{name}: no category can be given; needed: {needs.en}",
        f"{name}：无法分级，尚需：{needs.zh}",
    )


def risk_value(risk: Risk) -> str:
    """Return a probability in percent, or its range where inputs are missing."""
    if risk.probability is not None:
        return f"{risk.probability * 100:.1f} %"
    return f"{risk.low * 100:.1f}–{risk.high * 100:.1f} %"


def _technique(content: Content) -> Iterator[Phrase]:
    exam = content.exam
    device = " ".join(part for part in (exam.manufacturer, exam.model) if part)
    x, y = exam.pixel_spacing_mm
    en = [f"CT of the chest, {exam.slice_count} axial slices"]
    zh = [f"胸部CT轴位图像 {exam.slice_count} 层"]
    if device:
        en.append(device)
        zh.append(f"设备 {device}")
    if exam.kernel:
        en.append(f"reconstruction kernel {exam.kernel}")
        zh.append(f"重建算法 {exam.kernel}")
    if exam.kvp is not None:
        en.append(f"{exam.kvp:g} kVp")
        zh.append(f"管电压 {exam.kvp:g} kVp")
    if exam.slice_thickness_mm is not None:
        en.append(f"slice thickness {exam.slice_thickness_mm:g} mm")
        zh.append(f"层厚 {exam.slice_thickness_mm:g} mm")
    en.append(f"slice spacing {exam.slice_spacing_mm:g} mm, pixel {x:g} × {y:g} mm")
    zh.append(f"层间距 {exam.slice_spacing_mm:g} mm，像素 {x:g} × {y:g} mm")
    if exam.ctdi_vol_mgy is not None:
        en.append(f"CTDIvol {exam.ctdi_vol_mgy:g} mGy")
        zh.append(f"CTDIvol {exam.ctdi_vol_mgy:g} mGy")
    contrast = {
        True: Phrase("with contrast medium", "增强扫描"),
        False: Phrase("without contrast medium", "平扫"),
        None: Phrase("contrast medium not stated", "是否使用对比剂未注明"),
    }[exam.contrast]
    yield Phrase(", ".join([*en, contrast.en]) + ".", "，".join([*zh, contrast.zh]) + "。")
    yield Phrase(
        f"Lung volume on this CT: {exam.lung_volume_ml} ml.",
        f"本次CT测得肺容积：{exam.lung_volume_ml} ml。",
    )
    if content.clinical:
        known = [_known(name, value) for name, value in content.clinical.items()]
        listed = course.listed(known)
        yield Phrase(f"Clinical information: {listed.en}.", f"临床信息：{listed.zh}。")
    else:
        yield Phrase("Clinical information: none was given.", "临床信息：未提供。")


def _known(name: str, value: object) -> Phrase:
    label = named(FACTS, name)
    if isinstance(value, float):
        return Phrase(f"{label.en} {value:g}", f"{label.zh} {value:g}")
    word = VALUES[value]
    return Phrase(f"{label.en}: {word.en}", f"{label.zh}：{word.zh}")


def _quality(content: Content) -> Iterator[Phrase]:
    if not content.qc:
        yield Phrase(
            "No breach of the screening CT quality rules was found.",
            "未发现违反筛查CT质量要求之处。",
        )
    for finding in content.qc:
        severity = SEVERITIES[finding.severity]
        yield Phrase(
            f"[{severity.en}] {finding.message_en}", f"【{severity.zh}】{finding.message_zh}"
        )


def _findings(content: Content) -> Iterator[Phrase]:
    count = len(content.nodules)
    if not count:
        yield Phrase(
            "No pulmonary nodule was found by the automatic reading.",
            "自动阅片未检出肺结节。",
        )
        return
    noun = "candidate was" if count == 1 else "candidates were"
    yield Phrase(
        f"{count} nodule {noun} found, numbered by falling detection score. They are automatic "
        "findings: a radiologist must confirm each.",
        f"共检出 {count} 个候选结节，按检出评分由高到低编号；均为自动检出，须经医师逐一确认。",
    )


def _nodule(nodule: Nodule, content: Content) -> Section:
    name = nodule_name(nodule)
    at, of = nodule.slice_number, content.exam.slice_count
    return Section(
        Phrase(
            f"Nodule {nodule.number}: {name.en}, image {at} of {of}",
            f"结节 {nodule.number}：{name.zh}，第 {at} 幅（共 {of} 幅）",
        ),
        (
            *_size(nodule),
            _signs(nodule),
            *course.course(nodule),
            *course.review(nodule, content),
            *(_risk(risk) for risk in nodule.risks),
            *_reader_score(nodule),
            *(_by_row(category) for category in nodule.categories),
            Phrase(
                f"Detection score {nodule.detection_score:.3f} "
                f"({nodule.detector.name} {nodule.detector.version}).",
                f"检出评分 {nodule.detection_score:.3f}"
                f"（{nodule.detector.name} {nodule.detector.version}）。",
            ),
        ),
    )


def _size(n: Nodule) -> Iterator[Phrase]:
    axes = f"{n.long_axis_mm:.1f} × {n.short_axis_mm:.1f} mm"
    yield Phrase(
        f"Long × short axis {axes}, mean diameter {n.mean_diameter_mm:.1f} mm, "
        f"volume {n.volume_mm3} mm³, mean density {n.mean_hu} HU.",
        f"长径 × 短径 {axes}，平均直径 {n.mean_diameter_mm:.1f} mm，"
        f"体积 {n.volume_mm3} mm³，平均密度 {n.mean_hu} HU。",
    )
    if n.type in ("part_solid", "non_solid"):
        ratio = f"{n.consolidation_to_tumour_ratio:.2f}"
        yield Phrase(
            f"Solid part: mean diameter {n.solid_mean_diameter_mm:.1f} mm, "
            f"volume {n.solid_volume_mm3} mm³, consolidation-to-tumour ratio {ratio}; "
            f"mass {n.mass_mg} mg.",
            f"实性成分：平均直径 {n.solid_mean_diameter_mm:.1f} mm，"
            f"体积 {n.solid_volume_mm3} mm³，实性占比（CTR）{ratio}；质量 {n.mass_mg} mg。",
        )


def _signs(nodule: Nodule) -> Phrase:
    present = [sign for sign in nodule.signs if sign.present]
    if not nodule.signs:
        return Phrase("Signs: not assessed.", "征象：未评估。")
    if not present:
        assessed = course.listed(named(SIGNS, sign.name) for sign in nodule.signs)
        return Phrase(
            f"Signs: none present ({assessed.en} were assessed).",
            f"征象：均为阴性（已评估{assessed.zh}）。",
        )
    listed = course.listed(_scored(sign) for sign in present)
    return Phrase(f"Signs (score 0–1): {listed.en}.", f"征象（评分 0–1）：{listed.zh}。")


def _scored(sign: Sign) -> Phrase:
    name = named(SIGNS, sign.name)
    return Phrase(f"{name.en} {sign.score:.2f}", f"{name.zh} {sign.score:.2f}")


def _risk(risk: Risk) -> Phrase:
    name = f"{risk.model.name} {risk.model.version}"
    en = f"Probability of malignancy, {name}: {risk_value(risk)}"
    zh = f"恶性概率（{name}）：{risk_value(risk)}"
    if risk.missing:
        missing = course.listed(named(FACTS, item) for item in risk.missing)
        en += f" (range; unknown: {missing.en})"
        zh += f"（区间；未知：{missing.zh}）"
    return Phrase(en + ".", zh + "。")


def _reader_score(nodule: Nodule) -> Iterator[Phrase]:
    score = nodule.reader_score
    if score is None:
        return
    name, percent = f"{score.model.name} {score.model.version}", f"{score.probability * 100:.1f} %"
    parts = course.listed(
        Phrase(
            f"{named(FEATURES, part.feature).en} {part.logit:+.1f}",
            f"{named(FEATURES, part.feature).zh} {part.logit:+.1f}",
        )
        for part in score.contributions[:_DRIVERS]
    )
    yield Phrase(
        f"Looks malignant to readers, {name} ({score.basis}): {percent}; "
        f"most of it by (log-odds): {parts.en}.",
        f"阅片医师评为恶性的可能（{name}，依据医师意见训练，未经病理验证）：{percent}；"
        f"主要依据（对数优势）：{parts.zh}。",
    )
    rated = [sign for sign in nodule.signs if sign.probability is not None]
    if rated:
        listed = course.listed(
            Phrase(
                f"{named(SIGNS, sign.name).en} {sign.probability:.0%}",
                f"{named(SIGNS, sign.name).zh} {sign.probability:.0%}",
            )
            for sign in rated
        )
        yield Phrase(f"Readers would see: {listed.en}.", f"阅片医师判为阳性的概率：{listed.zh}。")


def _nodule_category(category: Category) -> Phrase:
    name = category_name(category)
    return Phrase(name.en + ".", name.zh + "。")


def _by_row(category: Category) -> Phrase:
    name = category_name(category)
    if not (category.row and category.category):
        return _nodule_category(category)
    return Phrase(f'{name.en} (row "{category.row}").', f"{name.zh}（依据“{category.row}”）。")


def _guidelines(content: Content) -> Iterator[Phrase]:
    for category in content.categories:
        yield _management(category)
        yield from course.reasons(category)
    yield from _next(content)


def _next(content: Content) -> Iterator[Phrase]:
    said = course.next_exam(content.next) if content.next else None
    if said:
        yield said


def _management(category: Category) -> Phrase:
    name = category_name(category)
    en, zh = name.en, name.zh
    if category.management_en:
        en += f". {category.management_en.rstrip('.')}"
        zh += f"。{category.management_zh.rstrip('。')}"
    return Phrase(f"{en}. [{category.source}]", f"{zh}。【{category.source}】")


def _impression(content: Content) -> Iterator[Phrase]:
    lead = content.dominant
    if lead is None:
        yield Phrase(
            "No pulmonary nodule was found by the automatic reading.",
            "自动阅片未检出肺结节。",
        )
    else:
        name = nodule_name(lead)
        size = f"{lead.mean_diameter_mm:.1f} mm"
        others = len(content.nodules) - 1
        yield Phrase(
            f"Leading finding, nodule {lead.number}: {name.en}, mean diameter {size}"
            + (f"; {others} further candidate{'s' if others > 1 else ''}." if others else "."),
            f"主要发现：结节 {lead.number}，{name.zh}，平均直径 {size}"
            + (f"；另有候选 {others} 个。" if others else "。"),
        )
    yield from course.changes(content)
    for category in content.categories:
        yield _nodule_category(category)
    yield from _next(content)


def _limits(content: Content) -> Iterator[Phrase]:
    yield NOTICE
    outside: dict[tuple[str, str], list[str]] = {}
    for nodule in content.nodules:
        scores: list[Risk | ReaderScore] = [*nodule.risks]
        if nodule.reader_score:
            scores.append(nodule.reader_score)
        for risk in scores:
            for reason in risk.outside_intended_use:
                name = f"{risk.model.name} {risk.model.version}"
                outside.setdefault((name, reason), []).append(str(nodule.number))
    for (name, reason), numbers in outside.items():
        listed = ", ".join(numbers)
        yield Phrase(
            f"Outside the intended use of {name} (nodule {listed}): {reason.rstrip('.')}.",
            f"超出 {name} 的预期用途（结节 {listed}）：{reason.rstrip('.')}。",
        )
    yield Phrase(
        "Lymph nodes, mediastinum, bones and upper abdomen were not read.",
        "未评估淋巴结、纵隔、骨骼及上腹部。",
    )
    models = "; ".join(f"{model.name} {model.version}" for model in content.models)
    yield Phrase(f"Models and rules: {models}.", f"模型与规则：{models}。")
