"""The ASGI application of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from deployments import http_errors
from deployments.access.rules import ADMIN, ROUTES
from deployments.api import chat, keys, mcp, nodes, openai, router, runs, service
from deployments.api.chat_request import ChatRequest
from deployments.api.direct import DirectRoutes
from deployments.api.idempotent import IdempotentAnswers
from deployments.gateway import Gateway
from deployments.middleware import RequestMiddleware
from graph.spec import NodeSpec

KNOWN_S = 120.0
"""How long a new replica is given no requests since it does not know its nodes: the others answer meanwhile."""


async def _known(gateway: Gateway) -> None:
    """Wait until the gateway knows its nodes, or come into service without them: the controller may be away."""
    with suppress(TimeoutError):
        async with asyncio.timeout(KNOWN_S):
            while not gateway.ready:  # noqa: ASYNC110  # readiness has no event
                await asyncio.sleep(0.05)


def create_app(gateway: Gateway, *, standalone: bool = True) -> FastAPI:
    """Build the application around a gateway, which starts and stops with it.

    `standalone` is off under Serve, which puts the request's id into the answer, cancels the work of a client that
    left by itself, and gives a replica no requests before it has started.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        if not standalone:
            await _known(gateway)
        try:
            yield
        finally:
            await app.mcp.aclose()
            await gateway.stop()

    app = _GatewayApp(
        gateway,
        standalone,
        title="Modelyard",
        version=version("modelyard"),
        lifespan=lifespan,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # the middleware's span is the request's
    )
    http_errors.install(app)
    documents = app.router.routes[:]
    for module in (chat, openai, runs, nodes, router, keys, service, mcp):
        app.include_router(module.routes)
    # Serve looks for a request's route once more, in this order: what is asked most comes first.
    app.router.routes = app.router.routes[len(documents) :] + documents
    return app


class _GatewayApp(FastAPI):
    """FastAPI inside the request middleware, with a short way past it for what is asked most."""

    def __init__(self, gateway: Gateway, standalone: bool, **options: Any) -> None:
        super().__init__(**options)
        self.gateway = gateway
        self.mcp = mcp.McpEntry()
        self._standalone = standalone

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the bodies that handlers read by themselves."""
        if self.openapi_schema is None:
            self.openapi_schema = _document(self)
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        inner = DirectRoutes(super().build_middleware_stack(), {"/v1/chat/completions": chat.chat_completions})
        gateway, standalone = self.gateway, self._standalone
        return RequestMiddleware(
            IdempotentAnswers(inner, gateway.store),
            gateway.settings,
            gateway.security,
            gateway.intake,
            standalone=standalone,
            start_span=gateway.request_span,
            on_answered=gateway.metrics.answered,
        )


def _document(app: _GatewayApp) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (ChatRequest, NodeSpec):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
    _declare_scopes(document, asked=not app.gateway.security.access.is_open)
    return document


def _declare_scopes(document: dict[str, Any], *, asked: bool) -> None:
    """Write into the document which scopes each operation needs."""
    if asked:
        bearer = {"type": "http", "scheme": "bearer", "description": "An API key, or a token of the OIDC issuer."}
        document["components"]["securitySchemes"] = {"key": bearer}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            rule = ROUTES.get((method.upper(), path), ADMIN)
            operation["x-modelyard-scopes"] = ["none"] if rule.is_open else sorted(rule.scopes)
            if asked:
                operation["security"] = [] if rule.is_open else [{"key": []}]
