"""The console as a process: its page, users, operators' view and a clean end."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import httpx

from lungmesh.console.access import OPERATOR
from lungmesh.console.users import FIRST_USER
from tests.support.broker import Broker
from tests.support.chassis import TENANT, ServiceProcess, metric, study_received, tap, until

# On a machine that does other work too.
START_SECONDS = 120


async def signed_in(address: str, user: str, password: str) -> httpx.AsyncClient:
    browser = httpx.AsyncClient(base_url=address, timeout=30)
    answer = await browser.post("/api/login", json={"user": user, "password": password})
    assert answer.status_code == 204, answer.text
    browser.headers["X-CSRF-Token"] = (await browser.get("/api/session")).json()["csrf"]
    return browser


async def test_an_operator_sees_a_dead_letter_and_sends_it_again(
    broker: Broker, tmp_path: Path
) -> None:
    secret = tmp_path / "secrets" / "console.password"
    console = ServiceProcess(
        "lungmesh.mesh.serve",
        "console",
        tmp_path,
        broker.bootstrap,
        LUNGMESH_CONSOLE__FIRST_PASSWORD_FILE=str(secret),
        LUNGMESH_CONSOLE__FIRST_TENANTS=f'["{TENANT}"]',
    )
    await console.start(START_SECONDS)
    try:
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        address = f"http://127.0.0.1:{console.ports['http']}"
        boss = await signed_in(address, FIRST_USER, secret.read_text().strip())
        made = await boss.put(
            "/api/users/otto",
            json={"roles": [OPERATOR], "tenants": [TENANT], "password": "correct horse otto"},
        )
        assert made.status_code == 204, made.text
        operator = await signed_in(address, "otto", "correct horse otto")
        assert (await boss.get("/api/operations")).status_code == 403

        good, bad = study_received(), study_received()
        bad.ClearField("manifest")
        async with tap(broker.bootstrap) as line:
            await line.publish(good)
            (event_id,) = await line.publish(bad)

            async def letters() -> list[dict[str, object]]:
                answer = await operator.get("/api/operations")
                assert answer.status_code == 200, answer.text
                found: list[dict[str, object]] = answer.json()["dead_letters"]
                return found

            async def dead() -> bool:
                return any(letter["event_id"] == event_id for letter in await letters())

            await until(dead, 60, "the wrong event is a dead letter")
            (letter,) = await letters()
            assert (letter["stage"], letter["kind"], letter["replayed"]) == (
                "console",
                "bad_input",
                False,
            )
            stages = (await operator.get("/api/operations")).json()["stages"]
            by_name = {stage["stage"]: stage for stage in stages}
            assert by_name["ingest"]["done_24h"] == 0, "its progress was never told"
            assert by_name["preprocess"]["waiting"] == 1, "the good study waits for it"

            path = f"/api/operations/dead-letters/{event_id}/replay"
            assert (await operator.post(path)).json() == {"replayed": 1}

            async def replayed() -> bool:
                return len(await letters()) == 2

            await until(replayed, 60, "it fails again and is a new letter")
            missing = await operator.post("/api/operations/dead-letters/none/replay")
            assert missing.status_code == 404
        counted = 'lungmesh_console_requests_total{action="replay",status='
        assert await metric(console, f'{counted}"200"') == 1
        assert await metric(console, f'{counted}"404"') == 1
        trail = (await boss.get("/api/audit")).json()["entries"]
        assert ("replay", event_id, "done") in {
            (entry["action"], entry["object"], entry["outcome"]) for entry in trail
        }

        async def watch() -> None:
            async with operator.stream("GET", "/api/events") as stream:
                async for _ in stream.aiter_lines():
                    watching.set()

        # A watcher does not hold up the end.
        watching = asyncio.Event()
        task = asyncio.create_task(watch())
        await asyncio.wait_for(watching.wait(), 30)
        assert await console.stop(30) == 0
        await asyncio.gather(task, return_exceptions=True)
        assert secret.read_text().strip() not in console.log
    finally:
        console.kill()
