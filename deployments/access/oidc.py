"""Bearer tokens of an OpenID Connect issuer: whose they are, and what that one may do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from deployments.access.issuer_keys import IssuerKeys
from deployments.access.principal import SCOPES, UNLIMITED, Limits, Principal
from graph.errors import Unauthorized

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Of public keys alone: a token signed with a public key as if it were a shared secret is refused."""
LEEWAY_S = 10.0
MAX_SUBJECT = 200
"""Characters of a subject that are kept; a longer one is told from others by a hash."""
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
    limits: Limits = UNLIMITED
    """What each subject may use."""


class OidcVerifier:
    """Verifies tokens."""

    def __init__(self, options: OidcOptions) -> None:
        self._options = options
        self._keys = IssuerKeys(options.issuer, options.jwks_url)

    async def __call__(self, token: str) -> Principal:
        """Return whose a token is. Raises `Unauthorized`, and `ConnectionError` while the issuer does not answer."""
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header.get("kid"), header.get("alg"))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._options.issuer,
                audience=self._options.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token has expired") from None
        except jwt.PyJWTError as error:
            raise Unauthorized(f"the token is not valid here: {error}") from None
        return self._principal(claims)

    async def _key(self, kid: str | None, algorithm: str | None) -> jwt.PyJWK:
        if algorithm not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError(f"algorithm {str(algorithm)[:20]!r} is not taken")
        known = await self._keys.find(kid)
        if known is None:
            raise jwt.InvalidKeyError("the issuer has no such key")
        if known.algorithm_name != algorithm:
            raise jwt.InvalidAlgorithmError("the algorithm is not the key's")
        return known

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        options = self._options
        values = _values(claims, options.claim)
        if options.grants is None:
            scopes = {value.removeprefix(OWN) for value in values} & set(SCOPES)
        else:
            scopes = {scope for value in values for scope in options.grants.get(value, ())}
        nodes = None if options.nodes_claim is None else frozenset(_values(claims, options.nodes_claim))
        subject = _subject(str(claims["sub"]))
        return Principal(
            f"oidc:{subject}", subject, frozenset(scopes), nodes, options.limits, expires_at=float(claims["exp"])
        )


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


def _subject(given: str) -> str:
    """Return a subject as it may stand in records and counters; no two become one."""
    shown = "".join(char for char in given if char.isprintable())[:MAX_SUBJECT]
    if not given:
        raise Unauthorized("the token is not valid here: its subject (sub) is empty")
    return shown if shown == given else f"{shown}#{hashlib.sha256(given.encode(errors='replace')).hexdigest()[:32]}"


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return a claim's values: of a list, or of words in a text. A name with dots may be the claim's own."""
    found: Any = claims
    for name in [path] if path in claims else path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
