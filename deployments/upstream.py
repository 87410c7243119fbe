"""The pooled HTTP client of a remote node: httpx's types over aiohttp's connections.

httpx's own pool slows down with concurrency, and its client spends more on a request than the network does. So requests
and answers are httpx's, built from parts prepared once, and go straight to a transport over one aiohttp session. No
redirect is followed, no proxy is taken from the environment, no cookie is kept, and every address passes the guard.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import aiohttp
import httpx
from yarl import URL

from deployments.guard import AddressGuard, GuardedResolver
from deployments.upstream_errors import FOREIGN, exception_error, status_error
from graph.errors import ModelyardError, NodeRejected, StreamBroken
from graph.types import CallContext

MAX_BODY_BYTES: Final = 32 * 2**20
"""Largest answer that is read whole."""
MAX_ERROR_BYTES: Final = 64 * 2**10
_LARGE_REQUEST: Final = 2**20
_INFLATED: Final = 2**16
_DNS_TTL_S: Final = 10
_KEEPALIVE_S: Final = 15.0


class AiohttpTransport(httpx.AsyncBaseTransport):
    """An httpx transport over one aiohttp session. Must be made inside a running event loop.

    `headers` go with every request, prepared once. Exceptions of aiohttp come out as they are; `upstream_errors` knows
    them.
    """

    def __init__(
        self, guard: AddressGuard, *, connect_s: float, tls: bool = True, headers: Mapping[str, str] | None = None
    ) -> None:
        connector = aiohttp.TCPConnector(
            limit=0,  # how many calls a node works on at a time is decided before they get here
            keepalive_timeout=_KEEPALIVE_S,
            ttl_dns_cache=_DNS_TTL_S,
            resolver=GuardedResolver(guard),
            socket_factory=guard.socket,
            ssl=httpx.create_ssl_context() if tls else True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"accept": "*/*", "accept-encoding": "gzip", "user-agent": "modelyard", **(headers or {})},
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return as soon as the headers of the answer are there."""
        stream = request.stream
        content = b"".join(stream) if isinstance(stream, httpx.SyncByteStream) else await request.aread()
        response = await self._session.request(
            request.method,
            URL(str(request.url), encoded=True),
            headers=[(name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw],
            # aiohttp sends large bytes in one write; from a file object it sends them in pieces.
            data=(io.BytesIO(content) if len(content) > _LARGE_REQUEST else content) or None,
            allow_redirects=False,
        )
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


class _Body(httpx.AsyncByteStream):
    """The body of an answer: pieces as they come from the socket, not re-cut."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._response.content.readany()
        except RuntimeError as error:  # aiohttp's word for a connection that this side closed meanwhile
            raise httpx.ReadError(str(error)) from error
        if not piece:
            self._ended = True
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        # A connection whose answer was read to the end is back in the pool already; any other is cut at once.
        if not self._ended:
            self._response.close()


class Answer:
    """An answer of an upstream with a 2xx status, whose body is still to be read."""

    def __init__(self, response: httpx.Response, node: str) -> None:
        self._response = response
        self._node = node
        self._body: httpx.AsyncByteStream = response.stream  # type: ignore[assignment]  # the transport is async
        raw = self._body.__aiter__()
        # Looked for by hand: httpx takes longer to look up a header than to make the request.
        encoding = next((v for name, v in response.headers.raw if name.lower() == b"content-encoding"), b"identity")
        plain = encoding in (b"identity", b"")
        self._pieces = raw if plain else _inflated(raw, encoding.decode("latin-1").strip().lower())

    @property
    def media_type(self) -> str:
        """The media type in lower case, without its parameters."""
        return str(self._response.headers.get("content-type", "")).partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The encoding of a text body."""
        return self._response.charset_encoding or "utf-8"

    async def piece(self) -> bytes:
        """Return the next piece of the body, decompressed; nothing at its end.

        Raises `StreamBroken` if the body was cut or garbled.
        """
        try:
            return await anext(self._pieces, b"")
        except FOREIGN as error:
            raise exception_error(error, self._node, began=True) from error

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """Read the whole body and close. Raises `NodeRejected` if it is larger than `limit` bytes, decompressed."""
        try:
            pieces, size = [], 0
            while piece := await self.piece():
                size += len(piece)
                if size > limit:
                    raise NodeRejected(
                        f"node {self._node!r}: the upstream's answer is larger than {limit} bytes", node=self._node
                    )
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the answer; cuts the connection unless the body was read to its end."""
        await self._body.aclose()


async def _inflated(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Decompress a body in small steps, so that a bomb is noticed before it has grown."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"content-encoding {encoding!r} was not asked for")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, as its header says
    try:
        async for piece in pieces:
            while piece and not inflater.eof:
                inflated = inflater.decompress(piece, _INFLATED)
                piece = inflater.unconsumed_tail
                if inflated:
                    yield inflated
        if rest := inflater.flush():
            yield rest
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
    if not inflater.eof:
        raise httpx.DecodingError("the compressed body ends too soon")


class Upstream:
    """The client of one node: its connections, and its errors in our terms."""

    def __init__(
        self,
        node: str,
        transport: httpx.AsyncBaseTransport,
        hidden: Sequence[str] = (),
    ) -> None:
        self._node = node
        self._transport = transport
        self.hidden = tuple(hidden)
        """Secrets that no error may repeat."""

    async def send(
        self,
        method: str,
        url: httpx.URL,
        content: bytes = b"",
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        context: CallContext | None = None,
    ) -> Answer:
        """Send one request and return its answer, if the status is 2xx.

        Raises what `upstream_errors` makes of any other status and of a failed connection.
        """
        sent = [(b"content-type", content_type.encode())] if content else []
        sent += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        if context is not None:
            sent += context_headers(context)
        request = httpx.Request(method, url, headers=sent, stream=httpx.ByteStream(content))
        try:
            response = await self._transport.handle_async_request(request)
        except FOREIGN as error:
            raise exception_error(error, self._node) from error
        except ModelyardError as error:
            error.node = error.node or self._node  # the guard knows addresses, not nodes
            raise
        if not 200 <= response.status_code < 300:
            raise await self._refusal(response)
        return Answer(response, self._node)

    async def _refusal(self, response: httpx.Response) -> ModelyardError:
        answer, body = Answer(response, self._node), b""
        try:
            while len(body) < MAX_ERROR_BYTES and (piece := await answer.piece()):
                body += piece
        except StreamBroken:
            pass  # the status alone tells enough
        finally:
            await answer.aclose()
        return status_error(response.status_code, response.headers, body, self._node, self.hidden)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


def context_headers(context: CallContext) -> list[tuple[bytes, bytes]]:
    """Return the caller's trace context and request id, as headers."""
    named = {**context.trace, "x-request-id": context.request_id} if context.request_id else context.trace
    return [(name.encode(), value.encode()) for name, value in named.items() if value.isascii() and value.isprintable()]
