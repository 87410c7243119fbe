"""An MCP server of the official SDK, as a process: over its standard input and output, or over HTTP on a port.

`python tools_server.py` or `python tools_server.py PORT`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Literal

from mcp.server.mcpserver import Image, MCPServer
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

server = MCPServer("shop", log_level="CRITICAL")


class Order(BaseModel):
    """An order."""

    order_id: str
    total: float


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def find_order(customer: Annotated[str, Field(description="Who ordered")], limit: int = 5) -> Order:
    """Find the latest order of a customer."""
    return Order(order_id=f"o-{customer}", total=limit)


@server.tool()
def cancel_order(order_id: str, reason: Literal["late", "broken"] = "late") -> str:
    """Cancel an order."""
    return f"cancelled {order_id}: {reason}"


@server.tool(structured_output=False)
def raw_json() -> str:
    """Tell something in JSON."""
    return '{"a": [1, 2]}'


@server.tool()
def fail(order_id: str) -> str:
    """Fail."""
    raise ValueError(f"no order {order_id}")


@server.tool()
def pid() -> int:
    """Tell which process this is."""
    return os.getpid()


@server.tool()
def die() -> str:
    """End the process."""
    os._exit(3)


@server.tool()
async def sleep(seconds: float) -> str:
    """Sleep a while."""
    await asyncio.sleep(seconds)
    return "slept"


@server.tool(structured_output=False)
def picture() -> Image:
    """Draw."""
    return Image(data=b"\x89PNG", format="png")


@server.tool(structured_output=False)
def two_texts(nested: dict[str, list[int]]) -> CallToolResult:
    """Say two things."""
    return CallToolResult(content=[TextContent(type="text", text="one"), TextContent(type="text", text=str(nested))])


@server.tool()
def weather(city: str) -> str:
    """Tell the weather."""
    return f"Sun in {city}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
