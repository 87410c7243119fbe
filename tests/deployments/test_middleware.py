"""The middleware around a bare ASGI application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import deployments.request_body
from deployments.access.principal import OPERATOR
from deployments.access.security import make_security
from deployments.http_errors import error_response
from deployments.intake import Intake
from deployments.middleware import RequestMiddleware
from deployments.settings import Settings
from graph.errors import ModelyardError
from graph.stores.memory import MemoryStore
from graph.telemetry import CALLER


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


def middleware(app: ASGIApp, standalone: bool = True, **settings: Any) -> RequestMiddleware:
    made = Settings(**settings)
    return RequestMiddleware(app, made, make_security(made, MemoryStore()), Intake(), standalone=standalone)


def client(app: ASGIApp = echo, *, standalone: bool = True, **settings: Any) -> httpx.AsyncClient:
    wrapped = middleware(app, standalone, **settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(wrapped, raise_app_exceptions=False), base_url="http://x")


async def test_an_answer_carries_ids_and_timing() -> None:
    async with client() as http:
        answer = await http.post("/any", content=b"12345", headers={"x-request-id": "id-1"})
    assert (answer.text, answer.headers["x-request-id"]) == ("5 bytes", "id-1")
    assert answer.headers["server-timing"].startswith("auth;dur=")


@pytest.mark.parametrize("given", [b"id\n", b"a b", b"\x1b[2J", b"x" * 129, "\u202e".encode()])
async def test_an_id_that_is_none_is_not_given_back(given: bytes) -> None:
    async with client() as http:
        answer = await http.get("/any", headers={b"x-request-id": given})
    assert answer.headers["x-request-id"].isalnum() and len(answer.headers["x-request-id"]) == 32


async def test_under_serve_the_id_is_left_to_serve() -> None:
    async with client(standalone=False) as http:
        assert "x-request-id" not in (await http.get("/any")).headers


@pytest.mark.parametrize("length", ["²", "-1", "x", "1e9", ""])
async def test_a_length_that_is_no_number_is_the_servers_affair(length: str) -> None:
    async with client() as http:
        answer = await http.post("/any", content=b"x", headers={b"content-length": length.encode("latin-1")})
    assert answer.status_code == 200


async def test_a_bug_is_an_answer_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("hunter2")

    async with client(broken) as http:
        answer = await http.get("/any")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal_error")
    assert "hunter2" not in answer.text and "hunter2" in caplog.text


async def test_a_request_is_a_line_of_the_log_where_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "modelyard.gateway"):
        async with client() as http:
            await http.get("/any")
            await http.get("/healthz")
    (line,) = caplog.messages
    assert re.fullmatch(r"GET /any 200 [\d.]+ ms", line)


async def test_a_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await middleware(left)({"type": "http", "method": "POST", "path": "/any", "headers": []}, receive, send)
    assert (sent, caplog.records) == ([], [])


async def test_what_is_not_http_passes() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await middleware(app, api_key="k")({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


async def test_a_request_is_marked_with_who_asked() -> None:
    marks: dict[str, str] = {}

    class Marked(NonRecordingSpan):
        def set_attribute(self, key: str, value: Any) -> None:
            marks[key] = value

    made = Settings()
    app = RequestMiddleware(
        echo,
        made,
        make_security(made, MemoryStore()),
        Intake(),
        standalone=True,
        start_span=lambda *_: Marked(INVALID_SPAN_CONTEXT),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        await http.get("/any")
    assert marks == {CALLER: OPERATOR.mark}


async def slowly(pieces: list[bytes], wait_s: float) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(wait_s)


async def told(app: RequestMiddleware, pieces: list[bytes], *, waits_s: float = 0.0) -> tuple[int, dict[bytes, bytes]]:
    """Return the status and the headers of the answer to a body that comes in pieces and never ends."""
    body, sent = slowly(pieces, waits_s), list[Any]()

    async def receive() -> Any:
        async for piece in body:
            return {"type": "http.request", "body": piece, "more_body": True}
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"1000000")]
    async with asyncio.timeout(5):
        await app({"type": "http", "method": "POST", "path": "/any", "headers": headers}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(("pieces", "wait_s"), [([b"x"], 0.0), ([b"x"] * 100, 0.02)], ids=["stalls", "trickles"])
async def test_a_body_that_does_not_come_holds_no_place(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], wait_s: float
) -> None:
    monkeypatch.setattr(deployments.request_body, "PIECE_S", 0.2)
    intake, made = Intake(), Settings()
    app = RequestMiddleware(answering(echo), made, make_security(made, MemoryStore()), intake, standalone=True)
    status, headers = await told(app, pieces, waits_s=wait_s)
    assert (status, headers[b"connection"], intake.requests) == (408, b"close", 0)


async def test_a_refused_request_with_a_body_to_come_ends_its_connection() -> None:
    status, headers = await told(middleware(echo, api_key="k"), [b"x"])
    assert (status, headers[b"connection"]) == (401, b"close")


async def test_what_comes_after_an_early_answer_is_thrown_away_and_then_the_connection_ends() -> None:
    intake, made = Intake(), Settings(max_body_bytes=1500)
    app = RequestMiddleware(answering(echo), made, make_security(made, MemoryStore()), intake, standalone=True)
    coming, happened = [True, True, True, False], list[Any]()

    async def receive() -> Any:
        happened.append(("read", intake.requests))
        return {"type": "http.request", "body": b"x" * 1000, "more_body": coming.pop(0)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            happened.append(message["status"])
        else:
            happened.append((len(message.get("body", b"")) > 0, message.get("more_body", False)))

    scope = {"type": "http", "method": "POST", "path": "/any", "headers": [(b"transfer-encoding", b"chunked")]}
    await app(scope, receive, send)
    before, after = ("read", 1), ("read", 0)
    assert happened == [before, before, 413, (True, True), after, after, (False, False)]


async def test_a_refused_request_whose_body_has_come_keeps_its_connection() -> None:
    async with client(api_key="k") as http:
        answer = await http.post("/any", content=b"12345")
    assert (answer.status_code, "connection" in answer.headers) == (401, False)


def answering(app: ASGIApp) -> ASGIApp:
    """Answer with the errors that an application raises, as handlers do."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ModelyardError as error:
            await error_response(error)(scope, receive, send)

    return run
