"""A real Chromium on the console's page, and what can be told from its pixels."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

# The smallest screen that the page is made for.
SCREEN: ViewportSize = {"width": 1366, "height": 768}
# Colour of the chosen nodule's outline and number (base.css, --chosen).
CHOSEN_RGB = (255, 213, 74)

# Waits until what was just drawn is on the screen: of a key pressed before, the page says that the
# chosen nodule had just changed, and does nothing.
ON_SCREEN = "() => new Promise((then) => requestAnimationFrame(() => setTimeout(then)))"


@dataclass
class Seen:
    """A page, and what its browser complained of."""

    page: Page
    base: str
    pictures: Path
    complaints: list[str] = field(default_factory=list)

    def keep(self, name: str) -> None:
        """Keep a picture of the page, for people to look at."""
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def sign_in(self, user: str, password: str) -> None:
        """Sign in by the form."""
        self.page.goto(self.base)
        self.page.fill("input[name=user]", user)
        self.page.fill("input[name=password]", password)
        self.page.keyboard.press("Enter")
        expect(self.page.locator(".topbar .user")).to_have_text(user)

    def get(self, path: str) -> Any:
        """Return a JSON answer of the API, by the page's own session."""
        answer = self.page.request.get(self.base + path)
        assert answer.ok, (path, answer.status)
        return answer.json()


def launch_options() -> dict[str, Any]:
    """Return how Playwright starts Debian's Chromium; skip where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Debian's chromium is not installed")
    return {"executable_path": program, "args": ["--no-sandbox"]}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium without a window; skip where there is none."""
    options = launch_options()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**options)
        try:
            yield browser
        finally:
            browser.close()


def watched(browser: Browser, base: str, pictures: Path, **options: Any) -> Seen:
    """Open a page that keeps what its browser complains of."""
    pictures.mkdir(parents=True, exist_ok=True)
    page = browser.new_context(viewport=SCREEN, locale="en-GB", **options).new_page()
    # A busy machine folds a correction in more than Playwright's five seconds.
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    seen = Seen(page, base, pictures)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "console",
        lambda said: seen.complaints.append(said.text) if said.type == "error" else None,
    )
    return seen


def chosen_outline(nodule_id: str) -> str:
    """Return the selector of a nodule's outline on the image while the nodule is the chosen one."""
    return f"path.chosen:not(.inner)[data-nodule='{nodule_id}']"


def chosen_pixels(picture: Locator) -> npt.NDArray[np.int64]:
    """Return (row, column) of every pixel of the picture in the chosen nodule's colour."""
    shot = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
    far = np.abs(np.asarray(shot, int) - CHOSEN_RGB).sum(axis=2)
    return np.argwhere(far < 60)
