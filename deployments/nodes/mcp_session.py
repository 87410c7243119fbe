"""One session with an MCP server, shared by the nodes that are its tools, and opened again when it ends.

The SDK's client must be entered and left by one task, so a task of its own holds it. Imported only where the package
`mcp` is known to be installed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, CallToolResult, Tool

from deployments.nodes.mcp_http import EXCHANGE, Exchange, McpTransport
from deployments.upstream import AiohttpTransport
from graph.errors import InvalidRequest, ModelyardError, NodeFailed, NodeRejected, NodeUnavailable, NodeUnreachable

log = logging.getLogger("modelyard.mcp")

OPEN_S: Final = 30.0
"""How long a server may take to start and to greet."""
CLOSE_S: Final = 10.0
"""How long a server may take to say goodbye."""
MAX_PAGES: Final = 200
"""Pages of tools that are read."""
Streams = AbstractAsyncContextManager[tuple[Any, Any]]


class McpSession:
    """A session that is opened when it is first needed and again after it ended."""

    def __init__(self, connect: Callable[[], Streams]) -> None:
        self._connect = connect
        self._held: _Held | None = None

    async def call(self, tool: str, arguments: Mapping[str, Any], exchange: Exchange) -> CallToolResult:
        """Call a tool. A session that the server has forgotten is opened again, once.

        Raises `NodeFailed` or `InvalidRequest`, never an error of the SDK.
        """
        found: CallToolResult = await self._within(exchange, lambda client: client.call_tool(tool, dict(arguments)))
        return found

    async def tools(self, exchange: Exchange) -> list[Tool]:
        """Return every tool of the server."""
        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._within(exchange, partial(Client.list_tools, cursor=cursor))
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    async def open(self, exchange: Exchange) -> Client:
        """Return the client of the open session; open one if there is none."""
        if self._held is None or self._held.ended:
            self._held = _Held(self._connect, exchange)
        # Shielded: others wait for the same client, and one that leaves must not take it from them.
        return await asyncio.shield(self._held.client)

    async def _within(self, exchange: Exchange, act: Callable[[Client], Any]) -> Any:
        token = EXCHANGE.set(exchange)
        try:
            for again in (True, False):
                client = await self.open(exchange)
                try:
                    return await act(client)
                except (MCPError, anyio.ClosedResourceError, anyio.BrokenResourceError, RuntimeError) as error:
                    if _forgotten(error, exchange) and again:
                        await self._drop()  # the server never saw the call in a session of its own
                        continue
                    if getattr(error, "code", CONNECTION_CLOSED) == CONNECTION_CLOSED:
                        await self._drop()
                    raise translated(error, exchange) from error
            raise AssertionError("unreachable")
        finally:
            EXCHANGE.reset(token)

    async def _drop(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.stop.set()

    async def aclose(self) -> None:
        """End the session; a server that was started for it ends, too."""
        held, self._held = self._held, None
        if held is not None:
            held.stop.set()
            await asyncio.wait({held.task}, timeout=CLOSE_S)
            held.task.cancel()  # a server that does not answer the farewell is left alone
            await asyncio.gather(held.task, return_exceptions=True)


class _Held:
    """A client inside the task that entered it."""

    def __init__(self, connect: Callable[[], Streams], asked: Exchange) -> None:
        """`asked` is of the call that needs the session; errors name its node."""
        self.stop = asyncio.Event()
        self.client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        exchange = Exchange(asked.node, hidden=asked.hidden)
        self.task = asyncio.create_task(self._hold(connect, exchange), name=f"mcp {asked.node}")
        self.ended = False

    async def _hold(self, connect: Callable[[], Streams], exchange: Exchange) -> None:
        EXCHANGE.set(exchange)  # of this task alone
        try:
            async with _watched(connect(), self._finish) as streams, asyncio.timeout(OPEN_S) as greeting:
                async with Client(_Opened(streams), cache=None) as client:
                    greeting.reschedule(None)
                    self.client.set_result(client)
                    await self.stop.wait()
        except BaseException as error:  # a boundary: whatever ends the SDK's task group becomes an error of ours
            if not self.client.done():
                self.client.set_exception(exchange.error or _opening_error(error, exchange.node))
                self.client.exception()  # looked at: whoever asked for it may have left
            if isinstance(error, asyncio.CancelledError):
                raise
            log.info("the session with the MCP server of %s ended: %s", exchange.node, error)
        finally:
            self._finish()

    def _finish(self) -> None:
        self.ended = True


class _Opened:
    """Streams that are open already, as the context manager that the SDK's client enters."""

    def __init__(self, streams: tuple[Any, Any]) -> None:
        self._streams = streams

    async def __aenter__(self) -> tuple[Any, Any]:
        return self._streams

    async def __aexit__(self, *_: object) -> None:
        """Leave the closing to who opened them."""


