"""The words for time: earlier exams, each nodule's course, corrections, what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lungmesh.report.content import (
    Category,
    Content,
    Fact,
    NextExam,
    Nodule,
    PriorExam,
    PriorMatch,
)
from lungmesh.report.terms import (
    CORRECTIONS,
    FACT_VALUES,
    FACTS,
    GROWTH,
    METHODS,
    OUTCOMES,
    UNITS,
    UNLIKE,
    Phrase,
    date,
    named,
)

# Alternatives of one category that the text names; the summary holds all.
_ALTERNATIVES = 3


def listed(phrases: Iterable[Phrase]) -> Phrase:
    """Return phrases as one, with the commas of their language."""
    items = list(phrases)
    return Phrase(", ".join(item.en for item in items), "、".join(item.zh for item in items))


def unlike(codes: Iterable[str]) -> Phrase:
    """Return what makes two exams unlike."""
    return listed(named(UNLIKE, code) for code in codes)


def in_a_word(outcome: str) -> Phrase:
    """Return an outcome without what it means."""
    word = OUTCOMES[outcome]
    return Phrase(word.en.split(":")[0], word.zh.split("：")[0])


def day(dicom_date: str) -> str:
    """Return a DICOM DA as YYYY-MM-DD; ? when there is none."""
    return date(dicom_date) or "?"


def comparison(content: Content) -> Iterator[Phrase]:
    """Say which earlier exams this one was compared with, and how."""
    if not content.priors:
        yield Phrase("No prior exam was available.", "无既往检查可供对比。")
    for prior in content.priors:
        when = day(prior.study_date)
        en = f"CT of {when}, {prior.interval_days} days earlier: {_registered(prior).en}"
        zh = f"{when} CT（{prior.interval_days} 天前）：{_registered(prior).zh}"
        if prior.resolved_count:
            verb = "has" if prior.resolved_count == 1 else "have"
            en += f"; {prior.resolved_count} of its nodules {verb} no counterpart now"
            zh += f"；其中 {prior.resolved_count} 个结节本次未见对应"
        if prior.not_evaluable_count:
            verb = "lies" if prior.not_evaluable_count == 1 else "lie"
            en += f"; {prior.not_evaluable_count} of its nodules {verb} outside this CT"
            zh += f"；其中 {prior.not_evaluable_count} 个结节不在本次扫描范围内"
        yield Phrase(en + ".", zh + "。")
        if prior.warnings:
            differ = unlike(prior.warnings)
            yield Phrase(
                f"The CT of {when} is unlike this one in {differ.en}: changes of size against it "
                "are less sure.",
                f"{when} CT 与本次检查存在差异（{differ.zh}），与其比较的大小变化可靠性降低。",
            )


def _registered(prior: PriorExam) -> Phrase:
    if not prior.registered:
        return Phrase(
            "registration was refused; nodules were matched by lobe and place",
            "配准未被采纳，按肺叶与位置匹配结节",
        )
    how = METHODS.get(prior.method, Phrase("lungs registered", "双肺已配准"))
    figures = f"Dice {prior.registration_dice:.2f}"
    en, zh = figures, figures
    if prior.inverse_error_mm:
        en += f", there and back {prior.inverse_error_mm:.1f} mm"
        zh += f"，往返误差 {prior.inverse_error_mm:.1f} mm"
    return Phrase(f"{how.en} ({en})", f"{how.zh}（{zh}）")


def course(nodule: Nodule) -> Iterator[Phrase]:
    """Say how a nodule has changed against each earlier exam."""
    growth = GROWTH[nodule.growth]
    yield Phrase(f"Course: {growth.en}.", f"变化：{growth.zh}。")
    if nodule.outcome in OUTCOMES:
        outcome = OUTCOMES[nodule.outcome]
        yield Phrase(f"Match: {outcome.en}.", f"匹配：{outcome.zh}。")
    for prior in nodule.priors:
        yield _against(prior, nodule)
    compared = {prior.ids["study_id"] for prior in nodule.priors}
    for past in nodule.history:
        if past.ids["study_id"] not in compared:
            when = day(past.study_date)
            size = f"{past.mean_diameter_mm:.1f} mm, {past.volume_mm3} mm³"
            yield Phrase(
                f"On {when} ({past.interval_days} days earlier): {size}; not compared directly.",
                f"{when}（{past.interval_days} 天前）：{size}；未直接配准比较。",
            )


def _against(prior: PriorMatch, nodule: Nodule) -> Phrase:
    when = day(prior.study_date)
    sizes = (
        f"{prior.mean_diameter_mm:.1f} → {nodule.mean_diameter_mm:.1f} mm "
        f"({prior.diameter_change_mm:+.1f} mm)"
    )
    volumes = f"{prior.volume_mm3} → {nodule.volume_mm3} mm³ ({prior.volume_change_percent:+.1f} %)"
    en = f"Against {when} ({prior.interval_days} days): mean diameter {sizes}, volume {volumes}"
    zh = f"较 {when}（{prior.interval_days} 天）：平均直径 {sizes}，体积 {volumes}"
    if nodule.type == "part_solid" and prior.solid_mean_diameter_mm:
        solid = (
            f"{prior.solid_mean_diameter_mm:.1f} → {nodule.solid_mean_diameter_mm:.1f} mm "
            f"({prior.solid_diameter_change_mm:+.1f} mm)"
        )
        en += f", solid part {solid}"
        zh += f"，实性成分 {solid}"
    if prior.volume_doubling_time_days is not None:
        interval = _interval(prior)
        en += f", volume doubling time {prior.volume_doubling_time_days} days{interval.en}"
        zh += f"，体积倍增时间 {prior.volume_doubling_time_days} 天{interval.zh}"
    if nodule.type in ("part_solid", "non_solid") and prior.mass_change_percent is not None:
        en += f", mass {prior.mass_mg} → {nodule.mass_mg} mg ({prior.mass_change_percent:+.1f} %)"
        zh += f"，质量 {prior.mass_mg} → {nodule.mass_mg} mg（{prior.mass_change_percent:+.1f} %）"
    if prior.growth_probability is not None:
        chance = probability(prior.growth_probability)
        error = f"± {prior.volume_error_percent:.0f} %"
        en += f"; probability that it has grown {chance} (error of measurement {error})"
        zh += f"；增大的概率 {chance}（测量误差 {error}）"
    if prior.warnings:
        differ = unlike(prior.warnings)
        en += f"; unlike exams: {differ.en}"
        zh += f"；两次检查不同：{differ.zh}"
    return Phrase(en + ".", zh + "。")


def _interval(prior: PriorMatch) -> Phrase:
    low, high = prior.volume_doubling_time_low_days, prior.volume_doubling_time_high_days
    if low is not None and high is not None:
        return Phrase(f" (95 %: {low} to {high})", f"（95 %：{low} 至 {high}）")
    if low is not None:
        return Phrase(f" (95 %: {low} to no change)", f"（95 %：{low} 至无变化）")
    if high is not None:
        return Phrase(f" (95 %: no change to {high})", f"（95 %：无变化至 {high}）")
    return Phrase("", "")


def doubling_time(prior: PriorMatch) -> str:
    """Return the volume doubling time for a table, days with its 95 % interval; ∞ is no change."""
    if prior.volume_doubling_time_days is None:
        return "–"
    low, high = prior.volume_doubling_time_low_days, prior.volume_doubling_time_high_days
    if low is None and high is None:
        return str(prior.volume_doubling_time_days)
    ends = " – ".join("∞" if end is None else str(end) for end in (low, high))
    return f"{prior.volume_doubling_time_days} ({ends})"


def probability(value: float) -> str:
    """Return a probability in percent; none is certain."""
    if value > 0.99:
        return "> 99 %"
    return "< 1 %" if value < 0.01 else f"{value:.0%}".replace("%", " %")


def review(nodule: Nodule, content: Content) -> Iterator[Phrase]:
    """Say what people said of a nodule, what no longer counts too."""
    for said in content.corrections:
        if said.number != nodule.number:
            continue
        word = named(CORRECTIONS, said.kind)
        en = f"Radiologist {said.author}, {said.at}: {word.en}"
        zh = f"医师 {said.author}，{said.at}：{word.zh}"
        if said.withdrawn:
            en += " (withdrawn, does not count)"
            zh += "（已撤回，不再有效）"
        yield Phrase(en + ".", zh + "。")
    if nodule.review and nodule.review.measured_by_hand:
        fields = listed(named(FACTS, name) for name in nodule.review.measured_by_hand)
        yield Phrase(f"Measured by hand: {fields.en}.", f"手工测量项：{fields.zh}。")


def rejections(content: Content) -> Iterator[Phrase]:
    """Say which candidates a radiologist rejected."""
    if content.rejected:
        numbers = ", ".join(str(nodule.number) for nodule in content.rejected)
        yield Phrase(
            f"Rejected by a radiologist, without part in any result: candidate {numbers}.",
            f"经医师排除、不计入任何结果：候选 {numbers}。",
        )


def changes(content: Content) -> Iterator[Phrase]:
    """Say in short what is new, has grown, split, merged or gone."""
    for change in ("new", "growing", "slowly_growing"):
        numbers = [n.number for n in content.nodules if n.growth == change]
        if numbers:
            yield _numbered(GROWTH[change], numbers)
    for outcome in ("split", "merged"):
        numbers = [n.number for n in content.nodules if n.outcome == outcome]
        if numbers:
            yield _numbered(in_a_word(outcome), numbers)
    if content.priors and content.priors[0].resolved_count:
        count = content.priors[0].resolved_count
        when = day(content.priors[0].study_date)
        noun = "nodule" if count == 1 else "nodules"
        yield Phrase(f"Resolved since {when}: {count} {noun}.", f"{when} 后消失：{count} 个结节。")


def _numbered(word: Phrase, numbers: list[int]) -> Phrase:
    shown = ", ".join(str(number) for number in numbers)
    return Phrase(f"{word.en.capitalize()}: nodule {shown}.", f"{word.zh}：结节 {shown}。")


def next_exam(coming: NextExam) -> Phrase | None:
    """Say what the programme's guideline asks for next; None where it names no date."""
    name = f"{coming.guideline.name} {coming.guideline.version}"
    if coming.work_up:
        return Phrase(
            f"Next by {name}: work-up now.",
            f"下一步（{name}）：立即进一步检查。",
        )
    if not coming.due_date:
        return None
    when = date(coming.due_date)
    return Phrase(f"Next CT by {name}: due {when}.", f"下次CT（{name}）：应于 {when} 进行。")


