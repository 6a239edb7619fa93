"""What a reader does on a slow machine, and while others work: it lands where the reader looked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import FloatRect, Locator, Page, Route, async_playwright, expect

from lungmesh.console.access import RADIOLOGIST
from lungmesh.console.users import FIRST_USER
from lungmesh.v1.followup_pb2 import CORRECTION_KIND_CONFIRM, CORRECTION_KIND_REJECT
from lungmesh.v1.mdt_pb2 import MdtOption, MdtRecommended
from tests.support.browser import ON_SCREEN, SCREEN, chosen_outline, launch_options
from tests.support.console import Console, MadeStudy, a_console, a_report, made_study

WAIT_MS = 60_000


@dataclass
class Reader:
    """A radiologist's browser with a study of two nodules open, the first chosen."""

    console: Console
    study: MadeStudy
    page: Page

    @property
    def said(self) -> list[tuple[int, str]]:
        """Kind and nodule of each correction that came to the follow-up service."""
        return [(one.kind, one.nodule.nodule_id) for _, _, one in self.console.followup.asked]

    def nodule(self, number: int) -> str:
        return self.study.followup.nodules[number].nodule_id

    def item(self, number: int) -> Locator:
        return self.page.locator(f".nodules li[data-nodule='{self.nodule(number)}']")

    async def sign_in(self, user: str, password: str) -> None:
        """Sign in by the form that stands there."""
        await self.page.fill("input[name=user]", user)
        await self.page.fill("input[name=password]", password)
        await self.page.keyboard.press("Enter")

    async def chosen(self, number: int) -> None:
        """Wait until a nodule is chosen and its outline is on the screen."""
        outline = self.page.locator(chosen_outline(self.nodule(number)))
        await expect(outline).to_be_visible()
        await self.page.evaluate(ON_SCREEN)

    async def intercept(self, handler: Callable[[Route], Awaitable[None]]) -> None:
        """Handle corrections on their way, from the page's next load on: none slips through."""
        await self.page.route("**/corrections", handler)
        await self.page.reload()
        await self.chosen(0)

    async def still_box(self, locator: Locator) -> FloatRect:
        """Return where something stands once the page moves it no more."""
        before = None
        while (box := await locator.bounding_box()) is None or box != before:
            before = box
            await self.page.wait_for_timeout(300)
        return box

    async def another_edition(self) -> int:
        """Have the result change without this reader; return its edition."""
        event = self.console.followup.events[self.study.study_id]
        event.edition += 1
        await self.console.tell(event)
        return event.edition


@asynccontextmanager
async def a_reader(root: Path) -> AsyncIterator[Reader]:
    options = launch_options()
    study = await asyncio.to_thread(made_study, root)
    async with a_console(root) as console, async_playwright() as playwright:
        await console.tell(*study.events)
        base = f"http://127.0.0.1:{await console.server.start()}"
        browser = await playwright.chromium.launch(**options)
        try:
            page = await browser.new_page(viewport=SCREEN, locale="en-GB")
            page.set_default_timeout(WAIT_MS)
            expect.set_options(timeout=WAIT_MS)
            await page.goto(f"{base}/#/studies/{study.study_id}")
            reader = Reader(console, study, page)
            await reader.sign_in(FIRST_USER, console.password)
            await reader.chosen(0)
            yield reader
        finally:
            await browser.close()
            await console.server.stop()


async def test_a_key_means_the_nodule_that_was_on_the_screen(tmp_path: Path) -> None:
    async with a_reader(tmp_path) as reader:
        page = reader.page
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 6})

        async def key(letter: str, again: bool = False) -> None:
            press = {"key": letter, "text": letter, "autoRepeat": again}
            await devtools.send("Input.dispatchKeyEvent", {"type": "keyDown", **press})

        # The page hangs; the reader, who sees nothing happen, presses once more.
        hang = page.evaluate(
            "() => { const end = performance.now() + 1000; while (performance.now() < end); }"
        )
        await asyncio.gather(hang, key("x"), key("x"), key("x", again=True))
        await reader.chosen(1)
        await expect(reader.item(0).locator(".badge.waiting")).to_have_count(0)
        assert reader.said == [(CORRECTION_KIND_REJECT, reader.nodule(0))]

        # What is pressed after the second nodule came on the screen is of the second; held, it
        # is one press.
        await asyncio.gather(key("c"), key("c", again=True), key("c", again=True))
        await expect(reader.item(1).locator(".badge.good")).to_be_visible()
        await key("c")
        assert reader.said[1:] == [(CORRECTION_KIND_CONFIRM, reader.nodule(1))]


