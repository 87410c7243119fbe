"""`Idempotency-Key`: the same request with the same key is answered once, and then with that answer again.

After the IETF's draft-ietf-httpapi-idempotency-key-header: another body under the same key is 422. A request that comes
while the first is being answered waits for it. What fails is not kept: asking again tries again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api.chat_wire import DONE
from deployments.api.event_stream import EventStream
from deployments.api.state import deadline_of
from deployments.http_errors import error_response
from deployments.idempotency import IdempotencyStore, Kept, fingerprint
from deployments.patience import patiently
from graph.errors import InvalidRequest, ModelyardError, Overloaded
from graph.run_record import new_run_id
from graph.stores.base import StateStore

log = logging.getLogger("modelyard.gateway")

RUNS = "/v1/runs"
PATHS = frozenset({"/v1/chat/completions", RUNS})
HEADER = b"idempotency-key"
PATIENCE_S = 5.0
"""How long the end of an answer waits for a store that is away: it is told then, kept or not."""
MAX_KEPT = 4 * 2**20
"""Longest answer that is kept, in bytes; a longer one is given and forgotten."""
_VALID = re.compile(rb"[\x21-\x7e]{1,255}")
_TOLD = frozenset({"content-type", "location", "x-modelyard-node", "x-modelyard-run", "x-modelyard-probability"})
"""Headers of the answer that belong to it, not to the request that happened to ask."""


class IdempotentAnswers:
    """ASGI: answers requests with an Idempotency-Key once; passes everything else on."""

    def __init__(self, app: ASGIApp, store: StateStore) -> None:
        self._app = app
        self._answers = IdempotencyStore(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] not in PATHS or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        key = next((value for name, value in scope["headers"] if name == HEADER), None)
        if key is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._once(key, scope, receive, send)
        except ModelyardError as error:  # of this layer: those of the application are answers already
            await error_response(error)(scope, receive, send)

    async def _once(self, key: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        if not _VALID.fullmatch(key):
            shown = key[:40].decode("latin-1")
            raise InvalidRequest(f"{shown!r} is no key: 1 to 255 visible characters", param="Idempotency-Key")
        request = Request(scope, receive)
        until = deadline_of(request)
        body = await request.body()
        exchange, path = scope["state"]["exchange"], scope["path"].encode()
        name = fingerprint(exchange.principal.id.encode(), path, key)
        wanted = Kept(fingerprint(path, body), new_run_id())
        try:
            kept, ours = await self._answers.claim(name, wanted, until=until)
        except (ConnectionError, TimeoutError) as error:
            raise Overloaded("it cannot be told now whether this was answered before", retry_after=2) from error
        if not ours:
            await _replay(kept, send)
            return
        exchange.run = kept.run
        await self._answer(name, kept, scope, _again(body, receive), send, fresh=kept.run == wanted.run)

    async def _answer(self, name: str, kept: Kept, scope: Scope, receive: Receive, send: Send, *, fresh: bool) -> None:
        holding = asyncio.create_task(self._answers.renew(name, kept))

        async def settle() -> None:
            holding.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await holding
            await self._settle(name, kept, recorder, fresh)

        recorder = _Recorder(send, settle, scope["path"], scope["state"]["exchange"].headers)
        try:
            await self._app(scope, receive, recorder)
        finally:
            if not recorder.settled:
                await asyncio.shield(settle())  # a client that leaves now must not leave the claim behind

    async def _settle(self, name: str, kept: Kept, recorder: _Recorder, fresh: bool) -> None:
        answer = recorder.answer(kept)
        try:
            if answer is not None:
                await patiently(partial(self._answers.keep, name, answer), time.time() + PATIENCE_S)
            elif recorder.path != RUNS or (fresh and recorder.refused):
                await self._answers.forget(name)
            else:  # the run may have been written down, by us or by a process that died: it must be found again
                await self._answers.release(name, kept)
        except (ConnectionError, TimeoutError):
            log.warning("the store is away: an answer could not be kept for its Idempotency-Key")


class _Recorder:
    """`send` that remembers what it sent, up to a bound, and sees to it that an answer is kept before its end is told.

    Else a process that dies between the two would have its answer made once more, and otherwise.
    """

    def __init__(self, send: Send, settle: Callable[[], Awaitable[None]], path: str, extra: Mapping[str, str]) -> None:
        self.path = path
        self.settled = False
        self._send = send
        self._settle = settle
        self._extra = extra
        self._start: Message | None = None
        self._last: Message | None = None
        self._body = bytearray()
        self._whole = False
        self._fits = True

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            piece = message.get("body", b"")
            self._fits = self._fits and len(self._body) + len(piece) <= MAX_KEPT
            if self._fits:
                self._body += piece
            if message.get("more_body", False) and piece.endswith(DONE):
                self._last = message
                return
            await self._ends(message)
        await self._send(message)

    async def _ends(self, message: Message) -> None:
        self._whole = not message.get("more_body", False)
        if self._whole and not self.settled:
            self.settled = True
            await asyncio.shield(self._settle())
        if self._last is not None:
            last, self._last = self._last, None
            await self._send(last)

    @property
    def refused(self) -> bool:
        """Whether the request was at fault, so that nothing was begun for it."""
        return self._start is not None and 400 <= self._start["status"] < 500

    def answer(self, kept: Kept) -> Kept | None:
        """Return the answer to keep; None if it failed, was cut short, or is too long."""
        if self._start is None or not self._whole or not self._fits or self._start["status"] >= 300:
            return None
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._start["headers"]}
        if headers.get("content-type", "").startswith(EventStream.media_type) and not self._body.endswith(DONE):
            return None
        told = tuple((name, value) for name, value in (headers | dict(self._extra)).items() if name in _TOLD)
        return replace(kept, status=self._start["status"], headers=told, body=self._body.decode("latin-1"))


async def _replay(kept: Kept, send: Send) -> None:
    body = kept.body.encode("latin-1")
    headers = [*kept.headers, ("content-length", str(len(body))), ("idempotent-replayed", "true")]
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": kept.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, and then what else comes."""
    ahead: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return ahead.pop() if ahead else await receive()

    return read
