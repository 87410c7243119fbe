"""Holds every key to its limits, and says in headers how much is left."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, MutableMapping

from deployments.access.meters import MINUTE_S, RequestMeter, SumMeter
from deployments.access.principal import Principal
from graph.errors import Overloaded, RateLimited
from graph.stores.base import StateStore

log = logging.getLogger("modelyard.limits")

FLUSH_S = 0.2
"""How long what was used may wait to be written; a process that is killed forgets as much."""


class Quotas:
    """The limits of all keys, as this gateway holds them."""

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.time) -> None:
        self._requests = RequestMeter(store, clock)
        self._tokens = SumMeter(store, "tokens", clock=clock)
        self._cost = SumMeter(store, "cost", monthly=True, clock=clock)
        self._flusher: asyncio.Task[None] | None = None

    async def admit(self, principal: Principal, headers: MutableMapping[str, str]) -> None:
        """Take one request of a key, and put what is left of its limits into the headers.

        Raises `RateLimited`, and `Overloaded` while the store that knows what was used is away.
        """
        try:
            await self._admit(principal, headers)
        except (ConnectionError, TimeoutError) as error:
            raise Overloaded("what the key has used cannot be told now", retry_after=2) from error

    async def _admit(self, principal: Principal, headers: MutableMapping[str, str]) -> None:
        id, limits = principal.id, principal.limits
        if limits.budget is not None:
            spent, wait = await self._cost.spent(id)
            if spent >= limits.budget:
                message = f"the key's budget of {limits.budget:g} cost units for this month is used up"
                raise RateLimited(message, retry_after=wait, code="insufficient_quota")
        if limits.tokens is not None:
            used, wait = await self._tokens.spent(id)
            left = max(0, limits.tokens - math.ceil(used))
            _tell(headers, "tokens", limits.tokens, left, wait)
            if not left:
                raise RateLimited(f"the key's {limits.tokens} tokens a minute are used up", retry_after=wait)
        if limits.requests is not None:
            granted, remaining, wait = await self._requests.take(id, limits.requests)
            _tell(headers, "requests", limits.requests, remaining, wait)
            if not granted:
                raise RateLimited(f"the key's {limits.requests} requests a minute are used up", retry_after=wait)

    def charge(self, key: str, tokens: int, cost: float) -> None:
        """Add what one call took. It is written a moment later."""
        self._tokens.add(key, tokens)
        self._cost.add(key, cost)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_soon())

    async def aclose(self) -> None:
        """Write what was not written yet."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        await self._flush()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_S)
        try:
            await self._flush()
        except Exception:  # a boundary: the store may be away; what was used is kept, and goes with the next charge
            log.warning("what keys have used could not be written; trying again with the next call")

    async def _flush(self) -> None:
        await self._tokens.flush()
        await self._cost.flush()


def _tell(headers: MutableMapping[str, str], what: str, limit: int, left: int, wait: float) -> None:
    """Set the headers of the IETF's draft (RateLimit, RateLimit-Policy) and those that OpenAI's clients read."""
    seconds = int(wait) + 1
    before, policy = headers.get("ratelimit"), headers.get("ratelimit-policy")
    now, holds = f'"{what}";r={left};t={seconds}', f'"{what}";q={limit};w={MINUTE_S}'
    headers["ratelimit"] = now if before is None else f"{before}, {now}"
    headers["ratelimit-policy"] = holds if policy is None else f"{policy}, {holds}"
    headers["x-ratelimit-limit-" + what] = str(limit)
    headers["x-ratelimit-remaining-" + what] = str(left)
    headers["x-ratelimit-reset-" + what] = f"{seconds}s"
