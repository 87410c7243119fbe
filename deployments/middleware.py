"""What every HTTP request passes: identity, limits on its size, its span, and the headers of its answer."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping

from opentelemetry.trace import INVALID_SPAN, Span
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.access.origins import check_origin
from deployments.access.principal import NOBODY
from deployments.access.rules import Rules
from deployments.access.security import Security
from deployments.addresses import is_loopback
from deployments.http_errors import bug_response, error_response
from deployments.intake import Intake
from deployments.logs import speak_of
from deployments.request_body import RequestBody
from deployments.settings import Settings
from graph import telemetry as otel
from graph.errors import ModelyardError, PayloadTooLarge

log = logging.getLogger("modelyard.gateway")

UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
ANSWERING = frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/audio/transcriptions"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Exchange:
    """One request and its answer, as the handlers see it in `request.state.exchange`."""

    __slots__ = ("began", "headers", "principal", "request_id", "run", "span", "standalone", "timings", "trace_id")

    def __init__(self, request_id: str, span: Span, standalone: bool) -> None:
        self.request_id = request_id
        self.standalone = standalone
        """Whether a client that leaves is noticed here, not by the server around us."""
        self.span = span
        self.trace_id = otel.trace_id(span)
        """In hex; empty for what is not traced."""
        self.principal = NOBODY
        """Who asks, as far as that was found out: on open paths nobody need say."""
        self.run: str | None = None
        """Id that a run started by this request gets, so that asking again finds it."""
        self.began = time.perf_counter()
        self.headers: dict[str, str] = {}
        """Extra headers of the answer."""
        self.timings: dict[str, float] = {}
        """Milliseconds by stage, for Server-Timing."""

    def server_timing(self) -> str:
        """Return the Server-Timing header's value as far as the stages are known."""
        total = (time.perf_counter() - self.began) * 1000
        return ", ".join(f"{name};dur={ms:.2f}" for name, ms in [*self.timings.items(), ("total", total)])


class RequestIds:
    """Makes ids that nobody can guess; the system is asked for many at once, since asking takes time."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def new(self) -> str:
        """Return 32 hex digits."""
        if not self._left:
            drawn = os.urandom(16 * 256).hex()
            self._left = [drawn[at : at + 32] for at in range(0, len(drawn), 32)]
        return self._left.pop()


class RequestMiddleware:
    """A plain ASGI middleware: no task and no queue between the server and the handlers."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        security: Security,
        intake: Intake,
        *,
        standalone: bool,
        start_span: Callable[[str, str, Mapping[str, str]], Span] = otel.request_span,
        on_answered: Callable[[float, float, str], None] = lambda auth, total, trace_id: None,
    ) -> None:
        """`start_span` starts a request's span, from its method, path and headers.

        `on_answered` is told the seconds that each request to models took: to find out who asks, and in all.
        Not `standalone`, the server around us names requests and cancels those whose client left.
        """
        self._app = app
        self._start_span = start_span
        self._ids = RequestIds()
        self._on_answered = on_answered
        self._standalone = standalone
        self._access, self._quotas = security.access, security.quotas
        self._rules = Rules()
        self._intake = intake
        self._max_body = settings.max_body_bytes
        self._on_loopback = is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else self._ids.new()
        path = scope["path"]
        span = INVALID_SPAN if path in UNTRACED else self._start_span(scope["method"], path, headers)
        exchange = Exchange(request_id, span, self._standalone)
        speak_of(request_id, exchange.trace_id)
        if self._standalone:
            exchange.headers["x-request-id"] = request_id
        scope.setdefault("state", {})["exchange"] = exchange
        body = RequestBody(receive, headers, self._max_body, tell_when_gone=self._standalone)
        finish = _Finish(exchange, send, body)
        self._intake.requests += 1
        try:
            try:
                await self._admit(scope["method"], path.removeprefix(scope.get("root_path", "")), headers, exchange)
            except ModelyardError as refusal:
                await body.drain()
                await error_response(refusal)(scope, receive, finish)
            else:
                await self._app(scope, body, finish)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:  # a boundary: a bug becomes an answer, and its details go to the log
            otel.fail(span, error)
            log.exception("request %s failed", request_id)
            if finish.status:
                raise
            await bug_response(error)(scope, receive, finish)
        except BaseException as error:  # raised again: the span must know of a cancelled request, too
            otel.fail(span, error)
            raise
        finally:
            self._intake.requests -= 1
            self._ended(exchange, scope, finish.status)
        await finish.close()

    def _ended(self, exchange: Exchange, scope: Scope, status: int) -> None:
        span = exchange.span
        if status:
            otel.set_http_status(span, status)
        _name_by_route(span, scope)
        span.end()
        seconds = time.perf_counter() - exchange.began
        if scope["path"] not in UNTRACED:
            log.info("%s %s %s %.1f ms", scope["method"], scope["path"], status or "unanswered", seconds * 1000)
        if scope["path"] in ANSWERING:
            trace_id = exchange.trace_id if otel.is_kept(span) else ""
            self._on_answered(exchange.timings.get("auth", 0.0) / 1000, seconds, trace_id)

    async def _admit(self, method: str, path: str, headers: Headers, exchange: Exchange) -> None:
        """Find out who asks, and raise unless that one may ask this, now."""
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_body:
            raise PayloadTooLarge(f"the body has {length} bytes; at most {self._max_body} are taken")
        if self._access.is_open:
            check_origin(headers.get("origin", ""), headers.get("host", ""), on_loopback=self._on_loopback)
        rule = self._rules.find(method, path)
        authorization = headers.get("authorization", "")
        try:
            exchange.principal = principal = await self._access.identify(authorization)
        except ModelyardError:
            if rule.is_open:
                return
            raise
        finally:
            exchange.timings["auth"] = (time.perf_counter() - exchange.began) * 1000
        if (refusal := rule.refusal(principal)) is not None:
            raise refusal
        exchange.span.set_attribute(otel.CALLER, principal.mark)
        if rule.counted and principal.is_limited:
            await self._quotas.admit(principal, exchange.headers)


def _name_by_route(span: Span, scope: Scope) -> None:
    """Name the span by the route's template, which is known only now: paths hold ids, and names must stay few."""
    if span.is_recording():
        template = getattr(scope.get("route"), "path", "")
        span.update_name(f"{scope['method']} {template}".strip())
        span.set_attribute(otel.HTTP_ROUTE, template)


class _Finish:
    """`send` that adds the headers of the exchange and remembers the status.

    Where the answer comes before the end of the request, its connection is not used again, and `close` ends it.
    """

    __slots__ = ("_body", "_closes", "_exchange", "_lingers", "_send", "status")

    def __init__(self, exchange: Exchange, send: Send, body: RequestBody) -> None:
        self._exchange = exchange
        self._send = send
        self._body = body
        self._closes = self._lingers = False
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            exchange = self._exchange
            added = exchange.headers | {"server-timing": exchange.server_timing()}
            if exchange.trace_id:
                added["x-trace-id"] = exchange.trace_id
            self._closes = not self._body.ended
            if self._closes:  # nobody waits for the rest: a slow client would hold its place meanwhile
                added["connection"] = "close"
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in added.items()]
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        elif self._closes and not message.get("more_body", False):
            self._lingers = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def close(self) -> None:
        """End a connection that the answer left open."""
        if self._lingers:
            await self._body.linger()
            await self._send({"type": "http.response.body"})
