"""Finds out who a request comes from."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deployments.access.api_keys import PREFIX, ApiKeys, digest
from deployments.access.principal import OPERATOR, Principal
from graph.errors import ModelyardError, Overloaded, Unauthorized

KNOWN_S = 5.0
"""How long a gateway goes by what it knows of a key: another gateway's revocation counts here after that long."""
STALE_S = 60.0
"""How long it does while the store is away."""
REMEMBERED = 10_000
"""Keys that are remembered, unknown ones too; the oldest is forgotten for one more."""
REMEMBERED_WHOLE = 100
"""Longest header that is remembered as it came, which is quicker; keys are shorter."""
ASKED = "a valid key is needed: send it as 'Authorization: Bearer KEY'"
Verify = Callable[[str], Awaitable[Principal]]


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal | None
    why: str
    until: float


class Access:
    """Knows whose a token is. With neither an operator's key nor an issuer of tokens, everybody is the operator."""

    def __init__(
        self,
        keys: ApiKeys,
        operator_key: str | None,
        verify: Verify | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`verify` tells whose a token is that is no key of ours, or raises `Unauthorized`."""
        self.is_open = operator_key is None and verify is None
        self._keys = keys
        self._operator = digest(operator_key) if operator_key is not None else None
        self._verify = verify
        self._clock = clock
        self._known: OrderedDict[str | bytes, _Known] = OrderedDict()
        """By the header as it came; Python's hash of it is salted with a secret of this process. A long one by a hash:
        strangers send any number of them."""

    async def identify(self, authorization: str) -> Principal:
        """Return whose an Authorization header is. Raises `Unauthorized`; `Overloaded` if that cannot be told now."""
        now = self._clock()
        name = authorization if len(authorization) <= REMEMBERED_WHOLE else digest(authorization)
        known = self._known.get(name)
        if known is None or known.until <= now:
            known = self._known[name] = await self._look_up(authorization, known, now)
            self._known.move_to_end(name)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        principal = known.principal
        if principal is None:
            raise Unauthorized(known.why)
        if principal.expires_at is not None and principal.expires_at <= now:
            raise Unauthorized("the key has expired")
        return principal

    def forget(self) -> None:
        """Ask the store again about every key: one was changed here."""
        self._known.clear()

    async def _look_up(self, authorization: str, before: _Known | None, now: float) -> _Known:
        try:
            return _Known(await self._principal(authorization), "", now + KNOWN_S)
        except Unauthorized as error:
            return _Known(None, error.message, now + KNOWN_S)
        except (ConnectionError, TimeoutError, ModelyardError) as error:
            if before is None or before.until + STALE_S <= now:
                raise Overloaded("the key cannot be checked now", retry_after=2) from error
            return before

    async def _principal(self, authorization: str) -> Principal:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            if self.is_open:
                return OPERATOR
            raise Unauthorized(ASKED)
        if self.is_open and not token.startswith(PREFIX):
            return OPERATOR  # clients send whatever where no key is asked for
        if self._operator is not None and hmac.compare_digest(digest(token), self._operator):
            return OPERATOR
        if token.startswith(PREFIX):
            if (key := await self._keys.find(token)) is not None:
                return key.principal()
        elif self._verify is not None:
            return await self._verify(token)
        raise Unauthorized(ASKED)
