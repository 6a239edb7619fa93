"""Templates that a hospital changes: what they may say, and what stops the service at start."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import Environment

from lungmesh.malignancy import reader_score, risk_models
from lungmesh.mesh.errors import SettingsError
from lungmesh.report import terms, text
from lungmesh.report.content import Content, content_sha256
from lungmesh.report.facts import from_event
from lungmesh.report.objects import VERSION, identity
from lungmesh.report.settings import ReportSettings
from lungmesh.report.stage import ReportStage
from lungmesh.report.wording import LANGUAGES, course, packaged, sections, templates
from lungmesh.v1.followup_pb2 import FollowupUpdated
from tests.support.report_course import corrected
from tests.unit.report.conftest import Exam


@pytest.fixture(scope="module")
def second(exam: Exam) -> Content:
    """A second edition after a radiologist's corrections, with two earlier exams."""
    return from_event(corrected(exam.case), exam.headers)


def own(folder: Path, name: str, source: str) -> Path:
    """Write a hospital's template and return its folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return folder


def test_a_file_of_the_folder_speaks_in_the_place_of_the_packaged_one(
    tmp_path: Path, second: Content
) -> None:
    source = (
        "Conclusion\n{{ report.nodules|length }} nodules"
        "{% if report.dominant %}; {{ report.dominant|name }}{% endif %}.\n"
    )
    words = templates(own(tmp_path, "en/impression.txt", source))
    written = text.report(second, "en", words)
    assert "Conclusion\n----------\n3 nodules; part-solid nodule, right middle lobe.\n" in written
    assert "Impression" not in written
    # The other language and the other sections are as they were.
    assert text.report(second, "zh", words) == text.report(second, "zh")
    before = text.report(second, "en").partition("Impression")[0]
    assert written.startswith(before)


def test_a_template_may_leave_a_section_out(tmp_path: Path, second: Content) -> None:
    own(tmp_path, "en/quality.txt", "")
    words = templates(own(tmp_path, "zh/quality.txt", "{# nothing #}\n"))
    assert "quality" not in [section.name for section in sections(second, words)]
    assert "图像质量" not in text.report(second, "zh", words)


def test_a_sentence_that_one_language_lacks_leaves_the_other_alone(
    tmp_path: Path, second: Content
) -> None:
    source = "Grenzen\n{{ notice }}\nOne.\nTwo.\nThree.\nFour.\nFive.\nSix.\n"
    words = templates(own(tmp_path, "en/limits.txt", source))
    assert text.report(second, "zh", words) == text.report(second, "zh")
    assert text.report(second, "en", words).endswith("Five.\nSix.\n")


def test_only_own_templates_have_a_digest_and_another_source_another(tmp_path: Path) -> None:
    assert packaged().digest == ""
    packaged_source = (Path(text.__file__).parent / "templates" / "en" / "limits.txt").read_text(
        encoding="utf-8"
    )
    digests = {
        templates(own(tmp_path, "en/limits.txt", source)).digest
        for source in (packaged_source, packaged_source + "{# two #}", "Limits\n{{ notice }}\n")
    }
    assert len(digests) == 3
    assert "" not in digests


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("en/technik.txt", "Technik\n", "en/technik.txt is unknown; there are: en/technique.txt"),
        ("de/limits.txt", "Grenzen\n", "de/limits.txt is unknown"),
        ("en/limits.txt", "Limits\n{% if %}\n", "en/limits.txt, line 2: Expected an expression"),
        ("en/limits.txt", "Limits\n{{ patient }}\n", "line 2: 'patient' is undefined; there are"),
        ("en/limits.txt", "Limits\n\n{{ nodule.number }}", "line 3: 'nodule' is undefined"),
        # In a branch that no made-up exam enters.
        (
            "en/nodule.txt",
            "Nodule\n{% if nodule.number > 99 %}\n{{ nodule.diametre }}\n{% endif %}\n",
            "en/nodule.txt, line 3: 'nodule' has no 'diametre'; there are: number, type, lobe",
        ),
        (
            "zh/nodule.txt",
            "结节\n{% for r in nodule.risks if r.low > 2 %}\n{{ r.model.nam }}{% endfor %}",
            "zh/nodule.txt, line 3: 'model' has no 'nam'; there are: name, version",
        ),
        (
            "en/quality.txt",
            "Quality\n{% if report.qc|length > 9 %}{{ report.edition|millimetres }}{% endif %}",
            "line 2: no filter named 'millimetres'",
        ),
        (
            "en/quality.txt",
            "Quality\n{% if report.qc|length > 9 and report.edition is strange %}x{% endif %}",
            "line 2: no test named 'strange'",
        ),
        # What fails only where a header says nothing.
        ("en/technique.txt", "Technique\n\n{{ report.exam.kvp|fixed(0) }} kVp", "line 3: "),
        ("en/course.txt", "Course\n{{ nodule.growth|word('growths') }}", "line 2: 'growths'"),
        ("en/limits.txt", "Limits\n{{ report.dominant|name }}", "line 2: None has no name"),
        ("en/limits.txt", "Limits\n{{ report.ids }}", ": identifiers stay out of the words"),
        ("en/course.txt", "{% include 'en/nodul.txt' %}", "line 1: en/nodul.txt"),
    ],
)
def test_a_broken_or_unknown_template_is_refused_with_file_line_and_fault(
    tmp_path: Path, name: str, source: str, fault: str
) -> None:
    with pytest.raises(SettingsError, match="templates: ") as refused:
        templates(own(tmp_path, name, source))
    assert fault in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        "Limits\n{{ report.ids.patient }}",
        "Limits\n{{ report['ids']['patient'] }}",
        "Limits\n{{ report|attr('ids') }}",
        "Limits\n{{ report.nodules|map(attribute='ids')|list }}",
        "Limits\n{{ report.__class__.__mro__ }}",
        "Limits\n{% include '/etc/hostname' %}",
        "Limits\n{% include '../../../LICENSE' %}",
        "Limits\n{{ ''.__class__.__base__.__subclasses__() }}",
    ],
)
def test_no_template_reaches_identifiers_files_or_the_interpreter(
    tmp_path: Path, source: str
) -> None:
    with pytest.raises(SettingsError):
        templates(own(tmp_path, "en/limits.txt", source))


def test_a_folder_that_is_not_there_is_refused_and_hidden_files_are_passed_over(
    tmp_path: Path,
) -> None:
    with pytest.raises(SettingsError, match="is no folder"):
        templates(tmp_path / "nowhere")
    assert templates(own(tmp_path, "..data/limits.txt", "x")).digest == ""


def test_a_header_cannot_make_a_sentence_of_its_own(exam: Exam) -> None:
    event = FollowupUpdated.FromString(exam.event.SerializeToString())
    event.exam.volume.acquisition.convolution_kernel = "B50f\nImpression\nNo nodule."
    (technique, *_) = sections(from_event(event, exam.headers))
    assert technique.lines[0].en.count("kernel B50f Impression No nodule., 120 kVp") == 1


def test_what_is_said_of_a_nodule_alone_is_what_its_paragraph_says(second: Content) -> None:
    (findings,) = (s for s in sections(second) if s.name == "findings")
    for nodule, item in zip(second.nodules, findings.items, strict=True):
        said = course(nodule, second)
        start = item.lines.index(said[0])
        assert item.lines[start : start + len(said)] == said


def test_every_reason_why_a_model_is_outside_its_use_has_chinese_words() -> None:
    reasons = {limit.sentence for model in risk_models.MODELS for limit in model.limits}
    shape = reader_score.read_model()
    assert shape.name
    low, high = 3, 30
    reasons |= {
        f"the score was made on nodules of {low} to {high} mm",
        "the score knows solid, part-solid, non-solid and calcified nodules only",
    }
    assert reasons == set(terms.OUTSIDE_USE)


def test_own_templates_change_the_event_and_the_hash_of_the_content(
    tmp_path: Path, second: Content
) -> None:
    folder = own(tmp_path, "en/limits.txt", "Limits\n{{ notice }}\n")
    stage, usual = (ReportStage(ReportSettings(templates=where)) for where in (folder, None))
    assert usual.version == VERSION
    digest = templates(folder).digest
    assert stage.version == f"{VERSION}+{digest[:16]}"
    words = [text.body(second, language) for language in LANGUAGES]
    assert content_sha256(replace(second, templates=digest), words) != content_sha256(second, words)
    assert identity(replace(second, templates=digest), "pdf") != identity(second, "pdf")
    assert identity(replace(second, templates=digest), "sr") == identity(second, "sr")


def test_the_page_of_the_docs_names_every_template_and_filter() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "report-templates.md").read_text(
        encoding="utf-8"
    )
    folder = Path(text.__file__).parent / "templates"
    for path in folder.rglob("*.*"):
        assert f"`{path.name}`" in page, path.name
    used = {
        name for path in folder.rglob("*.txt") for name in re.findall(r"\|(\w+)", path.read_text())
    }
    own_filters = used - set(Environment(autoescape=True).filters)
    assert {name for name in own_filters if f"|{name}" not in page} == set()
