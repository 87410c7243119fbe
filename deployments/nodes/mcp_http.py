"""The HTTP connection of an MCP session: the SDK's client over this service's guarded transport.

A failed request must not end the session that others use, so a failure is answered as a status, and what it was is left
in the exchange of the call. Imported only where the package `mcp` is known to be installed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

import httpx
import httpx2

from deployments.upstream import MAX_BODY_BYTES, AiohttpTransport
from deployments.upstream_errors import FOREIGN, exception_error, status_error
from graph.errors import ModelyardError, NodeRejected

MAX_ERROR_BYTES: Final = 64 * 2**10
_EVENTS: Final = "text/event-stream"


@dataclass
class Exchange:
    """What one call sends along, and what went wrong with its request."""

    node: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    hidden: tuple[str, ...] = field(default=(), repr=False)
    error: ModelyardError | None = None


EXCHANGE: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The exchange of the call that a request is sent for; the SDK sends it in the caller's context."""


class McpTransport(httpx2.AsyncBaseTransport):
    """Sends the SDK's requests through a guarded transport."""

    def __init__(self, inner: AiohttpTransport, node: str) -> None:
        self._inner = inner
        self._node = node

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request. A failure to connect is answered 503, what the guard refuses 403."""
        exchange = EXCHANGE.get() or Exchange(self._node)
        headers = [*request.headers.raw, *exchange.headers]
        sent = httpx.Request(
            request.method, str(request.url), headers=headers, stream=httpx.ByteStream(await request.aread())
        )
        try:
            answer = await self._inner.handle_async_request(sent)
        except FOREIGN as error:
            exchange.error = exception_error(error, exchange.node)
            return httpx2.Response(503, request=request)
        except ModelyardError as error:
            error.node = error.node or exchange.node
            exchange.error = error
            return httpx2.Response(403, request=request)
        body = _Body(answer, exchange.node)
        if answer.status_code >= 300:
            content = await body.beginning()
            exchange.error = status_error(answer.status_code, answer.headers, content, exchange.node, exchange.hidden)
            kept = [(name, value) for name, value in answer.headers.raw if name.lower() == b"content-type"]
            return httpx2.Response(answer.status_code, headers=kept, content=content, request=request)
        exchange.error = None
        return httpx2.Response(answer.status_code, headers=answer.headers.raw, stream=body, request=request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _Body(httpx2.AsyncByteStream):
    """The body of an answer; one that is no stream of events is bounded."""

    def __init__(self, answer: httpx.Response, node: str) -> None:
        assert isinstance(answer.stream, httpx.AsyncByteStream)  # noqa: S101  # the transport's own
        self._stream = answer.stream
        self._node = node
        self._limit = None if answer.headers.get("content-type", "").startswith(_EVENTS) else MAX_BODY_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._stream:
                size += len(piece)
                if self._limit is not None and size > self._limit:
                    words = f"node {self._node!r}: the server's answer is larger than {self._limit} bytes"
                    if exchange := EXCHANGE.get():
                        exchange.error = NodeRejected(words, node=self._node)
                    raise httpx2.StreamError(words)
                yield piece
        except FOREIGN as error:
            if exchange := EXCHANGE.get():
                exchange.error = exception_error(error, self._node, began=True)
            raise httpx2.StreamError("the server cut its answer") from error

    async def beginning(self) -> bytes:
        """Read the first of an error's body, and close it."""
        body = b""
        try:
            async for piece in self:
                body += piece
                if len(body) > MAX_ERROR_BYTES:
                    break
        except httpx2.StreamError:
            pass  # the status alone tells enough
        finally:
            await self.aclose()
        return body

    async def aclose(self) -> None:
        await self._stream.aclose()
