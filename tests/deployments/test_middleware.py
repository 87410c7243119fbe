"""The middleware around a bare ASGI application."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.access.security import make_security
from deployments.intake import Intake
from deployments.middleware import RequestMiddleware
from deployments.settings import Settings
from graph.stores.memory import MemoryStore


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
