"""The ASGI application of a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from deployments import http_errors
from deployments.api import chat, nodes, openai, runs, service
from deployments.api.chat_request import ChatRequest
from deployments.gateway import Gateway
from deployments.middleware import RequestMiddleware
from graph.spec import NodeSpec


def create_app(gateway: Gateway, *, echo_request_id: bool = True) -> FastAPI:
    """Build the application around a gateway, which starts and stops with it.

    `echo_request_id` is off under Serve, which puts the request's id into the answer itself.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.stop()

    app = FastAPI(title="Modelyard", version="0.1.0", lifespan=lifespan, redoc_url=None)
    app.state.gateway = gateway
    http_errors.install(app)
    app.add_middleware(RequestMiddleware, settings=gateway.settings, echo_request_id=echo_request_id)
    for module in (chat, openai, runs, nodes, service):
        app.include_router(module.routes)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the bodies that handlers read by themselves."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (ChatRequest, NodeSpec):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
        app.openapi_schema = document
    return app.openapi_schema