class _Watched:
    """A stream of messages that tells when it is over: the server has gone."""

    def __init__(self, inner: Any, over: Callable[[], None]) -> None:
        self._inner = inner
        self._over = over

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._inner.__anext__()
        except (StopAsyncIteration, anyio.ClosedResourceError):
            self._over()
            raise

    async def __aenter__(self) -> _Watched:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._inner.__aexit__(*error)


@asynccontextmanager
async def _watched(streams: Streams, over: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
    async with streams as (read, write):
        yield _Watched(read, over), write


def by_command(command: tuple[str, ...]) -> Callable[[], Streams]:
    """Return how to start a server of the operator's and speak with it over its standard input and output."""
    # The SDK's default is what standard error was when it was imported, which may be closed by now.
    parameters = StdioServerParameters(command=command[0], args=list(command[1:]))
    return lambda: stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr)


def by_address(url: str, make: Callable[[], AiohttpTransport], name: str) -> Callable[[], Streams]:
    """Return how to reach a server by streamable HTTP; `make` opens the guarded transport."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[tuple[Any, Any]]:
        transport = McpTransport(make(), name)
        timeout = httpx2.Timeout(None)  # the call's own limits count
        # Not compressed: the length of an answer is then what is counted.
        headers = {"accept-encoding": "identity"}
        async with (
            httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False, headers=headers) as client,
            streamable_http_client(url, http_client=client) as streams,
        ):
            yield streams

    return connect


def translated(error: Exception, exchange: Exchange) -> ModelyardError:
    """Return an error of the SDK or of the server in our terms."""
    node, code, words = exchange.node, getattr(error, "code", CONNECTION_CLOSED), str(error)[:300]
    if exchange.error is not None:
        return exchange.error
    if code == INVALID_PARAMS:
        return InvalidRequest(f"node {node!r}: the server refused the arguments: {words}", node=node)
    if code == CONNECTION_CLOSED:
        return NodeUnreachable(f"node {node!r}: the MCP server ended the connection", node=node)
    if code in (METHOD_NOT_FOUND, INVALID_REQUEST):
        return NodeRejected(f"node {node!r}: the server refused the call: {words}", node=node)
    return NodeUnavailable(f"node {node!r}: the server failed: {words}", node=node)


def _forgotten(error: Exception, exchange: Exchange) -> bool:
    """Whether the server knows nothing of the session any more: it answers 404, and has not looked at the call."""
    return getattr(error, "code", None) == INVALID_REQUEST and getattr(exchange.error, "status", None) == 404


def _opening_error(error: BaseException, name: str) -> ModelyardError:
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, ModelyardError):
        return inner
    if isinstance(inner, FileNotFoundError | PermissionError):
        return NodeUnreachable(f"the MCP server of {name!r} cannot be started: {inner}", node=name)
    if isinstance(inner, TimeoutError):
        return NodeUnreachable(f"the MCP server of {name!r} did not greet within {OPEN_S:g} s", node=name)
    if isinstance(inner, MCPError):
        return NodeUnreachable(f"the MCP server of {name!r} refused the session: {str(inner)[:300]}", node=name)
    return NodeFailed(f"the session with the MCP server of {name!r} failed: {type(inner).__name__}", node=name)
