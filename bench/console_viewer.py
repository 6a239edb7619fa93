"""The viewer in headless Chromium: time to the first image of a 261-slice study, slices a second.

Prints both against their limits. The study is the demo CT, each of its 133 slices of 512 x 512
written about twice: as many bytes to fetch and to draw as a thin-slice CT has; nothing is read off
its pixels. Page, API and pixels come from the console over HTTP on this machine, so browser and
server share its cores.

    python bench/console_viewer.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pydicom
from playwright.async_api import Browser, Page, async_playwright, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lungmesh.console.users import FIRST_USER
from lungmesh.demo.case import write_case
from lungmesh.mesh import Context
from lungmesh.mesh.blobs import BlobStore
from lungmesh.mesh.ids import dicom_uid
from lungmesh.mesh.stage import run_stage
from lungmesh.preprocess.settings import PreprocessSettings
from lungmesh.preprocess.stage import PreprocessStage
from lungmesh.v1.followup_pb2 import FollowupUpdated
from lungmesh.v1.volume_pb2 import VolumeReady
from tests.support.console import Console, MadeStudy, a_console, a_report
from tests.support.preprocess import receive
from tests.support.report import Case, nodule_at

SLICES = 261
FIRST_IMAGE_LIMIT_SECONDS = 2.0
SCROLL_LIMIT_PER_SECOND = 30.0
_SCROLLED = 200
# Keeps when a link was last pressed and when the first image stood on the screen.
_WATCH = """() => {
  addEventListener("click", (event) => { window.pressed = event.timeStamp; }, true);
  new MutationObserver(() => {
    if (window.shown || !document.querySelector(".picture[data-slice]")) return;
    window.shown = -1;
    requestAnimationFrame(() => setTimeout(() => { window.shown = performance.now(); }));
  }).observe(document, { subtree: true, childList: true, attributeFilter: ["data-slice"] });
}"""
# Presses a key, waits until the slice is drawn, presses again.
_SCROLL = """async (count) => {
  const picture = document.querySelector(".picture");
  const frame = () => new Promise((then) => requestAnimationFrame(then));
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    const before = picture.dataset.slice;
    const key = i < count / 2 ? "ArrowUp" : "ArrowDown";
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    while (picture.dataset.slice === before) await frame();
  }
  return performance.now() - start;
}"""
# The page's policy lets Playwright's own waiting not in.
_SHOWN = """() => new Promise((then) => {
  const look = () => (window.shown > 0 ? then(window.shown) : setTimeout(look, 10));
  look();
})"""


def write_thin_case(folder: Path) -> list[Path]:
    """Write the 261 files; return them in the order of their names."""
    write_case(folder / "case")
    files = sorted((folder / "case").iterdir(), reverse=True)
    first = [float(value) for value in pydicom.dcmread(files[0]).ImagePositionPatient]
    spacing = float(pydicom.dcmread(files[0]).SliceThickness) / 2
    written = []
    (folder / "thin").mkdir()
    for number in range(SLICES):
        dataset = pydicom.dcmread(files[number * len(files) // SLICES])
        dataset.SOPInstanceUID = dicom_uid("console-viewer", number)
        dataset.InstanceNumber = SLICES - number
        dataset.SliceThickness = spacing
        place = [first[0], first[1], first[2] + number * spacing]
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in place]
        dataset.SliceLocation = dataset.ImagePositionPatient[2]
        path = folder / "thin" / f"{SLICES - number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        written.append(path)
    return sorted(written)


async def made(root: Path) -> MadeStudy:
    """Have the study read by preprocess and put ten made-up outlines into it."""
    blobs = BlobStore(f"file://{root}/blobs")
    received = receive(blobs, write_thin_case(root))
    stage = PreprocessStage(PreprocessSettings())
    context = Context(received.study.study_id, blobs)
    (ready,) = await run_stage(stage, received, context)
    assert isinstance(ready, VolumeReady)
    grid = ready.volume.geometry
    middle = [grid.origin_lps_mm[k] + grid.spacing_mm[k] * (grid.size[k] - 1) / 2 for k in range(3)]
    event = FollowupUpdated(
        study=ready.study,
        exam=ready,
        nodules=[
            nodule_at(Case(blobs, ready), i + 1, (middle[0] + 60, middle[1], middle[2] + 8 * i), 5)
            for i in range(10)
        ],
        models=ready.models,
        edition=1,
    )
    return MadeStudy(received, event, a_report(blobs, event))


async def measure(browser: Browser, base: str, console: Console, study: str) -> dict[str, float]:
    """Open the study from the worklist, then by its address in a fresh browser, then scroll."""
    page = await _signed_in(browser, base, console)
    # A reader looks at the list before a study is opened: the viewer's code is there by then.
    await page.wait_for_load_state("networkidle", timeout=120_000)
    await page.click(f"a.open[href$='{study}']")
    warm = await _first_image(page) - await page.evaluate("window.pressed") / 1000
    fresh = await _signed_in(browser, base, console)
    await fresh.goto("about:blank")
    await fresh.goto(f"{base}/#/studies/{study}", wait_until="commit")
    cold = await _first_image(fresh)
    started = time.perf_counter()
    await expect(fresh.locator(".viewer .status")).to_have_text("", timeout=300_000)
    loaded = time.perf_counter() - started
    milliseconds = await fresh.evaluate(_SCROLL, _SCROLLED)
    return {
        "first_image_seconds": warm,
        "first_image_by_address_seconds": cold,
        "rest_of_the_series_seconds": loaded,
        "slices_per_second": _SCROLLED / (milliseconds / 1000),
    }


async def _signed_in(browser: Browser, base: str, console: Console) -> Page:
    page = await (await browser.new_context(viewport={"width": 1366, "height": 768})).new_page()
    await page.add_init_script(f"({_WATCH})()")
    await page.goto(base)
    await page.fill("input[name=user]", FIRST_USER)
    await page.fill("input[name=password]", console.password)
    await page.keyboard.press("Enter")
    await expect(page.locator("a.open").first).to_be_visible(timeout=60_000)
    return page


async def _first_image(page: Page) -> float:
    """Return when the first image stood there, seconds since the page's beginning."""
    return float(await page.evaluate(_SHOWN)) / 1000


async def run(root: Path) -> dict[str, float]:
    """Return the figures."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("needs Debian's chromium")
    study = await made(root)
    async with a_console(root) as console, async_playwright() as playwright:
        await console.tell(*study.events)
        base = f"http://127.0.0.1:{await console.server.start()}"
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            return await measure(browser, base, console, study.study_id)
        finally:
            await browser.close()
            await console.server.stop()


def main() -> None:
    """Print the figures, and keep them where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(Path(folder)))
    for name, value in figures.items():
        print(f"{name:32} {value:8.2f}")
    fast = figures["first_image_seconds"] <= FIRST_IMAGE_LIMIT_SECONDS
    smooth = figures["slices_per_second"] >= SCROLL_LIMIT_PER_SECOND
    waited = figures["first_image_seconds"] / FIRST_IMAGE_LIMIT_SECONDS
    rate = figures["slices_per_second"] / SCROLL_LIMIT_PER_SECOND
    print(f"first image / {FIRST_IMAGE_LIMIT_SECONDS:g} s: {waited:.2f} (at most 1: {fast})")
    print(f"scrolling / {SCROLL_LIMIT_PER_SECOND:g} slices/s: {rate:.2f} (at least 1: {smooth})")
    if chosen.out:
        chosen.out.write_text(json.dumps(figures, indent=2) + "\n")
    raise SystemExit(0 if fast and smooth else 1)


if __name__ == "__main__":
    main()
