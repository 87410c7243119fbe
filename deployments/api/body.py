"""How JSON bodies are read, wherever they come in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from graph.errors import InvalidRequest


async def json_body(request: Request) -> Any:
    """Read the body as JSON; raise `InvalidRequest` that says where it is broken."""
    body = await request.body()
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if encoding := request.headers.get("content-encoding"):
            message = f"compressed bodies ({encoding[:40]!r}) are not taken: send it as it is"
            raise InvalidRequest(message, param="content-encoding") from None
        raise InvalidRequest(f"the body is not JSON: {error}") from None


class _Request(Request):
    async def json(self) -> Any:
        # The standard library's reader lets halves of surrogate pairs through, which no encoder can take.
        return await json_body(self)


class JSONRoute(APIRoute):
    """A route whose declared body is read as `json_body` reads it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with requests that read JSON strictly."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return strict
