"""Signing in by an OpenID Connect provider: authorization code with PKCE, state and nonce."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from cryptography.fernet import Fernet, InvalidToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from lungmesh.console.access import ROLES, USER_PATTERN, Refusal
from lungmesh.console.settings import ConsoleSettings
from lungmesh.mesh.errors import Unavailable

_SECONDS = 10.0
_FLOW_SECONDS = 600
# Signatures of public keys only: a shared secret or none is never taken.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


@dataclass(frozen=True)
class ProviderUser:
    """Who signed in, and the path of the page they wanted.

    Attributes
    ----------
    authenticated
        When they proved to the provider who they are, seconds since 1970; None when it did not say.
    """

    name: str
    roles: list[str]
    tenants: list[str]
    back: str
    authenticated: float | None


class Provider:
    """The provider of the settings; its documents are read when they are needed.

    Raises Unavailable when it does not answer, Refusal (provider_refused) for what it should not
    have said.
    """

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings.oidc
        self._redirect = f"{settings.public_url}/auth/oidc/callback"
        # A flow that another process of the console began is begun again.
        self._seal = Fernet(Fernet.generate_key())
        self._about: dict[str, Any] = {}

    async def start(self, back: str, fresh: bool) -> tuple[str, str]:
        """Return the provider's address for the browser, and the sealed flow for its cookie.

        Parameters
        ----------
        back
            Path of our page to come back to.
        fresh
            Whether the user shall prove again who they are.
        """
        about = await self._discover()
        flow = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
        digest = hashlib.sha256(flow["verifier"].encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect,
            "scope": self._settings.scope,
            "state": flow["state"],
            "nonce": flow["nonce"],
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **({"prompt": "login", "max_age": "0"} if fresh else {}),
        }
        url = f"{about['authorization_endpoint']}?{urlencode(query)}"
        return url, self._seal.encrypt(json.dumps({**flow, "back": back}).encode()).decode()

    async def finish(self, sealed: str, answer: Mapping[str, str]) -> ProviderUser:
        """Return who has come back from the provider.

        Parameters
        ----------
        sealed
            The flow from the cookie.
        answer
            The query that the provider gave to the browser.
        """
        try:
            flow = json.loads(self._seal.decrypt(sealed.encode(), ttl=_FLOW_SECONDS))
        except InvalidToken as error:
            raise Refusal("provider_refused") from error
        state = answer.get("state", "")
        if not hmac.compare_digest(flow["state"].encode(), state.encode()) or "code" not in answer:
            raise Refusal("provider_refused")
        about = await self._discover()
        tokens = await self._exchange(about["token_endpoint"], answer["code"], flow["verifier"])
        claims = await self._claims(tokens.get("id_token", ""), about, flow["nonce"])
        return self._user(claims, flow["back"])

    async def _exchange(self, url: str, code: str, verifier: str) -> dict[str, Any]:
        """Return the provider's tokens for a code (RFC 6749 4.1.3, RFC 7636 4.5)."""
        settings = self._settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": verifier,
            "client_id": settings.client_id,
        }
        secret = settings.client_secret
        auth = httpx.Auth()
        if secret is not None:
            auth = httpx.BasicAuth(settings.client_id, secret.get_secret_value())
        try:
            async with self._client() as client:
                answer = await client.post(url, data=form, auth=auth)
        except httpx.HTTPError as error:
            raise Unavailable("the identity provider does not answer") from error
        if answer.status_code >= 500:
            raise Unavailable("the identity provider does not answer")
        if answer.status_code != 200:
            raise Refusal("provider_refused")
        tokens: dict[str, Any] = answer.json()
        return tokens

    async def _claims(self, token: str, about: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        keys = KeySet.import_key_set(await self._get(about["jwks_uri"]))  # type: ignore[arg-type]
        registry = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": about["issuer"]},
            aud={"essential": True, "value": self._settings.client_id},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
            leeway=60,
        )
        try:
            decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
            registry.validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise Refusal("provider_refused") from error
        claims: dict[str, Any] = decoded.claims
        authorized = claims.get("azp", self._settings.client_id)
        stale = time.time() - float(claims.get("iat", 0)) > _FLOW_SECONDS
        if authorized != self._settings.client_id or stale:
            raise Refusal("provider_refused")
        return claims

    def _user(self, claims: Mapping[str, Any], back: str) -> ProviderUser:
        settings = self._settings
        name = str(claims.get(settings.user_claim) or claims.get("sub") or "")
        given = claims.get(settings.roles_claim, [])
        words = given.split() if isinstance(given, str) else [str(one) for one in given]
        roles = [settings.roles.get(one, one) for one in words]
        tenants = claims.get(settings.tenants_claim, settings.tenants)
        if not re.fullmatch(USER_PATTERN, name) or not isinstance(tenants, list):
            raise Refusal("provider_refused")
        known = [role for role in roles if role in ROLES]
        at = claims.get("auth_time")
        proved = float(at) if isinstance(at, (int, float)) else None
        return ProviderUser(name, known, [str(one) for one in tenants], back, proved)

    async def _discover(self) -> dict[str, Any]:
        if not self._about:
            root = self._settings.issuer.rstrip("/")
            about = await self._get(f"{root}/.well-known/openid-configuration")
            # RFC 9207 and OpenID Connect Discovery 4.3: the document must name its own issuer.
            if str(about.get("issuer", "")).rstrip("/") != root:
                raise Refusal("provider_refused")
            self._about = about
        return self._about

    async def _get(self, url: str) -> dict[str, Any]:
        try:
            async with self._client() as client:
                answer = await client.get(url)
                answer.raise_for_status()
                found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("the identity provider does not answer") from error
        return found

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=_SECONDS)
