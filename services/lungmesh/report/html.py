"""The report as an accessible HTML page in one language: no script, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from PIL import Image
from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Drawing

from lungmesh.report import course
from lungmesh.report.content import Category, Content, Nodule, PastSize, PriorMatch
from lungmesh.report.growth_plot import CAPTION, growth_plots, points_of
from lungmesh.report.keyimages import pictures_of
from lungmesh.report.objects import VERSION
from lungmesh.report.page import (
    Chapter,
    Gallery,
    Grid,
    Labelled,
    Page,
    Paragraph,
    Picture,
    Result,
)
from lungmesh.report.pdf_style import fonts
from lungmesh.report.pdf_timeline import HEADING as COURSE
from lungmesh.report.pdf_timeline import NOTE as COURSE_NOTE
from lungmesh.report.templating import Templates
from lungmesh.report.terms import GROWTH, LOBES, NODULE_TYPES, PLANES, Language, Phrase, date, named
from lungmesh.report.wording import (
    NOTICE,
    TITLE,
    Section,
    category_name,
    next_exam,
    nodule_name,
    packaged,
    sections,
)

_TAGS: Mapping[Language, str] = {"en": "en", "zh": "zh-CN"}
# Points of the plot to pixels of the screen.
_PLOT_SCALE = 2


def html(
    content: Content,
    language: Language,
    pictures: Mapping[str, bytes],
    content_sha256: str,
    words: Templates | None = None,
) -> bytes:
    """Return the page as UTF-8; the same content gives the same bytes.

    Parameters
    ----------
    pictures
        The key images by name (key_<number>_<plane>.png), in order.
    """
    page = _Maker(content, language, words).page(pictures, content_sha256)
    return (words or packaged()).render("report.html", page=page).encode()


class _Maker:
    """Puts one report into one language."""

    def __init__(self, content: Content, language: Language, words: Templates | None) -> None:
        self._content, self._language, self._words = content, language, words

    def _say(self, phrase: Phrase) -> str:
        return phrase.said(self._language)

    def _all(self, phrases: Iterable[Phrase]) -> tuple[str, ...]:
        """Return the sentences that this language has."""
        return tuple(said for phrase in phrases if (said := self._say(phrase)))

    def _row(self, *labels: tuple[str, str]) -> tuple[str, ...]:
        return tuple(self._say(Phrase(*label)) for label in labels)

    def page(self, pictures: Mapping[str, bytes], content_sha256: str) -> Page:
        content = self._content
        return Page(
            language=_TAGS[self._language],
            title=self._say(TITLE),
            notice=self._say(NOTICE),
            replaces=self._all(course.edition(content)),
            exam=tuple(self._exam()),
            result_heading=self._say(Phrase("Result", "结果")),
            results=tuple(self._result(category) for category in content.categories),
            next=self._all(next_exam(content, self._words)),
            grids=tuple(self._grids()),
            galleries=tuple(self._galleries(pictures)),
            chapters=tuple(
                self._chapter(section)
                for section in sections(content, self._words)
                if self._say(section.heading)
            ),
            foot=f"LungMesh report {VERSION} · {content_sha256}",
        )

    def _exam(self) -> Iterator[Labelled]:
        exam = self._content.exam
        device = " ".join(part for part in (exam.manufacturer, exam.model) if part)
        series = f"{exam.slice_count} × {exam.slice_spacing_mm:g} mm"
        for label, value in (
            (Phrase("Patient (pseudonym)", "患者（假名）"), self._content.ids["patient"]),
            (Phrase("Exam date", "检查日期"), date(exam.study_date)),
            (Phrase("Scanner", "设备"), device),
            (Phrase("Series", "序列"), f"{series}, {exam.kernel}" if exam.kernel else series),
        ):
            yield Labelled(self._say(label), value or "–")

    def _result(self, category: Category) -> Result:
        advice = Phrase(category.management_en, category.management_zh)
        named_row = (
            f" · {self._say(Phrase(category.row, category.row_zh))}"
            if category.category and category.row
            else ""
        )
        return Result(
            guideline=f"{category.guideline.name} {category.guideline.version}",
            category=category.category or "–",
            advice=self._say(advice if category.category else category_name(category)),
            source=category.source + named_row,
        )

    def _grids(self) -> Iterator[Grid]:
        content = self._content
        if content.nodules:
            yield Grid(
                caption=self._say(Phrase("Nodules", "结节一览")),
                head=self._row(
                    ("No.", "编号"),
                    ("Type", "类型"),
                    ("Lobe", "肺叶"),
                    ("Image", "图像"),
                    ("Long × short axis, mm", "长径 × 短径，mm"),
                    ("Mean diameter, mm", "平均直径，mm"),
                    ("Volume, mm³", "体积，mm³"),
                    ("Density, HU", "密度，HU"),
                    ("Course", "变化"),
                    (content.guideline, content.guideline),
                    ("Detection score", "检出评分"),
                ),
                rows=tuple(self._nodule(nodule) for nodule in content.nodules),
                notes=(),
            )
        tracked = course.tracked(content)
        if tracked:
            yield Grid(
                caption=self._say(COURSE),
                head=self._row(
                    ("Nodule", "结节"),
                    ("Exam", "检查日期"),
                    ("Days before", "间隔天数"),
                    ("Mean diameter, mm", "平均直径（实性），mm"),
                    ("Volume, mm³", "体积，mm³"),
                    ("Change of volume", "体积变化"),
                    ("VDT (95 %)", "倍增时间（95 %）"),
                    ("P", "增大概率"),
                    ("Note", "说明"),
                ),
                rows=tuple(row for nodule in tracked for row in self._course(nodule)),
                notes=(self._say(COURSE_NOTE),),
            )

    def _nodule(self, nodule: Nodule) -> tuple[str, ...]:
        said = [GROWTH[nodule.growth], *course.reviewed(nodule)]
        return (
            str(nodule.number),
            self._say(NODULE_TYPES[nodule.type]),
            self._say(LOBES[nodule.lobe]),
            str(nodule.slice_number),
            f"{nodule.long_axis_mm:.1f} × {nodule.short_axis_mm:.1f}",
            f"{nodule.mean_diameter_mm:.1f}",
            str(nodule.volume_mm3),
            str(nodule.mean_hu),
            self._say(course.listed(said)),
            nodule.category_of(self._content.guideline) or "–",
            f"{nodule.detection_score:.2f}",
        )

    def _course(self, nodule: Nodule) -> Iterator[tuple[str, ...]]:
        for past, prior in course.compared(nodule):
            changes = self._changes(prior) if prior else ("–", "–", "–", "")
            days = str(past.interval_days)
            yield (str(nodule.number), course.day(past.study_date), days, *_size(past), *changes)
        said = list(course.of_now(nodule))
        yield (
            str(nodule.number),
            course.day(self._content.exam.study_date),
            "0",
            *_size(nodule),
            *("", "", ""),
            self._say(course.listed(said)),
        )

    def _changes(self, prior: PriorMatch) -> tuple[str, ...]:
        unlike = self._say(course.unlike(prior)) if prior.warnings else ""
        return (*course.changes(prior), unlike)

    def _galleries(self, pictures: Mapping[str, bytes]) -> Iterator[Gallery]:
        content = self._content
        tracked = course.tracked(content)
        if tracked:
            plots = zip(tracked, growth_plots(content, (self._language,)), strict=True)
            yield Gallery(
                heading=self._say(Phrase("Growth", "增长曲线")),
                pictures=tuple(self._plot(nodule, drawing) for nodule, drawing in plots),
                notes=(self._say(CAPTION),),
            )
        for nodule in content.nodules:
            own = pictures_of(nodule, pictures)
            if own:
                yield Gallery(
                    heading=self._say(self._heading(nodule)),
                    pictures=tuple(self._key(nodule, *item) for item in own.items()),
                    notes=(),
                )

    def _heading(self, nodule: Nodule) -> Phrase:
        name = nodule_name(nodule)
        size = f"{nodule.mean_diameter_mm:.1f} mm, {nodule.volume_mm3} mm³"
        return Phrase(
            f"Nodule {nodule.number}: {name.en}, {size}",
            f"结节 {nodule.number}：{name.zh}，{size}",
        )

    def _plot(self, nodule: Nodule, drawing: Drawing) -> Picture:
        points = [
            f"{course.day(point.study_date)} {point.volume_mm3:g} mm³"
            for point in points_of(nodule, self._content.exam.study_date)
        ]
        listed = course.listed(Phrase(point, point) for point in points)
        lobe = LOBES[nodule.lobe]
        return Picture(
            source=_uri("image/svg+xml", _svg(drawing)),
            words=self._say(
                Phrase(
                    f"Volume of nodule {nodule.number}, {lobe.en}, over time: {listed.en}.",
                    f"结节 {nodule.number}（{lobe.zh}）体积随时间变化：{listed.zh}。",
                )
            ),
            width=round(drawing.width * _PLOT_SCALE),
            height=round(drawing.height * _PLOT_SCALE),
        )

    def _key(self, nodule: Nodule, plane: str, data: bytes) -> Picture:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        word, name = named(PLANES, plane), nodule_name(nodule)
        return Picture(
            source=_uri("image/png", data),
            words=self._say(
                Phrase(
                    f"Nodule {nodule.number}, {name.en}, {word.en} plane through its centre, "
                    "outlined.",
                    f"结节 {nodule.number}，{name.zh}，经其中心的{word.zh}，已勾画轮廓。",
                )
            ),
            width=width,
            height=height,
        )

    def _chapter(self, section: Section) -> Chapter:
        return Chapter(
            name=section.name,
            heading=self._say(section.heading),
            lines=self._all(section.lines),
            paragraphs=tuple(
                Paragraph(self._say(item.heading), self._all(item.lines)) for item in section.items
            ),
        )


def _size(size: Nodule | PastSize) -> tuple[str, str]:
    return course.mean_diameter(size), str(size.volume_mm3)


def _svg(drawing: Drawing) -> bytes:
    fonts()
    written: Any = renderSVG.drawToString(drawing)
    # A browser has no file of this name; any of these shows the same signs.
    named_fonts = str(written).replace("NotoSansSC-Bold;", "NotoSansSC; font-weight: bold;")
    return named_fonts.replace(
        "font-family: NotoSansSC;", "font-family: 'Noto Sans SC', 'Noto Sans CJK SC', sans-serif;"
    ).encode()


def _uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
