"""Bearer tokens of an OpenID Connect issuer: whose they are, and what that one may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from deployments.access.principal import SCOPES, Principal
from deployments.addresses import is_loopback
from graph.errors import InvalidRequest, Unauthorized

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Of public keys alone: a token signed with a public key as if it were a shared secret is refused."""
TIMEOUT_S = 5.0
KEYS_S = 300.0
"""How long the issuer's keys are gone by."""
AGAIN_S = 10.0
"""Least time between two looks for a key that is not known: tokens with invented ones cost the issuer nothing."""
LEEWAY_S = 10.0
OWN = "modelyard:"
"""What may stand before a scope in a claim."""


@dataclass(frozen=True, slots=True)
class OidcOptions:
    """What the settings say of an issuer."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    """Where its keys are; None asks its discovery document."""
    claim: str = "scope"
    """Claim whose values say what may be done; dots lead into it."""
    grants: Mapping[str, frozenset[str]] | None = None
    """From values of that claim to scopes; None: the values are scopes."""
    nodes_claim: str | None = None
    """Claim that names the only nodes that exist for the token; None: every one."""


class OidcVerifier:
    """Verifies tokens. Keys are fetched in a thread, and kept."""

    def __init__(self, options: OidcOptions) -> None:
        self._options = options
        self._client: jwt.PyJWKClient | None = None
        self._looked = 0.0
        self._lock = Lock()

    async def __call__(self, token: str) -> Principal:
        """Return whose a token is. Raises `Unauthorized`, and `ConnectionError` while the issuer does not answer."""
        return await asyncio.to_thread(self._verify, token)

    def _verify(self, token: str) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header.get("kid"), header.get("alg"))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._options.issuer,
                audience=self._options.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise ConnectionError(f"the issuer {self._options.issuer} does not answer") from error
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token has expired") from None
        except jwt.PyJWTError as error:
            raise Unauthorized(f"the token is not valid here: {error}") from None
        return self._principal(claims)

    def _key(self, kid: str | None, algorithm: str | None) -> jwt.PyJWK:
        if algorithm not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError(f"algorithm {str(algorithm)[:20]!r} is not taken")
        with self._lock:
            known = self._find(kid, refresh=False)
            if known is None and time.monotonic() - self._looked > AGAIN_S:
                known = self._find(kid, refresh=True)
                self._looked = time.monotonic()
        if known is None:
            raise jwt.InvalidKeyError("the issuer has no such key")
        if known.key_type == "oct" or known.algorithm_name != algorithm:
            raise jwt.InvalidAlgorithmError("the algorithm is not the key's")
        return known

    def _find(self, kid: str | None, *, refresh: bool) -> jwt.PyJWK | None:
        if self._client is None:
            url = self._options.jwks_url or _discovered(self._options.issuer)
            self._client = jwt.PyJWKClient(url, cache_keys=False, lifespan=int(KEYS_S), timeout=int(TIMEOUT_S))
        keys = self._client.get_signing_keys(refresh=refresh)
        return next((key for key in keys if key.key_id == kid), None)

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        options = self._options
        values = _values(claims, options.claim)
        if options.grants is None:
            scopes = {value.removeprefix(OWN) for value in values} & set(SCOPES)
        else:
            scopes = {scope for value in values for scope in options.grants.get(value, ())}
        nodes = None if options.nodes_claim is None else frozenset(_values(claims, options.nodes_claim))
        subject = "".join(char for char in str(claims["sub"]) if char.isprintable())[:200]
        return Principal(f"oidc:{subject}", subject, frozenset(scopes), nodes, expires_at=float(claims["exp"]))


def parse_grants(text: str) -> dict[str, frozenset[str]] | None:
    """Read `staff=call+route,ops=admin`; None for an empty text. Raises `ValueError` that says what would be right."""
    found: dict[str, frozenset[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        value, separator, scopes = part.rpartition("=")
        granted = frozenset(scope.strip() for scope in scopes.split("+"))
        if not separator or not value or not granted <= set(SCOPES):
            raise ValueError(f"{part!r} is no grant; write VALUE=SCOPE+SCOPE, scopes of {', '.join(SCOPES)}")
        found[value.strip()] = granted
    return found or None


def _check_url(url: str) -> None:
    """Raise `ValueError` unless keys can be fetched from there without anyone changing them on the way."""
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise ValueError(f"{url!r} must be an https:// address; http:// only on loopback")


def _discovered(issuer: str) -> str:
    try:
        trust_env = not is_loopback(urlsplit(issuer).hostname or "")
        with httpx.Client(timeout=TIMEOUT_S, trust_env=trust_env) as client:
            answer = client.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration").raise_for_status()
        document = answer.json()
        if document["issuer"] != issuer:
            raise InvalidRequest(f"it says that it is {document['issuer']!r}")
        url = str(document["jwks_uri"])
        _check_url(url)
    except (httpx.HTTPError, ValueError, KeyError, TypeError, InvalidRequest) as error:
        raise jwt.PyJWKClientConnectionError(f"the issuer's discovery document cannot be used: {error}") from error
    return url


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return a claim's values: of a list, or of words in a text. A name with dots may be the claim's own."""
    found: Any = claims
    for name in [path] if path in claims else path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
