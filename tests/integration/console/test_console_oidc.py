"""Signing in by a real OpenID Connect provider (oidc-provider-mock, built on Authlib)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import flask
import httpx
import oidc_provider_mock
import pytest
import werkzeug.serving
from joserfc import jwt
from joserfc.jwk import RSAKey
from oidc_provider_mock import User

from lungmesh.console.access import Refusal
from lungmesh.console.settings import OidcSettings
from tests.support.console import Console, a_console, made_study
from tests.support.preprocess import TENANT

OURS = "http://localhost"


@pytest.fixture
def provider() -> Iterator[str]:
    """A provider that knows a radiologist, one without roles here, and one who would be admin."""
    users = [
        User(
            sub="u-1",
            claims={"preferred_username": "li.na", "roles": ["Radiology"], "tenants": [TENANT]},
        ),
        User(sub="u-2", claims={"preferred_username": "guest", "roles": ["cook"]}),
        User(sub="u-3", claims={"preferred_username": "admin", "roles": ["administrator"]}),
    ]
    app: flask.Flask = oidc_provider_mock.app(require_nonce=True, user_claims=users)
    challenges: set[str] = set()

    @app.before_request
    def proof_key() -> None:
        """Ask for the proof of RFC 7636, which the library leaves out."""
        challenges.add(flask.request.args.get("code_challenge", ""))
        if flask.request.endpoint == "oidc-provider-mock.issue_token":
            digest = hashlib.sha256(flask.request.form["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() not in challenges - {""}:
                flask.abort(400)

    with serving(app) as address:
        yield address


@contextmanager
def serving(app: flask.Flask) -> Iterator[str]:
    """Serve an application in a thread and yield its address."""
    server = werkzeug.serving.make_server("localhost", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def settings(issuer: str) -> OidcSettings:
    return OidcSettings.model_validate(
        {
            "issuer": issuer,
            "client_id": "lungmesh",
            "client_secret": "not used by anyone else",
            "roles": {"Radiology": "radiologist"},
        }
    )


async def to_provider(browser: httpx.AsyncClient, back: str = "/") -> str:
    """Go to the provider and return the address that the browser was sent to."""
    answer = await browser.get("/auth/oidc", params={"return": back})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def log_in_there(address: str, sub: str) -> str:
    """Log in at the provider and return where it sends the browser."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(address, data={"sub": sub})
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


async def come_back(console: Console, browser: httpx.AsyncClient, sub: str) -> httpx.Response:
    back = await log_in_there(await to_provider(browser), sub)
    assert back.startswith(f"{OURS}/auth/oidc/callback?")
    return await browser.get(back)


async def test_a_radiologist_of_the_hospital_signs_in_reads_and_signs(
    tmp_path: Path, provider: str
) -> None:
    study = await asyncio.to_thread(made_study, tmp_path)
    async with a_console(tmp_path, public_url=OURS, oidc=settings(provider)) as console:
        await console.tell(*study.events)
        browser = console.client()
        asked = parse_qs(urlsplit(await to_provider(browser)).query)
        assert asked["code_challenge_method"] == ["S256"]
        assert len(asked["code_challenge"][0]) == 43
        assert asked["response_type"] == ["code"]
        answer = await come_back(console, browser, "u-1")
        assert answer.status_code == 200, answer.text
        session = (await browser.get("/api/session")).json()
        assert (session["user"], session["roles"], session["tenants"]) == (
            "li.na",
            ["radiologist"],
            [TENANT],
        )
        assert not session["local"]
        browser.headers["X-CSRF-Token"] = session["csrf"]
        # The login just now is the proof that a signature asks for.
        signed = await browser.post(f"/api/studies/{study.study_id}/sign", json={})
        assert signed.status_code == 200, signed.text
        assert signed.json()["signed_by"] == "li.na"


