"""The console's API over a real database and real files: read, correct, sign, watch."""

from __future__ import annotations

import asyncio
import json
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lungmesh.v1.console_pb2 import StudySigned
from lungmesh.v1.mdt_pb2 import MdtOption, MdtRecommended
from tests.support.console import SECRETS, a_console, a_report, made_study
from tests.support.postgres import postgres
from tests.support.preprocess import PSEUDONYM, TENANT


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database of the test's own; empty for a file of SQLite."""
    if request.param == "sqlite":
        yield ""
    else:
        with postgres() as url:
            yield url


async def test_a_study_is_listed_read_corrected_and_signed(tmp_path: Path, database: str) -> None:
    study = await asyncio.to_thread(made_study, tmp_path)
    async with a_console(tmp_path, database) as console:
        await console.tell(*study.events)
        browser = await console.signed_in()

        listed = (await browser.get("/api/worklist")).json()
        assert [row["study_id"] for row in listed["studies"]] == [study.study_id]
        row = listed["studies"][0]
        assert (row["tenant"], row["patient"], row["edition"]) == (TENANT, PSEUDONYM, 1)
        assert (row["priority"], row["outcome"]) == ("routine", "in_progress")

        page = f"/api/studies/{study.study_id}"
        shown = (await browser.get(page)).json()
        nodule = shown["nodules"][0]
        assert nodule["number"] == 1
        assert nodule["mean_diameter_mm"] == study.followup.nodules[0].measurement.mean_diameter_mm
        assert len(shown["series"]["slices"]) == 50
        assert shown["series"]["slices"][nodule["slice_index"]] == nodule["slice_sop_instance_uid"]
        assert shown["report"]["artefacts"] == ["report.en.txt", "report.en.html", "report.pdf"]

        said = {
            "correction_id": str(uuid.uuid4()),
            "kind": "confirm",
            "nodule_id": nodule["nodule_id"],
        }
        answer = await browser.post(f"{page}/corrections", json=said)
        assert answer.status_code == 200, answer.text
        after = answer.json()
        assert after["nodules"][0]["review"]["status"] == "confirmed"
        assert (after["corrections"][0]["author"], after["row"]["edition"]) == ("admin", 2)
        assert await browser.post(f"{page}/corrections", json=said)
        assert len(console.followup.asked) == 1, "the same words again change nothing"

        # The newest edition has no report yet.
        signing = {"password": console.password}
        early = await browser.post(f"{page}/sign", json=signing)
        assert (early.status_code, early.json()["error"]) == (409, "report_not_ready")
        event = console.followup.events[study.study_id]
        await console.tell(a_report(console.chassis.blobs, event))
        signed = await browser.post(f"{page}/sign", json=signing)
        assert signed.status_code == 200, signed.text
        assert (signed.json()["signed_by"], signed.json()["edition"]) == ("admin", 2)
        again = await browser.post(f"{page}/sign", json=signing)
        assert (again.status_code, again.json()["error"]) == (409, "already_signed")
        text = await browser.get(f"{page}/report/report.en.txt")
        assert text.text == "Edition 2"
        # A report as a page of its own may load and run nothing.
        written = await browser.get(f"{page}/report/report.en.html?revision=1&edition=2")
        assert written.headers["content-type"].startswith("text/html")
        policy = dict(
            part.partition(" ")[::2]
            for part in written.headers["content-security-policy"].split("; ")
        )
        assert policy["default-src"] == "'none'"
        assert policy["img-src"] == "data:"
        assert "sandbox" in policy
        assert "script-src" not in policy
        assert "allow-scripts" not in policy["sandbox"]
        assert written.headers["cache-control"] == "no-store"
        assert written.headers["x-content-type-options"] == "nosniff"
        assert (await browser.get(page)).json()["row"]["signed_by"] == "admin"

        # A newer edition is not signed; the old signature stays in the record.
        event.edition = 3
        await console.tell(event)
        newer = (await browser.get(page)).json()
        assert newer["row"]["signed_by"] is None
        assert [one["edition"] for one in newer["signatures"]] == [2]

        published = [record for rows in console.bus.log.values() for record in rows]
        for _ in range(100):
            published = [record for rows in console.bus.log.values() for record in rows]
            if published:
                break
            await asyncio.sleep(0.02)
        (record,) = [one for one in published if one.topic == "study.signed.routine"]
        told = StudySigned.FromString(record.value)
        assert (told.author, told.edition, told.content_sha256) == ("admin", 2, f"{2:064x}")

        trail = (await browser.get("/api/audit")).json()["entries"]
        done = {(one["action"], one["outcome"]) for one in trail}
        assert {("login", "done"), ("correction", "done"), ("sign", "done")} <= done
        assert {("sign", "refused"), ("study", "done"), ("report", "done")} <= done
        assert not any(secret in json.dumps(trail) for secret in SECRETS)


