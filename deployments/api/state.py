"""How a handler reaches its gateway and its exchange."""

from __future__ import annotations

from typing import cast

from fastapi import Request

from deployments.gateway import Gateway
from deployments.middleware import Exchange
from graph import telemetry as otel
from graph.types import Call


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that serves this request."""
    return cast(Gateway, request.app.state.gateway)


def exchange_of(request: Request) -> Exchange:
    """Return the exchange that the middleware began."""
    return cast(Exchange, request.scope["state"]["exchange"])


def identified(call: Call, request: Request) -> Call:
    """Return the call with the request's id and trace in its context."""
    exchange = exchange_of(request)
    return call.with_context(request_id=exchange.request_id, trace=otel.carrier(exchange.span))