async def test_what_the_provider_should_not_have_said_is_refused(
    tmp_path: Path, provider: str
) -> None:
    async with a_console(tmp_path, public_url=OURS, oidc=settings(provider)) as console:
        # A local user's name: the provider does not become our administrator.
        stolen = await come_back(console, console.client(), "u-3")
        assert (stolen.status_code, stolen.json()["error"]) == (401, "provider_refused")
        # A word that is no role of ours gives no role.
        guest = console.client()
        assert (await come_back(console, guest, "u-2")).status_code == 200
        assert (await guest.get("/api/worklist")).status_code == 403

        browser = console.client()
        back = await log_in_there(await to_provider(browser), "u-1")
        code = parse_qs(urlsplit(back).query)["code"][0]
        for query in (
            f"code={code}&state=forged",
            f"state={parse_qs(urlsplit(back).query)['state'][0]}",
            "error=access_denied",
        ):
            answer = await browser.get(f"/auth/oidc/callback?{query}")
            assert (answer.status_code, answer.json()["error"]) == (401, "provider_refused")
        # Another browser cannot end what this one began.
        other = await console.client().get(back)
        assert (other.status_code, other.json()["error"]) == (401, "provider_refused")
        assert (await browser.get(back)).status_code == 200
        # A code counts once.
        again = await browser.get(back)
        assert again.status_code == 401


async def test_a_provider_that_is_away_is_said_so(tmp_path: Path) -> None:
    gone = settings("http://localhost:9")
    async with a_console(tmp_path, public_url=OURS, oidc=gone) as console:
        answer = await console.client().get("/auth/oidc")
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        # Local users sign in all the same.
        await console.signed_in()


Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.mark.parametrize(
    ("what", "change"),
    [
        # They proved to the provider an hour ago who they are: that is no proof for a signature.
        ("nothing", lambda claims: {"auth_time": claims["iat"] - 3600}),
        ("another audience", lambda claims: {"aud": "someone else"}),
        ("another issuer", lambda claims: {"iss": "https://evil.example"}),
        ("it is over", lambda claims: {"exp": int(time.time()) - 120}),
        ("it is old", lambda claims: {"iat": int(time.time()) - 86400}),
        ("another login's", lambda claims: {"nonce": "x" * 43}),
        ("for another client", lambda claims: {"azp": "someone else"}),
        ("another key", lambda claims: {}),
        ("the public key as a password", lambda claims: {}),
        ("no signature", lambda claims: {}),
    ],
)
async def test_a_token_counts_only_when_it_is_the_providers_and_for_us(
    tmp_path: Path, what: str, change: Change
) -> None:
    """The token endpoint stands between us and the provider, and gives what it likes."""
    key, other = RSAKey.generate_key(2048, {"kid": "a"}), RSAKey.generate_key(2048, {"kid": "a"})
    app = flask.Flask("in-between")
    nonce: list[str] = []

    @app.get("/.well-known/openid-configuration")
    def about() -> dict[str, str]:
        root = flask.request.host_url.rstrip("/")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        return {"issuer": root, **{name: f"{root}/{name}" for name in names}}

    @app.get("/jwks_uri")
    def keys() -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False)]}

    @app.post("/token_endpoint")
    def token() -> dict[str, str]:
        claims = {
            "iss": flask.request.host_url.rstrip("/"),
            "aud": "lungmesh",
            "sub": "u-1",
            "preferred_username": "li.na",
            "roles": ["Radiology"],
            "tenants": [TENANT],
            "nonce": nonce[0],
            "iat": int(time.time()),
            "exp": int(time.time()) + 300,
        }
        claims |= change(claims)
        if what == "another key":
            return {"id_token": jwt.encode({"alg": "RS256", "kid": "a"}, claims, other)}
        if what == "the public key as a password":
            # By hand: a library does not lend itself to this.
            parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "a"}, claims)]
            body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
            seal = hmac.digest(key.as_pem(private=False), body, "sha256")
            end = base64.urlsafe_b64encode(seal).rstrip(b"=")
            return {"id_token": f"{body.decode()}.{end.decode()}"}
        signed = jwt.encode({"alg": "RS256", "kid": "a"}, claims, key)
        if what == "no signature":
            head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
            return {"id_token": f"{head}.{signed.split('.')[1]}."}
        return {"id_token": signed}

    with serving(app) as address:
        async with a_console(tmp_path, public_url=OURS, oidc=settings(address)) as console:
            browser = console.client()
            asked = parse_qs(urlsplit(await to_provider(browser)).query)
            nonce.append(asked["nonce"][0])
            answer = await browser.get(f"/auth/oidc/callback?code=c&state={asked['state'][0]}")
            assert answer.status_code == (200 if what == "nothing" else 401), answer.text
            found = (await browser.get("/api/session")).status_code
            assert found == (200 if what == "nothing" else 401)
            if what == "nothing":
                caller = await console.users.caller(browser.cookies["lungmesh_session"])
                assert caller is not None
                with pytest.raises(Refusal, match="login_too_old"):
                    await console.users.prove(caller, "", "127.0.0.1")
