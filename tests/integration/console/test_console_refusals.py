"""What the console must refuse: each with its status, an audit record, and nothing of a patient."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lungmesh.console.access import ADMINISTRATOR, NURSE, OPERATOR, RADIOLOGIST
from lungmesh.console.audit import Audit
from lungmesh.mesh.telemetry import JsonFormatter
from tests.support.console import SECRETS, Console, a_console, made_study
from tests.support.console_wrong import wrong_requests


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that a process would log, at its most talkative."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("console"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    # The database driver tells its rows at DEBUG, and the tests' own browser its addresses.
    for name in ("aiosqlite", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


async def browsers(console: Console) -> dict[str, httpx.AsyncClient]:
    """Return a browser a role; `plain` is a radiologist's without the CSRF token."""
    found = {"nobody": console.client()}
    people = (("nina", NURSE), ("otto", OPERATOR), ("rana", RADIOLOGIST), ("ada", ADMINISTRATOR))
    for name, role in people:
        found[role] = await console.signed_in(name, await console.add_user(name, role))
    found["plain"] = await console.signed_in("rana", "correct horse rana")
    del found["plain"].headers["X-CSRF-Token"]
    # A session whose cookie has one character changed.
    cookie = found[RADIOLOGIST].cookies["lungmesh_session"]
    changed = ("B" if cookie[0] == "A" else "A") + cookie[1:]
    found["tamperer"] = console.client(cookies={"lungmesh_session": changed})
    return found


async def test_every_wrong_input_is_refused_and_recorded(tmp_path: Path, log: io.StringIO) -> None:
    study = await asyncio.to_thread(made_study, tmp_path)
    foreign = await asyncio.to_thread(made_study, tmp_path, "foreign")
    for event in foreign.events:
        event.study.tenant = "elsewhere"  # type: ignore[attr-defined]
    async with a_console(tmp_path) as console:
        await console.tell(*study.events, *foreign.events)
        who = await browsers(console)
        answers = ""
        requests = wrong_requests(
            study.study_id,
            foreign.study_id,
            study.followup.nodules[0].nodule_id,
            study.received.study_instance_uid,
        )
        assert len(requests) >= 12
        for wrong in requests:
            before = (await console_audit(console))[:1]
            answer = await who[wrong.who].request(wrong.method, wrong.path, **wrong.options)
            found = (answer.status_code, answer.json()["error"])
            assert found == (wrong.status, wrong.error), f"{wrong.name}: {answer.text}"
            assert answer.json()["message_zh"]
            assert answer.json()["message_en"]
            record = (await console_audit(console))[0]
            assert [record] != before, f"{wrong.name} left no audit record"
            assert (record["outcome"], record["detail"]) == ("refused", wrong.error), wrong.name
            answers += answer.text
        assert not console.followup.asked, "nothing of it came as far as the follow-up"
        said = answers + log.getvalue() + json.dumps(await console_audit(console))
        for secret in (*SECRETS, "<script>"):
            assert secret not in said
        assert '"EventOutcomeIndicator": 4' in log.getvalue().replace("\\", "")


async def test_a_replayed_request_meets_a_dead_session(tmp_path: Path, log: io.StringIO) -> None:
    study = await asyncio.to_thread(made_study, tmp_path)
    async with a_console(tmp_path) as console:
        await console.tell(*study.events)
        browser = await console.signed_in()
        body = {
            "correction_id": str(uuid.uuid4()),
            "kind": "confirm",
            "nodule_id": study.followup.nodules[0].nodule_id,
        }
        path = f"/api/studies/{study.study_id}/corrections"
        request = browser.build_request("POST", path, json=body)
        sent = dict(request.headers)
        assert (await browser.send(request)).status_code == 200
        # The same id with other words.
        other = await browser.post(path, json={**body, "kind": "reject"})
        assert (other.status_code, other.json()["error"]) == (409, "already_said")
        assert (await browser.post("/api/logout")).status_code == 204
        replayed = await console.client().post(path, json=body, headers=sent)
        assert (replayed.status_code, replayed.json()["error"]) == (401, "no_session")
        assert len(console.followup.asked) == 1
        trail = await console_audit(console)
        assert (trail[0]["action"], trail[0]["detail"]) == ("correction", "no_session")
        assert ("correction", "already_said") in {(row["action"], row["detail"]) for row in trail}
        for secret in (*SECRETS, sent["x-csrf-token"], sent["cookie"].partition("=")[2]):
            assert secret not in log.getvalue() + json.dumps(trail)


