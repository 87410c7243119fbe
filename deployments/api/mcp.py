"""`/mcp`: the service for clients of the Model Context Protocol."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deployments.api.state import gateway_of
from graph.errors import InvalidRequest

if TYPE_CHECKING:
    from deployments.api.mcp_server import McpSurface

PATH: Final = "/mcp"
routes = APIRouter(tags=["Modelyard"])


class McpEntry:
    """Opens the surface for the first request: its SDK takes a moment to import, and may not be installed."""

    def __init__(self) -> None:
        self._surface: McpSurface | None = None

    async def surface(self, max_body_bytes: int) -> McpSurface:
        """Return the surface. Raises `InvalidRequest` where the package is missing."""
        if self._surface is None:
            if find_spec("mcp") is None:
                raise InvalidRequest("this service lacks the package of MCP: pip install 'modelyard[mcp]'")
            from deployments.api.mcp_server import McpSurface

            self._surface = McpSurface(max_body_bytes)
        await self._surface.started()
        return self._surface

    async def aclose(self) -> None:
        """Close the surface, if it was opened."""
        surface, self._surface = self._surface, None
        if surface is not None:
            await surface.aclose()


@routes.api_route(PATH, methods=["GET", "POST", "DELETE"], include_in_schema=False)
async def mcp(request: Request) -> Response:
    """Answer a client of the Model Context Protocol, over streamable HTTP."""
    entry: McpEntry = request.app.mcp
    surface = await entry.surface(gateway_of(request).settings.max_body_bytes)
    return _Delegated(surface)


class _Delegated(Response):
    """An answer that the SDK writes."""

    def __init__(self, surface: McpSurface) -> None:
        super().__init__()
        self._surface = surface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._surface.manager.handle_request(scope, receive, send)
