"""The router over HTTP: `/v1/router`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from deployments.api.state import gateway_of
from deployments.json_response import JSONResponse
from graph.errors import Overloaded

routes = APIRouter(tags=["Modelyard"])


@routes.get("/v1/router")
async def show_router(request: Request) -> Response:
    """Return the newest version's card; `serving` says whether this gateway decides by it already."""
    gateway = gateway_of(request)
    card = await gateway.router_versions.current()
    if card is None:
        raise Overloaded("the router has not been fitted yet", retry_after=2)
    return JSONResponse(card.to_json() | {"serving": card.data_sha256 == gateway.router_hash()})


@routes.get("/v1/router/versions")
async def list_versions(request: Request) -> Response:
    """List the cards of the router's versions, newest first."""
    cards = await gateway_of(request).router_versions.history()
    return JSONResponse({"data": [card.to_json() for card in cards]})