async def test_a_mask_lies_where_the_nodule_is(tmp_path: Path) -> None:
    study = await asyncio.to_thread(made_study, tmp_path)
    async with a_console(tmp_path) as console:
        await console.tell(*study.events)
        browser = await console.signed_in()
        nodule = study.followup.nodules[0]
        path = f"/api/studies/{study.study_id}/masks"
        masks = (await browser.get(path)).json()["masks"]
        assert set(masks) == {one.nodule_id for one in study.followup.nodules}
        mask = masks[nodule.nodule_id]
        x, y, z = mask["size"]
        assert len(mask["rle"]) == z
        counts = [0, 0, 0]
        for runs in mask["rle"]:
            assert sum(runs[1::2]) == x * y
            for label, count in zip(runs[::2], runs[1::2], strict=True):
                counts[label] += count
        voxel_mm3 = 2.0 * 2.0 * 2.5
        assert counts[1] * voxel_mm3 == pytest.approx(nodule.measurement.volume_mm3, rel=0.05)
        missing = path.replace(study.study_id, str(uuid.uuid4()))
        assert (await browser.get(missing)).status_code == 404


async def test_changes_reach_the_page_at_once_and_resume_where_it_left(tmp_path: Path) -> None:
    study = await asyncio.to_thread(made_study, tmp_path)
    async with a_console(tmp_path) as console:
        port = await console.server.start()
        try:
            browser = await console.signed_in()
            cookie = {"Cookie": f"lungmesh_session={browser.cookies['lungmesh_session']}"}
            url = f"http://127.0.0.1:{port}/api/events"
            seen: list[tuple[str, dict[str, object]]] = []

            async def watch(**headers: str) -> None:
                async with (
                    httpx.AsyncClient(timeout=30) as client,
                    client.stream("GET", url, headers={**cookie, **headers}) as stream,
                ):
                    assert stream.headers["content-type"].startswith("text/event-stream")
                    name = ""
                    async for line in stream.aiter_lines():
                        if line.startswith("id: "):
                            name = line[4:]
                        if line.startswith("data: ") and line != "data: {}":
                            seen.append((name, json.loads(line[6:])))

            watching = asyncio.create_task(watch())
            for number, event in enumerate(study.events, start=1):
                await console.tell(event)
                await _until(lambda number=number: len(seen) >= number)
            assert [row["study_id"] for _, row in seen] == [study.study_id] * 3
            assert seen[-1][1]["edition"] == 1
            watching.cancel()

            last = seen[-1][0]
            seen.clear()
            await console.tell(
                MdtRecommended(
                    study=study.received.study,
                    options=[MdtOption(text_en="discuss", text_zh="讨论", source="s")],
                    models=study.followup.models,
                )
            )
            watching = asyncio.create_task(watch(**{"Last-Event-ID": last}))
            await _until(lambda: bool(seen))
            assert seen[-1][1]["outcome"] == "done"
            # The end of the server ends the stream, and the session's end would too.
            await console.server.stop()
            await asyncio.wait_for(watching, 10)
        finally:
            await console.server.stop()


async def test_the_first_password_is_the_owners_alone(tmp_path: Path) -> None:
    async with a_console(tmp_path) as console:
        path = tmp_path / "secrets" / "console.password"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(console.password) >= 20
        user = (await console.users.listed())[0]
        assert user.password_hash.startswith("$argon2id$")
        assert console.password not in user.password_hash
        database = (tmp_path / "console.db").read_bytes()
        assert console.password.encode() not in database
    # A second start makes no second user and keeps the password.
    async with a_console(tmp_path) as console:
        assert len(await console.users.listed()) == 1
        await console.signed_in()


async def _until(condition: object, seconds: float = 20) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not in time")
