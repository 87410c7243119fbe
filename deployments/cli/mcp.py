"""`mcp`: a running service as an MCP server over standard input and output, for clients on a desktop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from deployments.cli.console import write_error
from deployments.cli.options import DEFAULT_URL, FAILED, UNREACHABLE, Key, Url

if TYPE_CHECKING:
    from deployments.nodes.mcp_session import McpSession


def mcp(url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Speak the Model Context Protocol on standard input and output; the tools are those of a running service.

    For clients that start their servers: let them run `modelyard mcp --url ADDRESS`, with MODELYARD_API_KEY set.
    """
    import asyncio
    from importlib.util import find_spec

    from graph.errors import ModelyardError

    if find_spec("mcp") is None:
        write_error("modelyard mcp needs a package: pip install 'modelyard[mcp]'")
        raise typer.Exit(FAILED)
    try:
        asyncio.run(_serve(url, key))
    except ModelyardError as error:
        write_error(error.message, code=error.code)
        raise typer.Exit(UNREACHABLE if error.code == "node_unreachable" else FAILED) from error


async def _serve(url: str, key: str | None) -> None:
    from mcp.server.stdio import stdio_server

    from deployments.nodes.mcp_http import Exchange
    from deployments.nodes.mcp_session import McpSession, by_address

    session = McpSession(by_address(f"{url.rstrip('/')}/mcp", lambda: _transport(key), "service"))
    try:
        await session.open(Exchange("service"))
        server = _server(session)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
    finally:
        await session.aclose()


def _transport(key: str | None) -> Any:
    from deployments.guard import AddressGuard
    from deployments.upstream import AiohttpTransport

    headers = {"authorization": f"Bearer {key.strip()}"} if key else {}
    return AiohttpTransport(AddressGuard(allow_private=True), connect_s=5, headers=headers)


def _server(session: McpSession) -> Any:
    """Return a server that passes everything on; what goes wrong on the way is told as the tool's own error."""
    from importlib.metadata import version

    from mcp import MCPError
    from mcp.server import Server
    from mcp_types import INTERNAL_ERROR, CallToolRequestParams, CallToolResult, ListToolsResult, TextContent

    from deployments.nodes.mcp_http import Exchange
    from graph.errors import ModelyardError

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        try:
            return ListToolsResult(tools=await session.tools(Exchange("service")))
        except ModelyardError as error:
            raise MCPError(INTERNAL_ERROR, error.message) from error

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        try:
            return await session.call(params.name, params.arguments or {}, Exchange(params.name))
        except ModelyardError as error:
            return CallToolResult(content=[TextContent(type="text", text=error.message)], is_error=True)

    return Server("modelyard", version=version("modelyard"), on_list_tools=list_tools, on_call_tool=call_tool)