async def test_nobody_signs_an_edition_that_came_under_the_hand(tmp_path: Path) -> None:
    async with a_reader(tmp_path) as reader:
        page, console = reader.page, reader.console
        dialog = page.locator("dialog[open]")
        await page.keyboard.press("g")
        await expect(dialog).to_contain_text("Sign edition 1")
        await dialog.locator("input").fill(console.password)
        edition = await reader.another_edition()
        await expect(dialog).to_contain_text(f"Edition {edition} has come meanwhile")
        await expect(dialog.locator(".primary")).to_be_disabled()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Escape")
        await expect(page.locator(".toast")).to_contain_text(f"Edition {edition} has come")
        await expect(page.locator(".signed")).to_have_text("not signed")

        await console.tell(
            a_report(console.chassis.blobs, console.followup.events[reader.study.study_id])
        )
        await page.keyboard.press("g")
        await expect(dialog).to_contain_text(f"Sign edition {edition}")
        await dialog.locator("input").fill(console.password)
        await page.keyboard.press("Enter")
        await expect(page.locator(".signed")).to_contain_text(f"edition {edition}")


async def test_an_older_answer_does_not_undo_a_newer_one(tmp_path: Path) -> None:
    async with a_reader(tmp_path) as reader:
        page, study = reader.page, reader.study
        held, go = asyncio.Event(), asyncio.Event()

        async def slow(route: Route) -> None:
            if held.is_set():
                return
            answer = await route.fetch()
            held.set()
            await go.wait()
            await route.fulfill(response=answer)

        await page.route(f"**/api/studies/{study.study_id}", slow)
        await reader.console.tell(
            MdtRecommended(
                study=study.received.study,
                options=[MdtOption(text_en="discuss", text_zh="讨论", source="s")],
                models=study.followup.models,
            )
        )
        await asyncio.wait_for(held.wait(), WAIT_MS / 1000)
        await page.keyboard.press("c")
        await expect(reader.item(0).locator(".badge.good")).to_be_visible()
        go.set()
        await page.wait_for_timeout(500)
        await expect(reader.item(0).locator(".badge.good")).to_be_visible()
        await expect(page.locator(".studyhead h1")).to_contain_text("edition 2")


async def test_an_answer_that_is_lost_on_the_way_makes_no_second_correction(tmp_path: Path) -> None:
    async with a_reader(tmp_path) as reader:
        page = reader.page
        ids: list[str] = []

        async def lost(route: Route) -> None:
            ids.append(json.loads(route.request.post_data or "")["correction_id"])
            if len(ids) == 1:
                await route.fetch()
                await route.abort()
            else:
                await route.continue_()

        await reader.intercept(lost)
        await page.keyboard.press("c")
        await expect(page.locator(".toast")).to_contain_text("nodule 1")
        assert ids == [ids[0]] * 2
        assert reader.said == [(CORRECTION_KIND_CONFIRM, reader.nodule(0))]


async def test_what_one_user_said_is_never_sent_as_another_s(tmp_path: Path) -> None:
    async with a_reader(tmp_path) as reader:
        page = reader.page
        password = await reader.console.add_user("rana", RADIOLOGIST)
        signed_in = asyncio.Event()

        async def lost(route: Route) -> None:
            if signed_in.is_set():
                await route.continue_()
                return
            await signed_in.wait()
            await route.abort()

        await reader.intercept(lost)
        await page.keyboard.press("c")
        await page.locator(".topbar button", has_text="Sign out").click()
        await reader.sign_in("rana", password)
        await expect(page.locator(".topbar .user")).to_have_text("rana")
        async with page.expect_response("**/corrections") as waited:
            signed_in.set()
        assert (await waited.value).status == 403
        assert reader.said == []


async def test_a_dialog_is_of_its_nodule_and_of_no_other(tmp_path: Path) -> None:
    async with a_reader(tmp_path) as reader:
        page = reader.page
        dialog = page.locator("dialog[open]")
        # Axes drawn on one nodule are no size of another.
        await page.keyboard.press("b")
        outline = page.locator("path.chosen:not(.inner)")
        box = await reader.still_box(outline)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        await page.mouse.move(x - 20, y)
        await page.mouse.down()
        await page.mouse.move(x, y, steps=4)
        await page.mouse.move(x + 20, y, steps=4)
        await page.mouse.up()
        await page.keyboard.press("m")
        await expect(dialog).to_contain_text("Measure nodule 1 by hand")
        await expect(dialog).to_contain_text("Taken from the axes drawn")
        await page.keyboard.press("Escape")
        await page.keyboard.press("n")
        await reader.chosen(1)
        await page.keyboard.press("m")
        await expect(dialog).to_contain_text("Measure nodule 2 by hand")
        await expect(dialog).not_to_contain_text("Taken from the axes drawn")

        # Another reader rejects that nodule: the dialog goes, and comes back for no other.
        event = reader.console.followup.events[reader.study.study_id]
        event.rejected.add().CopyFrom(event.nodules.pop(1))
        await reader.another_edition()
        await expect(dialog).to_have_count(0)
        await expect(page.locator(".toast")).to_contain_text("changed meanwhile")
        await reader.item(0).locator(".head").click()
        await reader.chosen(0)
        await expect(dialog).to_have_count(0)
        assert reader.said == []
