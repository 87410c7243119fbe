"""The short way of the busiest requests: from the server to their handler, past the web framework's own stack."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http_errors import error_response
from graph.errors import ModelyardError


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """One POST route that is served without the framework's layers."""

    path: str
    """Also its template: it has no parameters, and spans are named by it."""
    handler: Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """ASGI: answers the routes it is given by itself, leaves every other request to the application.

    Middleware, dependency solving and response models of FastAPI take longer than the rest of the gateway together,
    and a handler that reads its own body uses none of them. The application keeps the same routes, for its OpenAPI
    document and for every request that does not match here to the letter.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> None:
        self._app = app
        self._routes = {path: DirectRoute(path, handler) for path, handler in routes.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        route = None
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            route = self._routes.get(scope["path"])
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.handler(Request(scope, receive, send))
        except ModelyardError as error:
            response = error_response(error)
        await response(scope, receive, send)
