"""The page in a real browser: judged by axe-core, and as wide as the screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from lungmesh.mesh.headers import read_headers
from lungmesh.report.facts import from_event
from lungmesh.report.html import html
from lungmesh.report.terms import Language
from lungmesh.report.wording import LANGUAGES
from tests.support.browser import chromium
from tests.support.report import followup, made_up_case
from tests.support.report_course import corrected, followed


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Language], Path]:
    """Pages of three exams in both languages, by (exam, language)."""
    root = tmp_path_factory.mktemp("pages")
    case = made_up_case(root)
    headers = read_headers(case.blobs, case.ready.volume.headers)
    out: dict[tuple[str, Language], Path] = {}
    for name, event in (
        ("none", followup(case, 0, prior=False)),
        ("corrected", corrected(case)),
        ("thirty", followed(case, 4, 30)),
    ):
        content = from_event(event, headers)
        for language in LANGUAGES:
            out[name, language] = root / f"{name}.{language}.html"
            out[name, language].write_bytes(html(content, language, {}, "ab" * 32))
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_axe_finds_no_fault_and_no_page_is_wider_than_its_screen(
    pages: dict[tuple[str, Language], Path], browser: Browser
) -> None:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    for (name, language), file in pages.items():
        page.goto(file.as_uri())
        for width, height in ((1366, 768), (820, 1180), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            beyond = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert beyond <= 0, (name, language, width)
        faults = Axe().run(page).response["violations"]
        assert faults == [], (name, language)
    assert said == []
