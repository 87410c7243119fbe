"""How a handler reaches its gateway and its exchange."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import cast

from fastapi import Request
from starlette.requests import HTTPConnection

from deployments.gateway import Gateway
from deployments.middleware import Exchange
from graph import telemetry as otel
from graph.errors import InvalidRequest
from graph.model_graph import ModelGraph
from graph.types import Call, CallContext

TIMEOUT = "x-modelyard-timeout"
"""Header with the seconds that the client waits; every node and sub-task gets what is left of them."""


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that serves this request."""
    return cast(Gateway, request.scope["app"].gateway)


def exchange_of(request: HTTPConnection) -> Exchange:
    """Return the exchange that the middleware began."""
    return cast(Exchange, request.scope["state"]["exchange"])


def graph_of(request: Request) -> ModelGraph:
    """Return the graph as it is for whoever asks: nodes that one may not use do not exist."""
    return gateway_of(request).snapshot.graph.seen_by(exchange_of(request).principal.nodes)


def author_of(request: Request) -> str:
    """Return who changes something, for the audit record: the key's id, and where the request came from."""
    who = exchange_of(request).principal.id
    return who if request.client is None else f"{who}@{request.client.host}"


def identified(call: Call, request: Request) -> Call:
    """Return the call with the request's id, trace and deadline in its context.

    Raises `InvalidRequest` if `x-modelyard-timeout` is not a number of seconds.
    """
    return replace(call, context=context_of(request))


def context_of(request: Request) -> CallContext:
    """Return who asks, the request's id, deadline, trace and most attempts. Raises as `identified` does."""
    exchange = exchange_of(request)
    most = gateway_of(request).settings.max_attempts
    caller = exchange.principal.caller
    return CallContext(exchange.request_id, deadline_of(request), otel.carrier(exchange.span), most, caller=caller)


def deadline_of(request: HTTPConnection) -> float | None:
    """Return when the client stops waiting, from the seconds that it gave: they run since the request began to come.

    Raises `InvalidRequest` if they are no number.
    """
    given = request.headers.get(TIMEOUT)
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InvalidRequest(f"{given!r} is not a number of seconds", param=TIMEOUT)
    return time.time() + seconds - (time.perf_counter() - exchange_of(request).began)
