"""API keys: 256 random bits each, of which the store knows a hash alone."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from deployments.access.principal import UNLIMITED, Limits, Principal
from graph.errors import InvalidRequest
from graph.stores.base import StateStore

PREFIX = "mdy_"
"""What every key begins with: secret scanners and people recognise it."""
SHOWN = len(PREFIX) + 6
"""Characters of a key that are kept to tell it by."""
_TABLE = "api-keys"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key: everything but the key."""

    id: str
    name: str
    prefix: str
    """Its first characters."""
    scopes: frozenset[str]
    nodes: frozenset[str] | None
    limits: Limits
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    """Seconds since the epoch."""

    def principal(self) -> Principal:
        """Return who has this key."""
        return Principal(self.id, self.name, self.scopes, self.nodes, self.limits, self.expires_at)

    def to_json(self) -> dict[str, Any]:
        """Return what may be shown."""
        return {
            "id": self.id,
            "name": self.name,
            "prefix": self.prefix,
            "scopes": sorted(self.scopes),
            "nodes": None if self.nodes is None else sorted(self.nodes),
            "limits": self.limits.to_json(),
            "created_at": self.created_at,
            "created_by": self.created_by,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ApiKey:
        """Read what `to_json` wrote."""
        nodes = data["nodes"]
        return cls(
            data["id"],
            data["name"],
            data["prefix"],
            frozenset(data["scopes"]),
            None if nodes is None else frozenset(nodes),
            Limits(**data["limits"]),
            data["created_at"],
            data["created_by"],
            data["expires_at"],
            data["revoked_at"],
        )


class ApiKeys:
    """The keys in a store."""

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self,
        name: str,
        scopes: frozenset[str],
        *,
        by: str,
        nodes: frozenset[str] | None = None,
        limits: Limits = UNLIMITED,
        expires_at: float | None = None,
    ) -> tuple[str, ApiKey]:
        """Make a key; return it, for the only time, and what is kept of it."""
        token = PREFIX + secrets.token_urlsafe(32)
        id = f"key_{secrets.token_hex(6)}"
        key = ApiKey(id, name, token[:SHOWN], scopes, nodes, limits, self._clock(), by, expires_at)
        await self._store.put(_TABLE, digest(token).hex(), orjson.dumps(key.to_json()))
        return token, key

    async def list(self) -> list[ApiKey]:
        """Return every key, revoked ones too, oldest first."""
        found = [ApiKey.from_json(orjson.loads(raw)) for raw in (await self._store.scan(_TABLE)).values()]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def revoke(self, id: str) -> ApiKey:
        """Make a key, named by its id, worthless for good. Raises `InvalidRequest` if there is none."""
        for hashed, raw in (await self._store.scan(_TABLE)).items():
            key = ApiKey.from_json(orjson.loads(raw))
            if key.id == id:
                if key.revoked_at is None:
                    key = replace(key, revoked_at=self._clock())
                    await self._store.put(_TABLE, hashed, orjson.dumps(key.to_json()))
                return key
        raise InvalidRequest(f"no key has the id {id!r}; `modelyard keys list` shows them", param="id")

    async def find(self, token: str) -> ApiKey | None:
        """Return the key that a token is, unless it is revoked; None for any other token.

        It is found by its hash: how long that takes says nothing of any key.
        """
        hashed = digest(token).hex()
        raw = await self._store.get(_TABLE, hashed)
        key = None if raw is None else ApiKey.from_json(orjson.loads(raw))
        return None if key is None or key.revoked_at is not None else key


def digest(token: str) -> bytes:
    """Return the hash that a token is known by. It is random: nothing slower is needed to guard it."""
    return hashlib.sha256(token.encode()).digest()