def edition(content: Content) -> Iterator[Phrase]:
    """Say that the report takes an earlier one's place; nothing of a first edition."""
    if content.edition > 1:
        now, before = content.edition, content.edition - 1
        yield Phrase(
            f"Corrected report, edition {now}: replaces edition {before}.",
            f"更正报告，第 {now} 版：取代第 {before} 版。",
        )


def reasons(category: Category) -> Iterator[Phrase]:
    """Say which row of a guideline's table spoke, what it looked at, and what would change it."""
    if category.row and category.category:
        en, zh = f'Row of the table: "{category.row}"', f"表中依据：“{category.row}”"
        if category.facts:
            looked_at = listed(fact(item) for item in category.facts)
            en, zh = f"{en}; by {looked_at.en}", f"{zh}；所据：{looked_at.zh}"
        yield Phrase(en + ".", zh + "。")
    if category.alternatives:
        # A size that is a little off is likelier than another type.
        nearest = sorted(category.alternatives, key=lambda other: not other.change.unit)
        others = [
            Phrase(
                f"{other.category} with {fact(other.change).en}",
                f"{fact(other.change).zh} 则为 {other.category} 类",
            )
            for other in nearest[:_ALTERNATIVES]
        ]
        en, zh = "; ".join(item.en for item in others), "；".join(item.zh for item in others)
        yield Phrase(f"It would be {en}.", f"若{zh}。")
    if category.category and category.needs:
        needs = listed(named(FACTS, need) for need in category.needs)
        yield Phrase(
            f"Not known, and it may change the category: {needs.en}.",
            f"未知且可能改变分级：{needs.zh}。",
        )


def fact(item: Fact) -> Phrase:
    """Return a guideline's fact in words."""
    name = named(FACTS, item.name)
    value = FACT_VALUES.get(item.value, Phrase(item.value, item.value))
    unit = UNITS.get(item.unit, Phrase(item.unit, item.unit))
    en, zh = f"{value.en} {unit.en}".strip(), f"{value.zh} {unit.zh}".strip()
    return Phrase(f"{name.en} {en}", f"{name.zh} {zh}")
