"""The service as a server of the Model Context Protocol: its tools are its nodes, `auto` and `plan`.

Without sessions, so that any gateway can answer any request. Imported only where the package `mcp` is installed.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any, Final

from fastapi import Request
from mcp import MCPError
from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from deployments.api.mcp_tools import failed_result, node_tool, own_tools, tool_call, tool_result
from deployments.api.state import context_of, exchange_of, gateway_of
from deployments.orchestrator import AUTO, PLAN
from graph.collect import collect
from graph.errors import ModelyardError
from graph.spec import NodeSpec

PAGE: Final = 200
"""Tools of one page of the list."""
INSTRUCTIONS: Final = (
    "Each tool is an expert. Call `auto` if it is not clear which one fits, and `plan` for a request of several parts."
)


class McpSurface:
    """Answers MCP requests over HTTP. Its SDK wants to be entered and left by one task, which is made here."""

    def __init__(self, max_body_bytes: int) -> None:
        server: Server[Any] = Server(
            "modelyard",
            version=version("modelyard"),
            instructions=INSTRUCTIONS,
            on_list_tools=_list_tools,
            on_call_tool=_call_tool,
        )
        self.manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=max_body_bytes
        )
        self._stop = asyncio.Event()
        self._running = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="mcp server")

    async def _run(self) -> None:
        async with self.manager.run():
            self._running.set()
            await self._stop.wait()

    async def started(self) -> None:
        """Wait until requests can be answered."""
        await self._running.wait()

    async def aclose(self) -> None:
        """Cancel what is being answered."""
        self._stop.set()
        await asyncio.gather(self._task, return_exceptions=True)


async def _list_tools(context: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
    nodes = sorted(_nodes(context.request), key=lambda spec: spec.name)
    after = params.cursor if params is not None and params.cursor else ""
    page = [spec for spec in nodes if spec.name > after][: PAGE + 1]
    tools = [node_tool(spec) for spec in page[:PAGE]]
    return ListToolsResult(
        tools=tools if after else own_tools() + tools, next_cursor=page[PAGE - 1].name if len(page) > PAGE else None
    )


async def _call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
    request: Request = context.request
    spec = next((spec for spec in _nodes(request) if spec.name == params.name), None)
    if spec is None and params.name not in (AUTO, PLAN):
        raise MCPError(INVALID_PARAMS, f"no tool is called {params.name!r}")
    exchange = exchange_of(request)
    try:
        call = tool_call(spec, params.arguments or {}, context_of(request))
        answer = await gateway_of(request).orchestrator.answer(call, params.name, exchange.span)
        reply = await collect(answer.deltas, node=params.name)
    except ModelyardError as error:
        return failed_result(error)
    return tool_result(reply, reply.node)


def _nodes(request: Request) -> list[NodeSpec]:
    """Return the nodes that are tools: those that answer in words, or to typed arguments, and are ready."""
    gateway, seen = gateway_of(request), exchange_of(request).principal.nodes
    ready = (spec for spec in gateway.routable() if spec.name not in gateway.snapshot.unavailable)
    return [spec for spec in ready if seen is None or spec.name in seen]