async def test_wrong_passwords_are_slowed_down_and_a_disabled_user_is_out(
    tmp_path: Path, log: io.StringIO
) -> None:
    async with a_console(tmp_path, login_failures=3) as console:
        password = await console.add_user("rana", RADIOLOGIST)
        await console.add_user("root", ADMINISTRATOR)
        browser = console.client()
        for tried in ("guess 1", "guess 2", "guess 3"):
            answer = await browser.post("/api/login", json={"user": "rana", "password": tried})
            assert (answer.status_code, answer.json()["error"]) == (401, "wrong_login")
        late = await browser.post("/api/login", json={"user": "rana", "password": password})
        assert (late.status_code, late.json()["error"]) == (429, "too_many")
        assert int(late.headers["retry-after"]) > 0
        unknown = await browser.post("/api/login", json={"user": "nobody", "password": "x"})
        assert unknown.json()["error"] == "wrong_login", "it does not tell who exists"
        trail = await console_audit(console)
        assert [row["detail"] for row in reversed(trail[:5])] == [
            *["wrong_login"] * 3,
            "too_many",
            "wrong_login",
        ]
        assert {row["outcome"] for row in trail[:5]} == {"refused"}
        for secret in (password, "guess 1", "guess 2", "guess 3"):
            assert secret not in log.getvalue() + json.dumps(trail)

        boss = await console.signed_in()
        worker = await console.signed_in("root", "correct horse root")
        assert (await worker.get("/api/session")).status_code == 200
        put = await boss.put(
            "/api/users/root",
            json={"roles": ["administrator"], "tenants": [], "disabled": True},
        )
        assert put.status_code == 204
        assert (await worker.get("/api/session")).status_code == 401
        last = await boss.put(
            "/api/users/admin", json={"roles": ["radiologist"], "tenants": [], "disabled": False}
        )
        assert (last.status_code, last.json()["error"]) == (409, "last_administrator")


async def test_a_session_ends_when_idle_and_when_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [time.time()]
    async with a_console(tmp_path) as console:
        monkeypatch.setattr("lungmesh.console.users.time.time", lambda: clock[0])
        browser = await console.signed_in()
        for _ in range(24):
            clock[0] += 29 * 60
            assert (await browser.get("/api/session")).status_code == 200
        clock[0] += 31 * 60
        assert (await browser.get("/api/session")).status_code == 401, "12 hours are over"
        browser = await console.signed_in()
        caller = await console.users.caller(browser.cookies["lungmesh_session"])
        assert caller is not None
        clock[0] += 20 * 60
        # A stream of events that is open is no request of the user.
        assert await console.users.caller(browser.cookies["lungmesh_session"], used=False)
        clock[0] += 11 * 60
        assert (await browser.get("/api/session")).status_code == 401, "half an hour idle"


@pytest.mark.parametrize("public_url", ["", "https://lungmesh.example"])
async def test_every_answer_bears_the_safe_headers(tmp_path: Path, public_url: str) -> None:
    async with a_console(tmp_path, public_url=public_url) as console:
        browser = console.client()
        login = await browser.post(
            "/api/login", json={"user": "admin", "password": console.password}
        )
        cookie = login.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert ("secure" in cookie) == bool(public_url)
        for path in ("/", "/api/session", "/api/nothing", "/dicomweb/studies"):
            headers = (await browser.get(path)).headers
            policy = headers["content-security-policy"]
            assert "unsafe-inline" not in policy
            assert "'unsafe-eval'" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
            assert ("strict-transport-security" in headers) == bool(public_url)


async def console_audit(console: Console) -> list[dict[str, object]]:
    """Return the trail, newest first."""
    rows = await Audit(console.chassis.sessions).read(None, 500)
    return [
        {
            name: getattr(row, name)
            for name in ("number", "user_name", "action", "object", "outcome", "detail")
        }
        for row in rows
    ]
