"""A radiologist's work in a real browser on a real mesh: see, correct, sign, find it changed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lungmesh.cli.exits import Exit
from lungmesh.console.users import FIRST_USER
from tests.e2e.conftest import Up, command
from tests.support.browser import ON_SCREEN, Seen, chosen_outline, chosen_pixels, chromium, watched
from tests.support.mesh import LUNGMESH, wait_for

# Browser and mesh share the cores.
STUDY_SECONDS = 600
STUDY_MS = STUDY_SECONDS * 1000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def password(up: Up) -> str:
    return (up.data / "secrets" / "console.password").read_text().strip()


@pytest.fixture(scope="module")
def seen(browser: Browser, up: Up, password: str, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    pictures = tmp_path_factory.mktemp("console") / "pictures"
    opened = watched(browser, f"http://{up.address('console', 'http')}", pictures)
    opened.sign_in(FIRST_USER, password)
    # Asking who is signed in, before anybody is: the one refusal that the browser tells.
    opened.complaints.clear()
    return opened


@pytest.fixture(scope="module")
def study(
    seen: Seen, up: Up, small_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A study with a prior, sent while the worklist is open: its row must move by itself."""
    out = tmp_path_factory.mktemp("console-out")
    before = small_study("page-before", "E2E-PAGE", "20000101")
    run = ("run", before, "--out", out / "before", "--data", up.data)
    ended = command(*run, limit_seconds=STUDY_SECONDS)
    assert ended.status == Exit.DONE, (ended.events[-5:], ended.stderr)
    known = {row["study_id"] for row in seen.get("/api/worklist?limit=200")["studies"]}
    now = small_study("page-now", "E2E-PAGE", "20010101")
    run = ("run", now, "--out", out / "now", "--data", up.data)
    sender = subprocess.Popen(
        [*LUNGMESH, *map(str, run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    new = "".join(f":not([href$='{study_id}'])" for study_id in known)
    row = seen.page.locator(f"tbody tr:has(a.open{new})")
    expect(row.locator("progress")).to_be_visible(timeout=STUDY_MS)
    seen.keep("1-progress")
    assert sender.wait(STUDY_SECONDS) == Exit.DONE
    expect(row.locator("progress")).to_have_count(0, timeout=STUDY_MS)
    expect(row.locator(".category")).to_be_visible()
    seen.keep("2-worklist")
    study_id = (row.locator("a.open").get_attribute("href") or "").removeprefix("#/studies/")
    found: dict[str, Any] = seen.get(f"/api/studies/{study_id}")
    assert found["priors"][0]["held"]
    assert len(found["nodules"]) >= 2, "the scenario corrects two nodules"
    return found


@pytest.fixture(scope="module")
def opened(seen: Seen, study: dict[str, Any]) -> Page:
    """The study's page with its first image."""
    seen.page.click(f"a.open[href$='{study['row']['study_id']}']")
    expect(seen.page.locator(".picture[data-slice]")).to_be_visible()
    expect(seen.page.locator(".viewer .status")).to_have_text("", timeout=STUDY_MS)
    return seen.page


def slice_of(page: Page, pane: str = "current") -> int:
    return int(page.locator(f".picture[data-pane={pane}]").get_attribute("data-slice") or -1)


def test_the_outline_lies_on_the_nodule_and_on_its_slices_alone(
    opened: Page, seen: Seen, study: dict[str, Any]
) -> None:
    nodule, grid = study["nodules"][0], study["series"]["geometry"]
    outline_of(opened, nodule)
    assert slice_of(opened) == nodule["slice_index"]
    seen.keep("3-study")
    picture = opened.locator(".picture[data-pane=current]")
    pixels = chosen_pixels(picture)
    box = picture.bounding_box()
    assert box is not None
    # The image fills the height of the view, its centre on the view's; rows go along y, LPS.
    mm = grid["size"][1] * grid["spacing_mm"][1] / min(box["width"], box["height"])
    middle = np.array(grid["origin_lps_mm"][:2]) + np.array(grid["spacing_mm"][:2]) * (
        (np.array(grid["size"][:2]) - 1) / 2
    )
    places = (pixels[:, ::-1] - np.array([box["width"], box["height"]]) / 2) * mm + middle
    far = np.linalg.norm(places - np.array(nodule["center_lps_mm"][:2]), axis=1)
    radius = nodule["long_axis_mm"] / 2
    on_border = (far > 0.3 * radius) & (far < radius + 3)
    assert np.count_nonzero(on_border) >= 20
    seen.page.keyboard.press("Home")
    expect(picture).to_have_attribute("data-slice", str(grid["size"][2] - 1))
    assert len(chosen_pixels(picture)) == 0


def test_keys_and_wheel_scroll_and_a_nodule_brings_its_slice_back(
    opened: Page, study: dict[str, Any]
) -> None:
    last = study["series"]["geometry"]["size"][2] - 1
    picture = opened.locator(".picture[data-pane=current]")
    opened.keyboard.press("PageDown")
    expect(picture).to_have_attribute("data-slice", str(last - 10))
    picture.hover()
    opened.mouse.wheel(0, 100)
    expect(picture).to_have_attribute("data-slice", str(last - 11))
    opened.keyboard.press("n")
    outline_of(opened, study["nodules"][1])
    opened.keyboard.press("Shift+N")


def test_the_prior_scrolls_along(opened: Page, seen: Seen, study: dict[str, Any]) -> None:
    opened.keyboard.press("6")
    prior = opened.locator(".picture[data-pane=prior][data-slice]")
    expect(prior).to_be_visible()
    current = opened.locator(".picture[data-pane=current]")
    current.hover()
    before = slice_of(opened), slice_of(opened, "prior")
    for _ in range(5):
        opened.keyboard.press("ArrowDown")
    expect(prior).to_have_attribute("data-slice", str(before[1] - 5))
    expect(current).to_have_attribute("data-slice", str(before[0] - 5))
    seen.keep("4-compare")
    opened.keyboard.press("5")
    expect(opened.locator(".picture[data-pane=coronal][data-slice]")).to_be_visible()
    expect(opened.locator(".picture[data-pane=sagittal] path.chosen:not(.inner)")).to_be_visible()
    seen.keep("5-planes")
    opened.keyboard.press("4")
    expect(opened.locator(".picture[data-pane=current] path.chosen:not(.inner)")).to_be_visible()


def test_confirmed_rejected_measured_and_signed(
    opened: Page, seen: Seen, study: dict[str, Any], password: str
) -> None:
    study_id = study["row"]["study_id"]
    first, last = study["nodules"][0], study["nodules"][-1]
    item = opened.locator(f".nodules li[data-nodule='{first['nodule_id']}']")

    opened.keyboard.press("c")
    expect(item.locator(".badge.good")).to_be_visible()

    opened.click(f".nodules li[data-nodule='{last['nodule_id']}'] .head")
    outline_of(opened, last)
    opened.keyboard.press("x")
    gone = f".nodules li.rejected[data-nodule='{last['nodule_id']}']"
    expect(opened.locator(gone)).to_be_visible()

    item.locator(".head").click()
    opened.keyboard.press("b")
    draw_axes(opened, outline_of(opened, first))
    opened.keyboard.press("m")
    dialog = opened.locator("dialog[open]")
    expect(dialog).to_contain_text("Taken from the axes drawn")
    long_axis, short_axis = dialog.locator("input[type=number]").all()
    long_axis.fill("26.1")
    short_axis.fill("23.3")
    seen.keep("6-measure")
    opened.keyboard.press("Enter")
    expect(item).to_contain_text("26.1 × 23.3 mm")
    expect(item.locator(".badge.hand")).to_be_visible()
    seen.keep("7-corrected")

    wait_for(lambda: report_edition(seen, study_id) == 4, STUDY_SECONDS, "the corrected report")
    opened.keyboard.press("g")
    dialog.locator("input[type=password]").fill("not the password")
    opened.keyboard.press("Enter")
    expect(dialog.locator(".fault")).to_be_visible()
    dialog.locator("input[type=password]").fill(password)
    opened.keyboard.press("Enter")
    expect(opened.locator(".signed")).to_contain_text(f"Signed by {FIRST_USER}")

    opened.keyboard.press("r")
    expect(dialog).to_contain_text("Corrected report, edition 4: replaces edition 3.")
    seen.keep("8-report")
    opened.keyboard.press("Escape")
    seen.keep("9-signed")

    after = seen.get(f"/api/studies/{study_id}")
    assert [nodule["nodule_id"] for nodule in after["rejected"]] == [last["nodule_id"]]
    (kept,) = [one for one in after["nodules"] if one["nodule_id"] == first["nodule_id"]]
    assert kept["review"]["status"] == "confirmed"
    assert kept["mean_diameter_mm"] == pytest.approx((26.1 + 23.3) / 2, abs=0.01)
    kinds = [(one["kind"], one["author"]) for one in after["corrections"]]
    assert kinds == [(kind, FIRST_USER) for kind in ("confirm", "reject", "remeasure")]
    assert after["row"]["signed_by"] == FIRST_USER


def report_edition(seen: Seen, study_id: str) -> int:
    time.sleep(0.5)
    found = seen.get(f"/api/studies/{study_id}")
    assert found["row"]["edition"] <= 4
    return int(found["report"]["edition"])


def outline_of(page: Page, nodule: dict[str, Any]) -> Locator:
    """Wait until the nodule is the chosen one on the image; return its outline."""
    outline = page.locator(chosen_outline(nodule["nodule_id"]))
    expect(outline).to_be_visible()
    page.evaluate(ON_SCREEN)
    return outline


def draw_axes(page: Page, outline: Locator) -> None:
    """Draw a long axis on the nodule by the mouse; the tool adds the short one."""
    before = None
    while (box := outline.bounding_box()) is None or box != before:
        before = box
        page.wait_for_timeout(300)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    page.mouse.move(x, y, steps=4)
    page.mouse.move(x + 40, y, steps=4)
    page.mouse.up()


def test_an_administrator_makes_an_operator_who_sees_what_runs(opened: Page, seen: Seen) -> None:
    opened.goto(f"{seen.base}/#/users")
    opened.locator("tr", has_text=FIRST_USER).locator("button").click()
    opened.locator("dialog[open]").get_by_label("operator").check()
    opened.locator("dialog[open] .primary").click()
    expect(opened.locator("dialog[open]")).to_have_count(0)
    opened.reload()
    opened.click(".topbar a[href='#/operations']")
    stage = opened.locator("tr", has_text="detection")
    expect(stage).to_be_visible()
    assert int(stage.locator("td").nth(6).inner_text()) >= 2, "both studies went through it"


@pytest.mark.parametrize("size", [(1366, 768), (1024, 768), (820, 1180)])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_fits_a_small_screen_and_a_tablet(
    opened: Page, seen: Seen, study: dict[str, Any], size: tuple[int, int], language: str
) -> None:
    width, height = size
    opened.set_viewport_size({"width": width, "height": height})
    if (opened.evaluate("() => document.documentElement.lang") == "en") != (language == "en"):
        opened.locator(".topbar button", has_text="中文" if language == "zh" else "English").click()
    pages = {
        "study": (f"studies/{study['row']['study_id']}", ".picture[data-slice]"),
        "operations": ("operations", "main tbody tr"),
        "worklist": ("", "main tbody tr"),
    }
    for name, (place, shown) in pages.items():
        opened.goto(f"{seen.base}/#/{place}")
        expect(opened.locator(shown).first).to_be_visible()
        seen.keep(f"{name}-{language}-{width}")
        assert opened.evaluate("() => document.documentElement.scrollWidth") <= width, name
        if name == "study":
            opened.keyboard.press("6")
            expect(opened.locator(".picture[data-pane=prior][data-slice]")).to_be_visible()
            seen.keep(f"compare-{language}-{width}")
            opened.keyboard.press("r")
            expect(opened.locator("dialog[open] pre")).to_contain_text("4")
            seen.keep(f"report-{language}-{width}")
            assert opened.evaluate("() => document.documentElement.scrollWidth") <= width, name
            opened.keyboard.press("Escape")


def test_the_browser_had_nothing_to_complain_of(opened: Page, seen: Seen) -> None:
    # A wrong password when signing is refused, and the browser tells it.
    assert [said for said in seen.complaints if "401" not in said] == []
