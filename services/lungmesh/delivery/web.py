"""One HTTP request to a destination, and what its status means."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import httpx

from lungmesh.delivery.settings import FhirDestination, StowDestination
from lungmesh.mesh import Refused, Unavailable

# Request Timeout, Too Early, Too Many Requests: the same request may be taken later.
_PASSING = {408, 425, 429}
# Longest for one request as a whole, in answer_seconds: a peer may trickle.
_WHOLE = 4


class WebPeer:
    """A web server that takes POST requests."""

    def __init__(self, destination: StowDestination | FhirDestination) -> None:
        self._destination = destination
        self._url = destination.url.rstrip("/")
        self._tls: ssl.SSLContext | bool = destination.tls.context() if destination.tls else True

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], taken: set[int]
    ) -> httpx.Response:
        """Return the answer when its status is 2xx or one of `taken`.

        Raises Refused for a status that stays, Unavailable for one that passes, and when the server
        cannot be reached.
        """
        there = self._destination
        try:
            async with (
                asyncio.timeout(there.connect_seconds + _WHOLE * there.answer_seconds),
                self._client() as client,
            ):
                answer = await client.post(self._url + path, content=body, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            # The text may name addresses; none of it names a patient, but the class says enough.
            raise Unavailable(f"{self.name} did not answer ({type(error).__name__})") from None
        status = answer.status_code
        if answer.is_success or status in taken:
            return answer
        # The server's own words may quote patient data.
        text = f"{self.name} answered {status} {answer.reason_phrase}".rstrip()
        if status in _PASSING or status >= 500:
            raise Unavailable(text)
        raise Refused(text)

    @property
    def name(self) -> str:
        """The server, for a person."""
        return f"the server at {self._url}"

    def _client(self) -> httpx.AsyncClient:
        there = self._destination
        headers, auth = {}, None
        if there.token is not None:
            headers["authorization"] = f"Bearer {there.token.read()}"
        elif there.password is not None:
            auth = httpx.BasicAuth(there.user, there.password.read())
        return httpx.AsyncClient(
            headers=headers,
            auth=auth,
            timeout=httpx.Timeout(there.answer_seconds, connect=there.connect_seconds),
            verify=self._tls,
            trust_env=False,
        )
