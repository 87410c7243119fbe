"""Which pages and names a service is used by that asks nobody for a key."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from deployments.access.origins import check_origin
from deployments.access.security import make_security
from deployments.intake import Intake
from deployments.middleware import RequestMiddleware
from deployments.settings import Settings
from graph.errors import Forbidden
from graph.stores.memory import MemoryStore


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("", "127.0.0.1:8000"),
        ("", "[::1]:8000"),
        ("", "::1"),
        ("", ""),
        ("", "localhost"),
        ("", "modelyard:8000"),
        ("", "api.localhost.:8000"),
        ("", "gateway.internal"),
        ("http://localhost:3000", "localhost:8000"),
        ("http://[::1]:3000", "localhost:8000"),
    ],
)
def test_own_pages_and_names(origin: str, host: str) -> None:
    check_origin(origin, host, on_loopback=True)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("", "modelyard.models.svc:8000"),
        ("https://modelyard.example", "modelyard.example"),
        ("http://modelyard.example:8000", "Modelyard.example:8000"),
        ("http://localhost:3000", "modelyard.example"),
    ],
)
def test_a_service_on_further_addresses_is_asked_by_any_name(origin: str, host: str) -> None:
    check_origin(origin, host, on_loopback=False)


def test_other_pages_may_not_use_it_either() -> None:
    with pytest.raises(Forbidden):
        check_origin("https://evil.example", "modelyard.example", on_loopback=False)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "127.0.0.1:8000"),
        ("null", "localhost"),
        ("http://localhost.evil.example", "localhost"),
        ("http://127.0.0.1@evil.example", "localhost"),
        ("", "evil.example:8000"),
        ("", "EVIL.example."),
        ("", "localhost.evil.example"),
        ("http://localhost", "evil.example"),
    ],
)
def test_pages_and_names_of_elsewhere(origin: str, host: str) -> None:
    with pytest.raises(Forbidden):
        check_origin(origin, host, on_loopback=True)


@pytest.mark.parametrize("key", [None, "k-1"])
async def test_only_a_service_without_keys_is_kept_from_pages_of_elsewhere(key: str | None) -> None:
    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    settings = Settings(api_key=key)
    app = RequestMiddleware(answers, settings, make_security(settings, MemoryStore()), Intake(), standalone=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        headers = {"origin": "https://evil.example", "authorization": "Bearer k-1"}
        found = await http.post("/v1/nodes/legal/rollback", headers=headers)
        rebound = await http.get("/v1/runs", headers={"host": "evil.example", "authorization": "Bearer k-1"})
    assert (found.status_code, rebound.status_code) == ((403, 403) if key is None else (200, 200))
