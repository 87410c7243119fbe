"""The public keys of an OpenID Connect issuer, which may be slow, be away, or answer with anything.

One look at a time, bounded in time and size; nobody waits for an issuer that did not answer the last time. What keys it
had stay good while it is away, for a while.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import orjson

from deployments.addresses import is_loopback

log = logging.getLogger("modelyard.limits")

TIMEOUT_S = 5.0
"""For all of a look, however slowly the pieces come."""
MAX_BYTES = 2**20
KEYS_S = 300.0
"""How long keys are gone by before the issuer is asked again."""
HELD_S = 3600.0
"""How long they are while it does not answer."""
AGAIN_S = 10.0
"""Least time between two looks for a key that is not known: tokens with invented ones cost the issuer nothing."""
AWAY_S = 1.0
"""Least time between two looks at an issuer that does not answer."""


class IssuerKeys:
    """The keys of one issuer, by their ids."""

    def __init__(
        self, issuer: str, jwks_url: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Without `jwks_url` the issuer's discovery document says where they are."""
        self._issuer = issuer
        self._given = self._url = jwks_url
        self._clock = clock
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._fetched = -math.inf
        self._not_before = -math.inf
        """When the next look may begin."""
        self._away = False
        self._look: asyncio.Task[None] | None = None

    async def find(self, id: str | None) -> jwt.PyJWK | None:
        """Return a key; None if the issuer has none of this id.

        Raises `ConnectionError` while that cannot be told because the issuer does not answer.
        """
        if self._age() > KEYS_S:
            look = self._looking(0.0)
            if look is not None and not self._away:
                await asyncio.shield(look)
            if self._age() > HELD_S:
                raise ConnectionError(f"the issuer {self._issuer} does not answer")
        if id not in self._keys:
            if (look := self._looking(AGAIN_S)) is not None and not self._away:
                await asyncio.shield(look)
            if self._away:  # it may have this key by now
                raise ConnectionError(f"the issuer {self._issuer} does not answer")
        return self._keys.get(id)

    def _age(self) -> float:
        return self._clock() - self._fetched

    def _looking(self, pause_s: float) -> asyncio.Task[None] | None:
        """Return the look that is under way, or a new one; None where one must not begin yet."""
        if self._look is None or self._look.done():
            now = self._clock()
            if now < self._not_before:
                return None
            self._not_before = now + pause_s
            self._look = asyncio.create_task(self._fetch())
        return self._look

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._url = self._url or await _discovered(self._issuer)
                document = await _document(self._url)
            self._keys = await asyncio.to_thread(_usable, document)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, KeyError, TypeError) as error:
            if not self._away:
                why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                log.warning("the keys of the issuer %s cannot be fetched: %.200s", self._issuer, why)
            self._away, self._url = True, self._given
            self._not_before = self._clock() + AWAY_S
        else:
            self._away, self._fetched = False, self._clock()


def _usable(document: Mapping[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """Return the public keys for signatures; those that cannot be read are left out. Raises `ValueError` for none."""
    found: dict[str | None, jwt.PyJWK] = {}
    for item in document["keys"]:
        try:
            key = jwt.PyJWK(item)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            continue  # of a kind that is not known here, or broken: tokens signed with it are refused
        if key.public_key_use in (None, "sig") and key.key_type != "oct":
            found.setdefault(key.key_id, key)
    if not found:
        raise ValueError("its document has no public keys for signatures")
    return found


async def _discovered(issuer: str) -> str:
    document = await _document(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if document["issuer"] != issuer:
        raise ValueError(f"its discovery document says that it is {document['issuer']!r:.200}")
    url = str(document["jwks_uri"])
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise ValueError(f"{url!r:.200} must be an https:// address; http:// only on loopback")
    return url


async def _document(url: str) -> Mapping[str, Any]:
    """Fetch a JSON object. No redirect is followed: keys come from where the operator, or the issuer, says."""
    body = bytearray()
    trust_env = not is_loopback(urlsplit(url).hostname or "")
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=trust_env) as client,
        client.stream("GET", url, headers={"accept": "application/json"}) as answer,
    ):
        if not answer.is_success:
            raise ValueError(f"{url} answers with status {answer.status_code}")
        async for piece in answer.aiter_bytes(2**16):
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError(f"{url} answers with more than {MAX_BYTES} bytes")
    document = orjson.loads(bytes(body))
    if not isinstance(document, dict):
        raise TypeError(f"{url} does not answer with a JSON object")
    return document
